"""Which properties a Spark server starts with, where clusters are looked for, and what their refusals mean."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from workbench.embedded import clusters, profiles
from workbench.embedded.java import find_java
from workbench.embedded.spark import SparkConnectServer
from workbench.embedded.spark_check import hops
from workbench.errors import ClusterError
from workbench.sections import HubSettings, SparkSettings

STANDALONE = {"SPARK_MASTER_URL": "spark://host:7077", "WORKBENCH_SPARK_SECRET": "abc"}
KUBERNETES = {"SPARK_MASTER_URL": "k8s://https://host:6443", "WORKBENCH_SPARK_KUBERNETES_IMAGE": "spark:4.2"}


def read(name: str = "", **variables: object) -> profiles.Profile:
    return profiles.read_profile(SparkSettings(**variables), name)


@pytest.mark.parametrize(
    ("variables", "name", "master"),
    [
        ({}, "local", "local[*]"),
        ({"SPARK_MASTER_URL": "local[1]"}, "local", "local[1]"),
        ({"WORKBENCH_SPARK_PROFILE": "yarn"}, "yarn", "yarn"),
        ({"SPARK_MASTER_URL": "yarn"}, "yarn", "yarn"),
        (STANDALONE, "standalone", "spark://host:7077"),
        (KUBERNETES, "kubernetes", "k8s://https://host:6443"),
    ],
)
def test_one_setting_chooses_and_the_master_follows(variables, name, master):
    profile = read(**variables)

    assert (profile.name, profile.kind, profile.master_url) == (name, name, master)
    assert profile.values["spark.master"] == master
    assert profile.values["spark.io.encryption.keySizeBits"] == "256"


def test_a_profile_that_is_asked_for_by_name_wins_over_the_master_of_the_settings():
    assert read("local", **STANDALONE).master_url == "local[*]"
    assert read("yarn", **STANDALONE).master_url == "yarn"
    with pytest.raises(ClusterError, match="needs the address of its master"):
        read("kubernetes", **STANDALONE)


def test_every_cluster_encrypts_what_is_sent():
    for variables in (STANDALONE, KUBERNETES, {"SPARK_MASTER_URL": "yarn"}):
        found = hops({**read(**variables).values, "spark.connect.grpc.binding.address": "127.0.0.1"})

        assert all(hop.is_safe for hop in found), found
        assert "AES-GCM" in found[1].detail


def test_what_is_not_encrypted_has_a_remedy():
    conf = {"spark.master": "yarn", "spark.connect.grpc.binding.address": "0.0.0.0", "spark.authenticate": "true"}

    found = hops(conf)

    assert [hop.is_safe for hop in found] == [False] * 4
    assert all(hop.remedy for hop in found)
    assert "spark.network.crypto.cipher AES/GCM/NoPadding" in found[1].detail
    assert "spark.authenticate true" not in found[1].detail


def test_a_profile_of_ones_own_says_only_what_is_different(tmp_path: Path):
    (tmp_path / "nightly.conf").write_text("spark.master yarn\nspark.executor.instances 20\nspark.executor.cores=4\n")
    (tmp_path / "base.conf").write_text("spark.sql.session.timeZone Europe/Berlin\n")

    profile = read("nightly", WORKBENCH_SPARK_CONF_FOLDER=tmp_path)

    assert (profile.kind, profile.master_url) == ("yarn", "yarn")
    assert profile.values["spark.executor.instances"] == "20"
    assert profile.values["spark.executor.cores"] == "4"
    assert profile.values["spark.network.crypto.enabled"] == "true"
    assert profile.values["spark.sql.session.timeZone"] == "Europe/Berlin"


def test_memory_and_name_of_a_profile_hold_until_the_variable_is_set(tmp_path: Path):
    (tmp_path / "yarn.conf").write_text("spark.executor.memory 8g\nspark.driver.memory 3g\nspark.app.name nightly\n")
    found = {"SPARK_MASTER_URL": "yarn", "WORKBENCH_SPARK_CONF_FOLDER": tmp_path}

    assert read(**found).values["spark.executor.memory"] == "8g"
    assert read(**found).values["spark.driver.memory"] == "3g"
    assert read(**found).values["spark.app.name"] == "nightly"
    assert read(**found, SPARK_EXECUTOR_MEMORY="1g").values["spark.executor.memory"] == "1g"
    assert read(**found, WORKBENCH_SPARK_APP_NAME="hourly").values["spark.app.name"] == "hourly"
    assert read().values["spark.app.name"] == "workbench-spark"


@pytest.mark.parametrize("name", ["yran", "base", "../base", "", "a/b"])
def test_an_unknown_profile_names_the_known_ones_and_the_folder(name):
    with pytest.raises(ClusterError, match="known are kubernetes, local, standalone, yarn") as caught:
        profiles.read_profile(SparkSettings(WORKBENCH_SPARK_PROFILE=name or "x"), name)

    assert "spark_conf" in str(caught.value)


def test_how_many_executors_depends_on_the_cluster():
    most = {"WORKBENCH_SPARK_MAX_EXECUTORS": 3}
    standalone, yarn = read(**STANDALONE, **most).own, read(SPARK_MASTER_URL="yarn", **most).own
    dynamic = read(SPARK_MASTER_URL="yarn", WORKBENCH_SPARK_DYNAMIC_ALLOCATION=True, **most).own

    assert standalone["spark.cores.max"] == "6"
    assert yarn["spark.executor.instances"] == "3"
    assert dynamic["spark.dynamicAllocation.maxExecutors"] == "3"
    assert dynamic["spark.dynamicAllocation.shuffleTracking.enabled"] == "true"
    assert "spark.executor.instances" not in dynamic


def test_an_external_shuffle_service_needs_no_tracking(tmp_path: Path):
    (tmp_path / "yarn.conf").write_text("spark.shuffle.service.enabled true\n")
    variables = {"SPARK_MASTER_URL": "yarn", "WORKBENCH_SPARK_CONF_FOLDER": tmp_path}

    own = read(**variables, WORKBENCH_SPARK_DYNAMIC_ALLOCATION=True).own

    assert "spark.dynamicAllocation.shuffleTracking.enabled" not in own


def test_queue_python_and_secret_go_where_they_belong():
    found = {"WORKBENCH_SPARK_QUEUE": "q", "WORKBENCH_SPARK_PYTHON": "/opt/python"}
    yarn = read(SPARK_MASTER_URL="yarn", WORKBENCH_SPARK_SECRET="abc", **found)
    local = read(WORKBENCH_SPARK_SECRET="abc", **found)

    assert yarn.own["spark.yarn.queue"] == "q"
    assert yarn.own["spark.pyspark.python"] == "/opt/python"
    assert "spark.authenticate.secret" not in {**yarn.own, **local.own}
    assert "abc" not in repr(read(**STANDALONE))


@pytest.mark.parametrize("secret", ["a\\b", " leading", "tab\tand\nline", "plain#!=:ü"])
def test_any_secret_is_written_as_java_reads_it(secret):
    text = read(**{**STANDALONE, "WORKBENCH_SPARK_SECRET": secret}).render({})
    line = next(line for line in text.splitlines() if line.startswith("spark.authenticate.secret "))
    value = line.removeprefix("spark.authenticate.secret ").removeprefix("\\ " if secret[0] == " " else "")
    read_back = value.replace("\\\\", "\0").replace("\\n", "\n").replace("\\t", "\t").replace("\0", "\\")

    assert (" " if secret[0] == " " else "") + read_back == secret


def test_addresses_of_yarn_those_of_high_availability_too():
    several = {
        "yarn.resourcemanager.ha.rm-ids": "one, two",
        "yarn.resourcemanager.hostname.one": "a",
        "yarn.resourcemanager.address.two": "b:9",
    }

    assert clusters.resource_managers({"yarn.resourcemanager.hostname": "a"}) == [clusters.Address("a", 8032)]
    assert clusters.resource_managers(several) == [clusters.Address("a", 8032), clusters.Address("b", 9)]
    assert clusters.resource_managers({"yarn.resourcemanager.address": "0.0.0.0:8032"}) == []


def test_a_site_file_that_is_no_xml_is_named(tmp_path: Path):
    (tmp_path / "yarn-site.xml").write_text("<configuration>")

    with pytest.raises(ClusterError, match=r"yarn-site\.xml cannot be read"):
        clusters.read_site(tmp_path / "yarn-site.xml")


def test_only_what_was_logged_since_the_last_start_counts(tmp_path: Path):
    path = tmp_path / "spark.log"
    path.write_text("All masters are unresponsive! Giving up\n")
    log = clusters.StartLog(path)
    log.mark()
    with path.open("a") as file:
        file.write("started\n")

    assert log.text() == "started\n"
    assert clusters.find_refusal(log.text(), read()) is None


def test_the_spark_of_a_role_is_told_by_ordinary_variables():
    hub = HubSettings(
        WORKBENCH_HUB_SPARK_QUEUES="analyst=adhoc", WORKBENCH_HUB_SPARK_EXECUTORS="analyst=2,engineer=8",
        WORKBENCH_HUB_SPARK_MEMORY="engineer=4g",
    )  # fmt: skip

    assert hub.spark_environment("analyst") == {"WORKBENCH_SPARK_QUEUE": "adhoc", "WORKBENCH_SPARK_MAX_EXECUTORS": "2"}
    assert hub.spark_environment("engineer") == {"WORKBENCH_SPARK_MAX_EXECUTORS": "8", "SPARK_EXECUTOR_MEMORY": "4g"}
    assert hub.spark_environment("viewer") == {}
    assert HubSettings(WORKBENCH_HUB_SPARK_EXECUTORS="analyst=none").problems()
    assert HubSettings(WORKBENCH_HUB_SPARK_MEMORY="analyst=2").problems()


def test_profiles_of_ones_own_are_copied_for_users_behind_a_wall(tmp_path: Path):
    from hub.spawning.environment import _share

    own = tmp_path / "own"
    own.mkdir()
    (own / "nightly.conf").write_text("spark.master yarn\n")

    copy = _share(own, tmp_path / "shared")

    assert (copy / "nightly.conf").read_text() == "spark.master yarn\n"
    assert stat.S_IMODE((copy / "nightly.conf").stat().st_mode) == 0o644


def make_server(folder: Path, jars: list[Path], **variables: str) -> SparkConnectServer:
    return SparkConnectServer(
        name="spark", folder=folder, log=folder / "log", lock=folder / "lock", java=find_java(), jars=jars,
        port=1, token="t", profile=read(**variables), start_log=clusters.StartLog(folder / "log"),
    )  # fmt: skip


def test_an_application_has_the_name_of_the_settings(tmp_path: Path):
    server = make_server(tmp_path, [], WORKBENCH_SPARK_APP_NAME="data-transformation-service")

    argv = server.prepare().argv

    assert argv[argv.index("--name") + 1] == "data-transformation-service"


def test_an_archive_of_classes_that_is_cut_short_is_not_given_to_the_jvm(tmp_path: Path):
    jar = tmp_path / "jars" / "spark" / "a.jar"
    jar.parent.mkdir(parents=True)
    server = make_server(tmp_path, [jar])
    archive = tmp_path / "jars" / f"{server.archive_name}-5.jsa"
    archive.write_bytes(b"whole")

    assert f"-XX:SharedArchiveFile={archive}" in server.prepare().argv
    archive.write_bytes(b"cut")
    assert not any("SharedArchive" in each for each in server.prepare().argv)


def test_the_variables_of_a_former_role_do_not_stay():
    from hub.spawning.limits import set_limits

    hub = HubSettings(WORKBENCH_HUB_SPARK_QUEUES="analyst=adhoc")
    spawner = SimpleNamespace(environment={"WORKBENCH_SPARK_QUEUE": "common", "LANG": "C.UTF-8"})

    set_limits(hub, "analyst", spawner)
    assert spawner.environment == {"WORKBENCH_SPARK_QUEUE": "adhoc", "LANG": "C.UTF-8"}
    set_limits(hub, "engineer", spawner)
    assert spawner.environment == {"WORKBENCH_SPARK_QUEUE": "common", "LANG": "C.UTF-8"}
