"""What the embedded broker is told of folders, whatever they are called; no server."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.embedded.java import Java, file_names
from workbench.embedded.kafka import KafkaBroker, in_properties
from workbench.errors import DataFolderError


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/srv/work bench", "/srv/work bench"),
        ("/srv/Téléchargements/文", "/srv/T\\u00e9l\\u00e9chargements/\\u6587"),
        ("/srv/a\\b", "/srv/a\\\\b"),
        ("/srv/🙂", "/srv/\\ud83d\\ude42"),
    ],
)
def test_a_path_is_written_as_java_reads_it(path, written):
    assert in_properties(Path(path)) == written


@pytest.mark.parametrize("name", ["a,b", "a:b"])
def test_a_home_that_kafka_takes_for_two_is_refused_before_anything_is_written(tmp_path, name, monkeypatch):
    home = tmp_path / name
    monkeypatch.setattr(KafkaBroker, "ensure_certificates", lambda self: None)
    broker = KafkaBroker(home=home, java=Java(Path("/bin/false"), 17), jars=(), port=1, controller_port=2)

    with pytest.raises(DataFolderError, match="more than one folder, because of"):
        broker.prepare()

    assert not (home / "kafka" / "data").exists()


@pytest.mark.parametrize(
    ("environment", "added"),
    [
        ({}, {"LC_ALL": "C.UTF-8"}),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, {"LC_ALL": "C.UTF-8"}),
        ({"LANG": "de_DE.UTF-8"}, {}),
        ({"LC_CTYPE": "C.utf8"}, {}),
        ({"LANG": "de_DE.UTF-8@euro", "LC_ALL": ""}, {}),
    ],
)
def test_java_has_a_locale_that_names_every_file(environment, added):
    assert file_names(environment) == added
