from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.components import contribute
from pipelines.store.database import store_address
from workbench.embedded.machine import _line
from workbench.errors import SettingsError
from workbench.runtime.process import _inherited
from workbench.sections import LogSettings, is_loopback, variables, without_keys
from workbench.settings import Settings, log_settings

PLAN = {
    "KAFKA_BROKERS": "localhost:9092",
    "KAFKA_USERNAME": "kafka-user",
    "KAFKA_PASSWORD": "kafka-password",
    "KAFKA_SSL_ENABLED": "true",
    "SPARK_MASTER_URL": "yarn",
    "SPARK_EXECUTOR_MEMORY": "2g",
    "SPARK_DRIVER_MEMORY": "1g",
    "DW_HOST": "warehouse.example.com",
    "DW_PORT": "5439",
    "DW_DATABASE": "analytics",
    "DW_USER": "dw-user",
    "DW_PASSWORD": "dw-password",
    "OAUTH2_ENABLED_PROVIDERS": "google,github",
    "OAUTH2_STATE_SECRET": "your-state-secret",
    "GOOGLE_CLIENT_ID": "your-google-client-id",
    "GOOGLE_CLIENT_SECRET": "google-secret",
    "GITHUB_CLIENT_ID": "your-github-client-id",
    "GITHUB_CLIENT_SECRET": "github-secret",
}
TOKENS = {
    "KAFKA_BROKERS": "localhost:9093",
    "KAFKA_USERNAME": "client",
    "KAFKA_PASSWORD": "client-secret",
    "WORKBENCH_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
    "WORKBENCH_KAFKA_TOKEN_URL": "https://login.example.com/token",
}
SECRETS = ("kafka-password", "dw-password", "your-state-secret", "google-secret", "github-secret")


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def problems(monkeypatch: pytest.MonkeyPatch, **values: str) -> str:
    set_all(monkeypatch, values)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    return str(caught.value)


def test_defaults_are_valid_and_configure_nothing_external():
    settings = Settings.load()

    assert settings.kafka.brokers == ()
    assert settings.warehouse.host == ""
    assert settings.warehouse.port == 5439
    assert settings.login.is_demo


def test_every_variable_of_the_plan_is_read(monkeypatch):
    set_all(monkeypatch, PLAN)

    settings = Settings.load()

    assert settings.kafka.brokers == ("localhost:9092",)
    assert settings.spark.master_url == "yarn"
    assert settings.login.providers == ("google", "github")
    assert settings.as_environment() == PLAN


def test_no_secret_is_printed(monkeypatch):
    set_all(monkeypatch, PLAN)

    shown = f"{Settings.load()!r} {Settings.load()}"

    assert not [secret for secret in SECRETS if secret in shown]
    assert "****" in shown


def test_one_error_lists_every_problem(monkeypatch):
    message = problems(
        monkeypatch,
        DW_HOST="warehouse.example.com",
        DW_PORT="99999",
        KAFKA_BROKERS="localhost",
        SPARK_DRIVER_MEMORY="lots",
        OAUTH2_ENABLED_PROVIDERS="google,facebook",
        WORKBENCH_HUB_PROT="1",
    )

    for part in (
        "DW_PORT is '99999'",
        "DW_USER is not",
        "DW_PASSWORD is not",
        "'localhost' is not host:port",
        "SPARK_DRIVER_MEMORY is 'lots'",
        "unknown provider 'facebook'",
        "Did you mean WORKBENCH_HUB_PORT?",
    ):
        assert part in message


def test_a_wrong_secret_is_not_shown(monkeypatch):
    message = problems(
        monkeypatch, WORKBENCH_KAFKA_SASL_MECHANISM="GSSAPI", KAFKA_USERNAME="u", DW_HOST="h", DW_USER="u"
    )

    assert "WORKBENCH_KAFKA_SASL_MECHANISM is 'GSSAPI'" in message


@pytest.mark.parametrize(
    ("values", "part"),
    [
        (
            {"GITHUB_CLIENT_ID": "x", "GITHUB_CLIENT_SECRET": "y", "OAUTH2_STATE_SECRET": "z"},
            "GOOGLE_CLIENT_ID is not set but google is enabled",
        ),
        ({"GITHUB_CLIENT_ID": "x", "OAUTH2_ENABLED_PROVIDERS": "github"}, "OAUTH2_STATE_SECRET is not set"),
        ({"WORKBENCH_HUB_HOST": "0.0.0.0"}, "no identity provider is configured"),
        ({"WORKBENCH_HUB_HOST": "0.0.0.0"}, "which is no address to open"),
        ({"WORKBENCH_HUB_HOST": "10.0.0.1"}, "WORKBENCH_HUB_TLS is off"),
        ({"WORKBENCH_HUB_HOST": "10.0.0.1"}, "WORKBENCH_HUB_SPAWNER is simple, which has no wall"),
        ({"WORKBENCH_HUB_CORS_ORIGINS": "https://*.example.com"}, "is no origin"),
        ({"WORKBENCH_HUB_CORS_ORIGINS": "https://example.com/app"}, "is no origin"),
        ({"WORKBENCH_HUB_TLS": "files"}, "WORKBENCH_HUB_TLS_KEY_FILE is not set"),
        ({"WORKBENCH_HUB_TLS": "acme"}, "Set WORKBENCH_HUB_ACME_MAIL"),
        ({"WORKBENCH_HUB_SPAWNER": "kubernetes"}, "WORKBENCH_HUB_KUBERNETES_IMAGE is not set"),
        ({"WORKBENCH_HUB_MEMORY_LIMITS": "boss=4g"}, "is not role=limit"),
        ({"WORKBENCH_HUB_SUBDOMAINS": "true"}, "a name that has subdomains"),
        ({"WORKBENCH_HUB_PUBLIC_URL": "https://hub.example.com/workbench"}, "has a path"),
        ({"WORKBENCH_LOGIN_DEFAULT_ROLE": "admin"}, "everybody would be"),
        ({"WORKBENCH_LOGIN_GITHUB_URL": "http://github.example.com"}, "is not an https address"),
        ({"WORKBENCH_LOGIN_GOOGLE_GROUPS": "data@example.com"}, "nothing can read them"),
        ({"OAUTH2_ENABLED_PROVIDERS": "oidc"}, "WORKBENCH_LOGIN_OIDC_ISSUER is not set"),
        ({"WORKBENCH_LOGIN_OIDC_SCOPES": "email"}, "lacks openid"),
        ({"WORKBENCH_HUB_CORS_ORIGINS": "*"}, "may not be combined with credentials"),
        ({"WORKBENCH_SPARK_REMOTE": "localhost:15002"}, "is not sc://host:port"),
        ({"OAUTH2_ENABLED_PROVIDERS": ","}, "names no provider"),
        ({"WORKBENCH_KAFKA_CA_FILE": "missing.pem"}, "missing.pem. Give the path"),
        ({"WORKBENCH_KAFKA_CLUSTERS_FILE": "missing.yaml"}, "missing.yaml. See docs/kafka.md"),
        ({"KAFKA_BROKERS": "a:1", "KAFKA_PASSWORD": "p"}, "KAFKA_PASSWORD is set but KAFKA_USERNAME is not"),
        ({"KAFKA_BROKERS": "a:1", "WORKBENCH_KAFKA_SASL_MECHANISM": "PLAIN"}, "but KAFKA_USERNAME is not"),
        ({"KAFKA_BROKERS": "a:1", "WORKBENCH_KAFKA_CERTIFICATE_FILE": "c"}, "but WORKBENCH_KAFKA_KEY_FILE is not"),
        ({"KAFKA_BROKERS": "a:1", "WORKBENCH_KAFKA_KEY_FILE": "k"}, "but WORKBENCH_KAFKA_CERTIFICATE_FILE is not"),
        ({"KAFKA_BROKERS": "a:1", "WORKBENCH_KAFKA_KEY_PASSWORD": "k"}, "but WORKBENCH_KAFKA_KEY_FILE is not"),
        (
            {"KAFKA_BROKERS": "a:1", "KAFKA_SSL_ENABLED": "false", "WORKBENCH_KAFKA_CA_FILE": "ca.pem"},
            "KAFKA_SSL_ENABLED is false but WORKBENCH_KAFKA_CA_FILE is set",
        ),
        (
            {"KAFKA_BROKERS": "a:1", "WORKBENCH_KAFKA_TOKEN_URL": "https://login.example.com"},
            "WORKBENCH_KAFKA_TOKEN_URL: for OAUTHBEARER only",
        ),
        ({**TOKENS, "WORKBENCH_KAFKA_TOKEN_URL": ""}, "OAUTHBEARER but WORKBENCH_KAFKA_TOKEN_URL is not set"),
        ({**TOKENS, "WORKBENCH_KAFKA_TOKEN_URL": "http://login.example.com"}, "is not an https address"),
        ({**TOKENS, "WORKBENCH_KAFKA_TOKEN_URL": "https://me:secret@login.example.com"}, "has a user in it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_contradictions_are_named_with_their_remedy(monkeypatch, values, part):
    assert part in problems(monkeypatch, **values)


@pytest.mark.parametrize("url", ["https://login.example.com/token", "http://127.0.0.1:8080/token"])
def test_tokens_come_over_tls_but_on_loopback(monkeypatch, url):
    set_all(monkeypatch, TOKENS | {"WORKBENCH_KAFKA_TOKEN_URL": url, "WORKBENCH_KAFKA_TOKEN_SCOPE": "kafka"})

    assert Settings.load().kafka.token_url == url


def test_every_contradiction_of_kafka_is_in_one_message(monkeypatch):
    message = problems(
        monkeypatch,
        KAFKA_BROKERS="localhost",
        KAFKA_USERNAME="client",
        WORKBENCH_KAFKA_SASL_MECHANISM="OAUTHBEARER",
        WORKBENCH_KAFKA_KEY_FILE="missing.pem",
        WORKBENCH_KAFKA_KEY_PASSWORD="key-password",
    )

    assert message.startswith("5 problems")
    assert "key-password" not in message


def test_clusters_by_name_do_not_replace_the_embedded_broker(monkeypatch, tmp_path: Path):
    (tmp_path / "clusters.yaml").write_text("clusters: {}")
    monkeypatch.setenv("WORKBENCH_KAFKA_CLUSTERS_FILE", "clusters.yaml")

    assert Settings.load().kafka.clusters_file == tmp_path / "clusters.yaml"


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_an_env_file_that_others_may_write_is_refused(monkeypatch, tmp_path: Path, mode: int):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("DW_HOST=thief.example.com\nWORKBENCH_LOG_LEVEL=debug\n")
    (tmp_path / ".env").chmod(mode)

    assert f"{tmp_path}/.env may be written by others (mode {mode:04o})" in problems(monkeypatch)
    assert log_settings() == LogSettings()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_env_file_of_another_user_is_refused(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("DW_HOST=thief.example.com\n")
    os.chown(tmp_path / ".env", 65534, 65534)

    assert f"{tmp_path}/.env belongs to another user (uid 65534)" in problems(monkeypatch)


def test_environment_wins_over_env_file_which_wins_over_embedded(monkeypatch, tmp_path: Path):
    home = tmp_path / ".workbench"
    (home / "run").mkdir(parents=True)
    (home / "run" / "embedded.env").write_text(
        "KAFKA_BROKERS=localhost:1\nKAFKA_USERNAME=e\nKAFKA_PASSWORD=e\nDW_DATABASE=embedded\nDW_USER=e\n"
    )
    (tmp_path / ".env").write_text("DW_DATABASE=file\nKAFKA_USERNAME=file\nKAFKA_PASSWORD=file\n")
    monkeypatch.setenv("KAFKA_USERNAME", "environment")

    settings = Settings.load()

    assert (settings.kafka.username, settings.warehouse.database, settings.warehouse.user) == (
        "environment",
        "file",
        "e",
    )


def test_home_is_found_from_a_folder_below(monkeypatch, tmp_path: Path):
    (tmp_path / ".workbench").mkdir()
    below = tmp_path / "notebooks" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)

    assert Settings.load().home == tmp_path / ".workbench"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_loopback(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize(("host", "mode"), [("127.0.0.1", "disable"), ("warehouse.example.com", "verify-full")])
def test_the_warehouse_is_encrypted_but_on_loopback(monkeypatch, host, mode):
    set_all(monkeypatch, {"DW_HOST": host, "DW_USER": "u", "DW_PASSWORD": "p"})

    assert Settings.load().warehouse.effective_sslmode == mode


def test_the_store_of_pipelines_is_the_warehouse_unless_it_has_an_address_of_its_own(monkeypatch):
    set_all(monkeypatch, {"DW_HOST": "dw.example.com", "DW_USER": "u", "DW_PASSWORD": "p"})
    assert store_address(Settings.load()) == Settings.load().warehouse

    url = "postgresql://runs:p%40ss-canary@db.example.com/pipelines"
    monkeypatch.setenv("WORKBENCH_PIPELINES_DATABASE_URL", url)
    settings = Settings.load()
    address = store_address(settings)

    assert (address.host, address.port, address.database, address.user) == ("db.example.com", 5432, "pipelines", "runs")
    assert address.password.get_secret_value() == "p@ss-canary"
    assert address.effective_sslmode == "verify-full"
    assert "canary" not in f"{settings!r}{address!r}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:canary@h/d", "is not the address of a database in PostgreSQL"),
        ("postgresql://u:canary@h", "is not the address of a database in PostgreSQL"),
        ("postgresql://u@h/canary", "lacks the role or its password"),
        ("postgresql://u:canary@h:99999/d", "is no address"),
        ("postgresql://u:canary@h/d?sslmode=prefer", "may end in ?sslmode="),
        ("postgresql://u:canary@h/d?sslmode=disable&sslmode=verify-full", "may end in ?sslmode="),
        ("postgresql://u:canary@h/d?options=x", "may end in ?sslmode="),
        ("postgresql://u:canary@h/d?sslmode=disable", "Use verify-full"),
    ],
)
def test_a_wrong_address_of_the_store_is_told_without_its_password(monkeypatch, url, said):
    message = problems(monkeypatch, WORKBENCH_PIPELINES_DATABASE_URL=url)

    assert said in message
    assert "canary" not in message


def test_a_warehouse_that_cannot_hold_runs_needs_a_store_beside_it(monkeypatch):
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_DIALECT", "duckdb")

    with pytest.raises(SettingsError, match="Set WORKBENCH_PIPELINES_DATABASE_URL"):
        store_address(Settings.load())


def test_every_variable_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()

    missing = [
        name for name, section in variables().items() if f"`{name}`" not in page or _meaning(section, name) not in page
    ]

    assert missing == []


def _meaning(section: type, name: str) -> str:
    return next(str(field.description) for field in section.model_fields.values() if field.validation_alias == name)


def test_addresses_of_channels_of_alerts_may_be_in_the_environment(monkeypatch):
    monkeypatch.setenv("WORKBENCH_ALERTS_SLACK_URL", "slack://a/b/c")

    assert Settings.load()


def test_addresses_of_channels_of_alerts_reach_who_sends_them_and_nobody_else(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    monkeypatch.setenv("WORKBENCH_ALERTS_SLACK_URL", "slack://a/b/c")

    launches = {each.name: {**_inherited(), **each.prepare().environment} for each in contribute(Settings.load()).later}

    told = {name for name, variables in launches.items() if "WORKBENCH_ALERTS_SLACK_URL" in variables}
    assert told == {"pipelines-scheduler", "monitor"}
    assert without_keys({"WORKBENCH_ALERTS_X": "secret", "HOME": "/"}) == {"HOME": "/"}


def test_addresses_of_channels_are_not_read_from_a_file_of_settings(tmp_path):
    (tmp_path / ".env").write_text("WORKBENCH_ALERTS_SLACK_URL=slack://a/b/c\n")

    with pytest.raises(SettingsError, match="is an address of alerts, and none is read from") as refused:
        Settings.load()
    assert "Put it into the environment of `workbench up`" in str(refused.value)


@pytest.mark.parametrize("password", ["plain", 'it\'s \\ "quoted" #1 $HOME $(x) `y`', "\\'"])
def test_what_is_written_for_other_processes_is_read_back_as_it_was(tmp_path: Path, password: str):
    (tmp_path / "env").write_text(_line("DW_PASSWORD", password))

    found = Settings.load(embedded=False, env_file=tmp_path / "env")

    assert found.warehouse.password.get_secret_value() == password


def test_what_would_be_read_back_as_a_variable_is_refused_without_its_value():
    with pytest.raises(SettingsError) as caught:
        _line("DW_PASSWORD", "a${HOME}b")

    assert "DW_PASSWORD contains `${`" in str(caught.value)
    assert "HOME" not in str(caught.value)


def test_a_folder_for_all_users_is_no_home(monkeypatch, tmp_path: Path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)

    assert f"WORKBENCH_HOME is {shared}, a folder for all users" in problems(monkeypatch, WORKBENCH_HOME=str(shared))
