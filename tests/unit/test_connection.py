from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.services.certificates import Authority
from tests.services.keysets import make_keys
from workbench.errors import KafkaError, SettingsError
from workbench.ingestion.cluster import handshake
from workbench.ingestion.cluster.client_certificate import check_client_certificate
from workbench.ingestion.cluster.clusters import open_cluster
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.resolving import References
from workbench.sections import KafkaSettings
from workbench.security.kept_secrets import KeptSecrets
from workbench.settings import Settings

PASSWORD = 'hunter2 "and\\more'
SCRAM = KafkaConnection(
    bootstrap_servers=("a:9093", "b:9093"),
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
    username="u",
    password=SecretStr(PASSWORD),
    ca_file="ca.pem",
)
OAUTH = KafkaConnection(
    bootstrap_servers=("a:9093",),
    security_protocol="SASL_SSL",
    sasl_mechanism="OAUTHBEARER",
    username="etl",
    password=SecretStr("secret+1"),
    ca_file="ca.pem",
    token_url="https://login.example.com/token",
    token_scope="kafka read",
    token_ca_file="login.pem",
)


def clusters(folder: Path, text: str) -> Path:
    file = folder / "clusters.yaml"
    file.write_text(f"clusters:\n{text}")
    return file


def problems(file: Path, name: str, **environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        KafkaConnection.named(name, file, references=References(environment))
    return str(caught.value)


# Spelling


def test_scram_is_spelled_for_every_client():
    assert SCRAM.for_confluent() == {
        "bootstrap.servers": "a:9093,b:9093",
        "security.protocol": "SASL_SSL",
        "client.id": "workbench",
        "log_level": 2,
        "ssl.ca.location": "ca.pem",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": PASSWORD,
    }
    assert SCRAM.for_kafka_python() == {
        "bootstrap_servers": ["a:9093", "b:9093"],
        "security_protocol": "SASL_SSL",
        "client_id": "workbench",
        "ssl_cafile": "ca.pem",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "u",
        "sasl_plain_password": PASSWORD,
    }
    login = "org.apache.kafka.common.security.scram.ScramLoginModule"
    assert SCRAM.for_spark() == {
        "kafka.bootstrap.servers": "a:9093,b:9093",
        "kafka.security.protocol": "SASL_SSL",
        "kafka.ssl.truststore.type": "PEM",
        "kafka.ssl.truststore.location": "ca.pem",
        "kafka.sasl.mechanism": "SCRAM-SHA-512",
        "kafka.sasl.jaas.config": f'{login} required username="u" password="hunter2 \\"and\\\\more";',
    }


def test_every_client_gives_the_id_that_quotas_go_by():
    connection = KafkaConnection.from_settings(
        KafkaSettings(KAFKA_BROKERS="a:1", WORKBENCH_KAFKA_CLIENT_ID="data-ingestion-service")
    )

    assert connection.for_confluent()["client.id"] == "data-ingestion-service"
    assert connection.for_kafka_python()["client_id"] == "data-ingestion-service"
    assert connection.for_spark()["kafka.client.id"] == "data-ingestion-service"


def test_the_embedded_broker_may_be_told_a_client_id():
    assert KafkaSettings(WORKBENCH_KAFKA_CLIENT_ID="data-ingestion-service").problems() == []


def test_oauthbearer_is_spelled_for_librdkafka():
    assert OAUTH.for_confluent() == {
        "bootstrap.servers": "a:9093",
        "security.protocol": "SASL_SSL",
        "client.id": "workbench",
        "log_level": 2,
        "ssl.ca.location": "ca.pem",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "etl",
        "sasl.oauthbearer.client.secret": "secret%2B1",
        "sasl.oauthbearer.token.endpoint.url": "https://login.example.com/token",
        "sasl.oauthbearer.scope": "kafka+read",
        "https.ca.location": "login.pem",
    }


def test_oauthbearer_is_spelled_for_java():
    options = OAUTH.for_spark()

    oauth = "org.apache.kafka.common.security.oauthbearer"
    assert options["kafka.sasl.login.callback.handler.class"] == f"{oauth}.OAuthBearerLoginCallbackHandler"
    assert options["kafka.sasl.oauthbearer.token.endpoint.url"] == "https://login.example.com/token"
    assert options["kafka.sasl.jaas.config"] == (
        f'{oauth}.OAuthBearerLoginModule required clientId="etl" clientSecret="secret+1" scope="kafka read" '
        'ssl.truststore.type="PEM" ssl.truststore.location="login.pem";'
    )


def test_librdkafka_trusts_what_python_trusts(monkeypatch, tmp_path):
    authority = Authority(tmp_path, "company").file
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))

    properties = KafkaConnection(bootstrap_servers=("a:1",)).for_confluent()

    assert properties["ssl.ca.location"] == str(authority)


def test_what_is_no_error_of_kafka_is_not_called_one():
    # Rows are handed over within it: a time-out of what they come from is not the cluster's.
    with pytest.raises(TimeoutError, match="of a source of rows"), SCRAM.reported():
        raise TimeoutError("of a source of rows")


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("Fetch from broker 1 failed: Broker: Topic authorization failed", "Read on the topic"),
        ("JoinGroup failed: Broker: Group authorization failed", "Read on the consumer group"),
        ("Broker: Cluster authorization failed", "Describe on the cluster"),
        ("Broker: Transactional Id authorization failed", "Write on the transactional id"),
        ("TopicAuthorizationFailedError: [Error 29] TopicAuthorizationFailedError: t", "Read on the topic"),
    ],
)
def test_a_missing_acl_is_no_outage(said, right):
    error = SCRAM.explain(said)

    assert type(error) is KafkaError
    assert "'u'" in error.message
    assert right in str(error.remedy)


def test_tls_is_the_default():
    assert KafkaConnection(bootstrap_servers=("a:1",)).security_protocol == "SSL"
    assert KafkaConnection.from_settings(KafkaSettings(KAFKA_BROKERS="a:1")).security_protocol == "SSL"


def test_plaintext_has_no_tls_properties():
    settings = KafkaSettings(KAFKA_BROKERS="a:1", KAFKA_SSL_ENABLED="false")

    connection = KafkaConnection.from_settings(settings)

    assert connection.security_protocol == "PLAINTEXT"
    assert not [name for name in connection.for_confluent() if name.startswith("ssl")]


@pytest.mark.parametrize("connection", [SCRAM, OAUTH], ids=["scram", "oauth"])
def test_no_secret_is_in_any_repr(connection):
    secret = connection.password.get_secret_value()
    shown = f"{connection!r} {connection} {connection.for_confluent()} {connection.for_kafka_python()} {connection.for_spark()}"

    assert secret not in shown
    assert repr(secret)[1:-1] not in shown
    assert "****" in shown


# The client's certificate


def test_java_gets_an_open_key_of_pkcs_8(tmp_path):
    pair = Authority(tmp_path, "ca").issue("me", password="sesame")
    connection = with_pair(pair, "sesame")

    options = connection.for_spark()

    key = options["kafka.ssl.keystore.key"]
    assert key.startswith("-----BEGIN PRIVATE KEY-----")  # pragma: allowlist secret
    assert (
        load_pem_private_key(key.encode(), None).public_key()
        == load_pem_private_key(pair.key.read_bytes(), b"sesame").public_key()
    )
    assert options["kafka.ssl.keystore.certificate.chain"].count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE KEY" not in repr(options)


@pytest.mark.parametrize(
    ("password", "given_password", "message"),
    [
        ("sesame", "wrong", "the password is wrong"),
        ("sesame", "", "it is encrypted"),
    ],
)
def test_an_encrypted_key_wants_its_password(tmp_path, password, given_password, message):
    pair = Authority(tmp_path, "ca").issue("me", password=password)

    with pytest.raises(KafkaError, match=message) as caught:
        check_client_certificate(with_pair(pair, given_password))

    assert "WORKBENCH_KAFKA_KEY_PASSWORD" in caught.value.remedy
    assert "wrong" not in caught.value.remedy


def test_a_key_of_another_certificate_is_called_that(tmp_path):
    authority = Authority(tmp_path, "ca")
    mine, other = authority.issue("me"), authority.issue("other")

    with pytest.raises(KafkaError, match="is not the key of the client certificate CN=me"):
        check_client_certificate(with_pair(mine, key_file=str(other.key)))


def test_files_that_are_no_pem_are_called_that(tmp_path):
    pair = Authority(tmp_path, "ca").issue("me")
    text = tmp_path / "text"
    text.write_text("nothing")

    with pytest.raises(KafkaError, match="no PEM certificate"):
        check_client_certificate(with_pair(pair, certificate_file=str(text)))
    with pytest.raises(KafkaError, match="no PEM key"):
        check_client_certificate(with_pair(pair, key_file=str(text)))


def with_pair(pair, password: str = "", **more: str) -> KafkaConnection:
    files = {"certificate_file": str(pair.certificate), "key_file": str(pair.key)} | more
    return KafkaConnection(bootstrap_servers=("a:1",), key_password=SecretStr(password), **files)


# Named clusters


def test_a_named_cluster_takes_its_secrets_from_elsewhere(tmp_path):
    (tmp_path / "secret").write_text("from a file\n")
    (tmp_path / "ca.pem").write_text("")
    file = clusters(
        tmp_path,
        """
  billing:
    brokers: [a:9093, b:9093]
    ca_file: ca.pem
    sasl_mechanism: SCRAM-SHA-256
    username: u
    password: file:secret
  local: {brokers: "c:9092", ssl_enabled: false, username: v, password: "env:LOCAL_PASSWORD"}
""",
    )

    billing = KafkaConnection.named("billing", file)
    local = KafkaConnection.named("local", file, references=References({"LOCAL_PASSWORD": "from a variable"}))

    assert billing.bootstrap_servers == ("a:9093", "b:9093")
    assert billing.password.get_secret_value() == "from a file"
    assert billing.ca_file == str(tmp_path / "ca.pem")
    assert (billing.security_protocol, local.security_protocol) == ("SASL_SSL", "SASL_PLAINTEXT")
    assert local.password.get_secret_value() == "from a variable"


def test_secrets_of_clusters_may_be_in_the_keyset(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    file = clusters(tmp_path, "  kept: {brokers: a:1, username: u, password: 'keyset:kafka-billing'}\n")
    monkeypatch.setenv("WORKBENCH_KAFKA_CLUSTERS_FILE", str(file))
    settings = Settings.load(embedded=False, env_file=tmp_path / "none")
    with pytest.raises(SettingsError, match="the secret keyset:kafka-billing is not there: it is not kept"):
        open_cluster(settings, "kept")

    KeptSecrets.of(settings.home, make_keys(settings.home)).set("kafka-billing", SecretStr("hunter2"))

    connection = open_cluster(settings, "kept")
    assert connection.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(connection)


def test_no_variable_fills_a_gap_of_a_named_cluster(monkeypatch, tmp_path):
    monkeypatch.setenv("KAFKA_USERNAME", "somebody")
    monkeypatch.setenv("KAFKA_PASSWORD", "else")

    assert KafkaConnection.named("one", clusters(tmp_path, "  one: {brokers: a:1}")).username == ""


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=6).filter(
        lambda text: text.strip(" ") != ""
    )
)
def test_a_secret_that_is_written_out_is_refused_and_not_shown(tmp_path_factory, secret):
    literal = f"<{secret}>".replace("'", "''")
    file = clusters(tmp_path_factory.mktemp("literal"), f"  one: {{brokers: a:1, username: u, password: '{literal}'}}")

    message = problems(file, "one")

    assert "password is written out" in message
    assert "env:NAME" in message
    assert literal not in message


def test_a_file_that_is_no_yaml_is_not_quoted(tmp_path):
    message = problems(clusters(tmp_path, "  one: {password: hunter2\n"), "one")

    assert "no YAML in line" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        (
            "{brokers: a:1, username: u, password: 'env:NOT_THERE'}",
            "password: the secret env:NOT_THERE is not there: it is not set",
        ),
        ("{brokers: a:1, username: u, password: 'file:not-there'}", "No such file"),
        ("{brokers: a:1, tls: yes}", "unknown field 'tls'. Known are brokers"),
        ("{username: u, password: 'env:HOME_PASSWORD'}", "brokers is not set"),
        ("{brokers: nowhere}", "'nowhere' is not host:port"),
        ("{brokers: a:1, sasl_mechanism: GSSAPI}", "sasl_mechanism: Input should be 'PLAIN'"),
        ("{brokers: a:1, ca_file: missing.pem}", "missing.pem. Give the path"),
        ("{brokers: a:1, key_file: missing.pem}", "key_file is set but certificate_file is not"),
        ("[a:1]", "it is no mapping"),
    ],
)
def test_what_is_wrong_with_a_named_cluster_is_said(tmp_path, entry, part):
    message = problems(clusters(tmp_path, f"  one: {entry}\n"), "one", HOME_PASSWORD="x")

    assert part in message
    assert f"{tmp_path / 'clusters.yaml'}: cluster one: " in message


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    assert "Known are one, two" in problems(clusters(tmp_path, "  one: {brokers: a:1}\n  two: {brokers: a:1}\n"), "ten")


def test_a_missing_file_is_named(tmp_path):
    assert "WORKBENCH_KAFKA_CLUSTERS_FILE" in problems(tmp_path / "none.yaml", "one")


# What brokers answer


@given(st.binary(max_size=40))
def test_no_answer_of_a_broker_breaks_the_probe(answer):
    assert isinstance(handshake.mechanisms(answer), str)


def test_the_mechanisms_of_an_answer_are_read():
    answer = b"\0\0\0\x02" + b"\0\x21" + b"\0\0\0\x02" + b"\0\x05PLAIN" + b"\0\x0bOAUTHBEARER"

    assert handshake.mechanisms(answer) == "PLAIN, OAUTHBEARER"
    assert handshake.mechanisms(b"\0\0\0\x02\0\x22\0\0\0\0") == ""
