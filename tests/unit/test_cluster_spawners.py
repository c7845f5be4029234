"""The spawners for systemd and Kubernetes: what is refused at start, the properties of units, the unit of the hub."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from traitlets.config import Config

from hub.spawning import systemd
from hub.spawning.clusters import require, set_kubernetes, set_systemd
from hub.spawning.kubernetes import FILES, literal, pod_environment
from hub.spawning.limits import ServerLimits
from hub.spawning.systemd import unit_properties
from workbench.errors import SettingsError
from workbench.settings import Settings

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "workbench.service"
EXTERNAL = {
    "KAFKA_BROKERS": "kafka.example.com:9093",
    "DW_HOST": "warehouse.example.com",
    "DW_USER": "u",
    "DW_PASSWORD": "p",
    "WORKBENCH_HUB_SPAWNER": "kubernetes",
    "WORKBENCH_HUB_KUBERNETES_IMAGE": "registry.example.com/workbench:1",
}
HARDENING = {
    "NoNewPrivileges": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectHome": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "SystemCallArchitectures": "native",
    "LimitCORE": "0",
    "StateDirectoryMode": "0700",
}
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")


class ManyValues(dict):
    """What a unit file means by a key that is there twice: the values together."""

    def __setitem__(self, key, value):
        if key in self and isinstance(value, list) and isinstance(self[key], list):
            value = [*self[key], *value]
        super().__setitem__(key, value)


@pytest.fixture
def given(tmp_path, monkeypatch):
    def give(**variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Settings.load()

    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    return give


def read_unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(
        strict=False, dict_type=ManyValues, delimiters=("=",), comment_prefixes=("#",)
    )
    parser.optionxform = str
    parser.read(UNIT)
    return parser


def verify(unit: Path) -> str:
    """What `systemd-analyze verify` complains about."""
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    return done.stderr


def test_a_package_that_is_not_installed_is_named_with_its_remedy():
    require("kubespawner", "kubernetes")

    with pytest.raises(SettingsError, match=r"make setup`, or install the extra `kubernetes`"):
        require("no_such_module", "kubernetes")


def test_pods_with_data_elsewhere_are_accepted(given):
    settings = given(**EXTERNAL)
    c = Config()

    set_kubernetes(c, settings)

    assert c.JupyterHub.spawner_class == "kubespawner.KubeSpawner"
    assert c.JupyterHub.hub_bind_url == "http://0.0.0.0:8081"


def test_pods_know_the_page_of_pipelines_where_somebody_says_it(given):
    name, page = "WORKBENCH_PIPELINES_SERVICE_URL", "https://hub.example.com/services/pipelines/"

    assert name not in pod_environment(given(**EXTERNAL))
    assert pod_environment(given(**EXTERNAL, **{name: page}))[name] == page


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"KAFKA_BROKERS": ""}, "KAFKA_BROKERS"),
        ({"DW_HOST": "", "DW_USER": "", "DW_PASSWORD": ""}, "DW_HOST"),
        ({"DW_HOST": "", "DW_USER": "", "DW_PASSWORD": "", "WORKBENCH_WAREHOUSE_DIALECT": "duckdb"}, "DuckDB"),
        ({"WORKBENCH_HUB_PROCESS_LIMITS": "analyst=100"}, "podPidsLimit"),
    ],
)
def test_what_pods_cannot_have_is_refused_with_its_remedy(given, change, word):
    settings = given(**{**EXTERNAL, **change})

    with pytest.raises(SettingsError, match=word) as refused:
        set_kubernetes(Config(), settings)

    assert len(refused.value.problems) == 1


def test_a_server_that_was_started_here_counts_as_embedded(given):
    given(**EXTERNAL)
    os.environ.pop("KAFKA_BROKERS")
    run = Path(os.environ["WORKBENCH_HOME"]) / "run"
    run.mkdir(parents=True)
    (run / "embedded.env").write_text("KAFKA_BROKERS='localhost:9092'\n")

    with pytest.raises(SettingsError, match="KAFKA_BROKERS"):
        set_kubernetes(Config(), Settings.load())


def test_a_file_that_no_pod_has_is_refused(given, tmp_path):
    authority = tmp_path / "ca.pem"
    authority.touch()
    settings = given(**EXTERNAL, WORKBENCH_KAFKA_CA_FILE=str(authority))

    with pytest.raises(SettingsError, match=f"{FILES}/ca.pem"):
        set_kubernetes(Config(), settings)


@pytest.mark.parametrize(
    ("value", "written"), [("a", "a"), ("{a}", "{{a}}"), ("$(A)", "$$(A)"), ("$$(A)", "$$$(A)"), ("$A", "$A")]
)
def test_values_are_not_expanded(value, written):
    assert literal(value) == written


def test_units_are_refused_where_systemd_does_not_run(given, tmp_path, monkeypatch):
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / "absent")
    settings = given()

    with pytest.raises(SettingsError, match="systemd does not run here"):
        set_systemd(Config(), settings)


def test_a_program_that_units_cannot_see_is_refused(given, tmp_path, monkeypatch):
    monkeypatch.setattr(systemd, "CLOSED", (Path(systemd.sys.prefix).parent,))
    settings = given()

    with pytest.raises(SettingsError, match="Install the workbench elsewhere"):
        set_systemd(Config(), settings)


def test_units_see_of_the_workbench_their_home_and_what_is_shared(given):
    settings = given()
    home = settings.home / "users" / "gh-octo"

    properties = unit_properties(home, settings, ServerLimits())

    assert properties["TemporaryFileSystem"].partition(":")[0] == str(settings.home)
    assert properties["BindPaths"] == str(home)
    assert properties["BindReadOnlyPaths"] == f"-{settings.home / 'shared'}"


def test_limits_of_a_unit_count_swap_and_processes(given):
    settings = given()

    none = unit_properties(settings.home, settings, ServerLimits())
    some = unit_properties(settings.home, settings, ServerLimits(memory_bytes=2**30, processes=100))

    assert not {"MemorySwapMax", "TasksMax"} & set(none)
    assert (some["MemorySwapMax"], some["TasksMax"]) == ("0", "100")


@needs_systemd
def test_systemd_knows_every_property_and_its_value(given, tmp_path):
    settings = given()
    properties = unit_properties(settings.home, settings, ServerLimits(memory_bytes=2**30, processes=100))
    part_of = properties.pop("PartOf")
    lines = [f"{name}={value}" for name, value in properties.items()]
    unit = tmp_path / "workbench-user-1.service"
    text = "\n".join(["[Unit]", f"PartOf={part_of}", "[Service]", "ExecStart=/bin/true", *lines, ""])

    unit.write_text(text)
    assert verify(unit) == ""

    unit.write_text(f"{text}ProtectNothing=yes\n")
    assert "ProtectNothing" in verify(unit)


def test_the_unit_of_the_hub_is_hardened():
    service = read_unit()["Service"]

    assert {name: service.get(name) for name in HARDENING} == HARDENING
    assert "CAP_SYS_MODULE" not in service["CapabilityBoundingSet"]
    assert service["SystemCallFilter"] == "@system-service @mount"


def test_the_unit_of_the_hub_is_the_one_that_users_units_belong_to():
    assert UNIT.name == systemd.HUB_UNIT
    assert read_unit()["Service"]["ExecStart"].endswith("/workbench up")


@needs_systemd
def test_systemd_understands_the_unit_of_the_hub(tmp_path):
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/workbench/.venv/bin/workbench", "/bin/true"))

    assert verify(copy) == ""
