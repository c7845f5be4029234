"""What the monitor finds out of this machine."""

from __future__ import annotations

from pipelines.monitor.own import Machine
from tests.services.certificates import Authority
from workbench.observability import metrics
from workbench.settings import Settings


def expiries():
    (family,) = metrics.CERTIFICATE_EXPIRY.collect()
    return {sample.labels["certificate"]: sample.value for sample in family.samples}


def test_a_certificate_that_cannot_be_read_keeps_its_last_end_and_takes_no_others_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "keys" / "hub"
    folder.mkdir(parents=True)
    pem = Authority(tmp_path, "authority").file.read_bytes()
    for name in ("a", "b"):
        (folder / f"{name}.pem").write_bytes(pem)
    machine = Machine(Settings.load())
    machine.look()
    before = expiries()

    (folder / "a.pem").write_text("broken")
    (folder / "c.pem").write_text("broken")
    machine.look()

    assert set(before) == {"hub-a", "hub-b"}
    assert expiries() == before
