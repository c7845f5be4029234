from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.services import java_client
from tests.services.certificates import Authority, Pair
from tests.services.kafka_cluster import PASSWORD, USER, KafkaCluster, running_cluster, ways_in
from tests.services.workbench import wait_until
from workbench.errors import KafkaError
from workbench.ingestion.cluster.broker_certificate import take_certificate
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.runtime.ports import any_free
from workbench.security import certificates
from workbench.security.certificates import ensure_certificates

PASSWORD_PART = PASSWORD.rpartition("\\")[2]  # looks the same however the rest is escaped
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@pytest.fixture
def connection(settings) -> KafkaConnection:
    """The embedded broker of a running workbench."""
    return KafkaConnection.from_settings(settings.kafka)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A broker with a listener for each way to be let in, and to be refused."""
    folder = tmp_path_factory.mktemp("cluster")
    authority = Authority(folder, "authority")
    with running_cluster(folder / "kafka", authority, ways_in(authority)) as running:
        yield running


def to(cluster: KafkaCluster, listener: str, pair: Pair | None = None, **more: object) -> KafkaConnection:
    files = {"certificate_file": str(pair.certificate), "key_file": str(pair.key)} if pair else {}
    values = {"bootstrap_servers": (cluster.address(listener),), "ca_file": str(cluster.authority.file)}
    return KafkaConnection(**(values | files | more))


def with_login(mechanism: str, password: str = PASSWORD) -> dict[str, object]:
    return {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": mechanism,
        "username": USER,
        "password": SecretStr(password),
    }


def refusal(connection: KafkaConnection) -> KafkaError:
    with pytest.raises(KafkaError) as caught:
        connection.check()
    assert PASSWORD not in str(caught.value)
    return caught.value


@contextmanager
def connected(connection: KafkaConnection) -> Iterator[Callable[[], bool]]:
    """A client that holds a connection to the broker, and whether it still has the same one."""
    from confluent_kafka.admin import AdminClient

    ended: list[object] = []
    client = AdminClient({**connection.for_confluent(), "error_cb": ended.append})
    assert client.list_topics(timeout=20).brokers
    yield lambda: bool(client.list_topics(timeout=20).brokers) and not client.poll(0) and not ended


def topics_by_kafka_python(connection: KafkaConnection) -> list[str]:
    from kafka.admin import KafkaAdminClient

    client = KafkaAdminClient(**connection.for_kafka_python())
    try:
        return client.list_topics()
    finally:
        client.close()


# The embedded broker


def test_the_embedded_broker_speaks_tls_and_scram(connection):
    assert connection.security_protocol == "SASL_SSL"
    assert connection.sasl_mechanism == "SCRAM-SHA-512"
    assert connection.check()


def test_the_embedded_broker_shows_a_new_certificate_and_connections_stay(settings, connection, monkeypatch):
    monkeypatch.setattr(certificates, "RENEW_BEFORE_DAYS", certificates.SERVER_DAYS + 1)
    address = ("127.0.0.1", int(connection.bootstrap_servers[0].rpartition(":")[2]))

    def shown() -> bytes:
        return ssl.get_server_certificate(address).encode()

    with connected(connection) as is_connected:
        before = shown()

        server = ensure_certificates(Path(connection.ca_file).parent).server
        take_certificate(connection, address, server)  # unless its supervisor has done so before

        # The broker's threads take it one after the other.
        wait_until(lambda: all(shown() in server.read_bytes() for _ in range(9)), 20, "all threads to show it")
        assert shown() != before
        assert not take_certificate(connection, address, server)
        assert is_connected()
    connection.check()


def test_a_wrong_password_is_called_one(connection):
    error = refusal(replace(connection, password=SecretStr("wrong-password")))

    assert "refused the user 'workbench' or its password" in error.message
    assert "KAFKA_PASSWORD" in error.remedy
    assert "wrong-password" not in str(error)


def test_an_untrusted_authority_is_called_one(connection, tmp_path):
    other = ensure_certificates(tmp_path)

    error = refusal(replace(connection, ca_file=str(other.authority)))

    assert "is not trusted" in error.message
    assert "WORKBENCH_KAFKA_CA_FILE" in error.remedy


def test_no_client_gets_in_without_a_password(connection):
    error = refusal(replace(connection, security_protocol="SSL", username="", sasl_mechanism=""))

    assert "wants a login (SCRAM-SHA-512)" in error.message


def test_both_clients_get_in(connection):
    assert connection.check()
    assert isinstance(topics_by_kafka_python(connection), list)


# Who gets in


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_lets_both_clients_in(cluster, mechanism):
    connection = to(cluster, "passwords", **with_login(mechanism))

    assert connection.check()
    assert topics_by_kafka_python(connection) == []


@pytest.mark.parametrize("password", ["", "sesame"], ids=["open key", "encrypted key"])
def test_a_client_certificate_lets_both_clients_in(cluster, password):
    pair = cluster.authority.issue(f"client-{password}", password=password)
    connection = to(cluster, "mutual", pair, key_password=SecretStr(password))

    assert connection.check()
    assert topics_by_kafka_python(connection) == []


def test_the_java_client_of_spark_gets_in_with_a_password(cluster):
    connection = to(cluster, "passwords", **with_login("PLAIN"))

    assert java_client.cluster_id(connection.for_spark()) == connection.check()


def test_the_java_client_of_spark_gets_in_with_an_encrypted_key(cluster):
    pair = cluster.authority.issue("spark", password="sesame")
    connection = to(cluster, "mutual", pair, key_password=SecretStr("sesame"))

    assert java_client.cluster_id(connection.for_spark()) == connection.check()


def test_plaintext_works_when_it_is_asked_for(cluster):
    assert to(cluster, "plaintext", security_protocol="PLAINTEXT").check()


# Who does not, and what they are told


def test_an_expired_broker_certificate_is_called_expired(cluster):
    error = refusal(to(cluster, "expired"))

    assert f"the certificate of Kafka at {cluster.address('expired')} expired on " in error.message
    assert "renew" in error.remedy


def test_a_certificate_of_another_host_is_called_that(cluster):
    error = refusal(to(cluster, "elsewhere"))

    assert "is for another host" in error.message
    assert "localhost" in error.message
    assert "KAFKA_BROKERS" in error.remedy


def test_an_authority_that_is_not_trusted_is_named(cluster, tmp_path):
    error = refusal(to(cluster, "tls", ca_file=str(Authority(tmp_path, "other").file)))

    assert "is not trusted (signed by CN=authority)" in error.message


def test_the_systems_authorities_do_not_trust_the_cluster(cluster):
    assert "is not trusted" in refusal(to(cluster, "tls", ca_file="")).message


def test_a_missing_client_certificate_is_called_missing(cluster):
    error = refusal(to(cluster, "mutual"))

    assert "wants a client certificate, and none is configured" in error.message
    assert "WORKBENCH_KAFKA_CERTIFICATE_FILE" in error.remedy


def test_a_client_certificate_of_a_stranger_is_refused(cluster, tmp_path):
    error = refusal(to(cluster, "mutual", Authority(tmp_path, "other").issue("stranger")))

    assert "refused our client certificate" in error.message


def test_an_expired_client_certificate_is_called_expired(cluster):
    error = refusal(to(cluster, "mutual", cluster.authority.issue("old", days=-2)))

    assert "our client certificate CN=old expired on " in error.message


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_calls_a_wrong_password_one(cluster, mechanism):
    error = refusal(to(cluster, "passwords", **with_login(mechanism, "wrong")))

    assert f"refused the user {USER!r} or its password ({mechanism})" in error.message


def test_a_mechanism_that_is_not_offered_is_called_that(cluster):
    error = refusal(to(cluster, "scram", **with_login("PLAIN")))

    assert "does not offer PLAIN, but SCRAM-SHA-512" in error.message


def test_a_login_where_none_is_taken_is_called_that(cluster):
    assert "takes no login on this port" in refusal(to(cluster, "tls", **with_login("PLAIN"))).message


def test_tls_to_a_plaintext_listener_is_called_that(cluster):
    error = refusal(to(cluster, "plaintext"))

    assert "does not speak TLS" in error.message
    assert "KAFKA_SSL_ENABLED" in error.remedy


def test_plaintext_to_a_tls_listener_is_called_that(cluster):
    error = refusal(to(cluster, "tls", security_protocol="PLAINTEXT"))

    assert "speaks TLS" in error.message


def test_a_port_that_speaks_something_else_is_called_that(cluster):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        error = refusal(to(cluster, "tls", bootstrap_servers=(f"127.0.0.1:{server.server_port}",)))

        server.shutdown()
    assert "does not speak TLS" in error.message


def test_a_silent_address_is_called_one(cluster):
    error = refusal(to(cluster, "tls", bootstrap_servers=(f"localhost:{any_free()}",)))

    assert "did not answer" in error.message
    assert "Connection refused" in error.message


def test_a_named_cluster_is_told_the_names_of_its_own_fields(cluster):
    error = refusal(replace(to(cluster, "mutual"), cluster="billing"))

    assert "`certificate_file` of cluster billing" in error.remedy


def test_kafka_pythons_errors_say_the_cause(cluster):
    connection = to(cluster, "expired")

    from kafka.errors import KafkaTimeoutError

    with pytest.raises(KafkaError, match="expired on"), connection.reported():
        raise KafkaTimeoutError("Unable to bootstrap")


def test_no_password_is_in_the_debug_log_of_kafka_python(cluster, caplog):
    with caplog.at_level(logging.DEBUG):
        topics_by_kafka_python(to(cluster, "passwords", **with_login("PLAIN")))

    assert "Starting KafkaAdminClient" in caplog.text
    assert "MetadataRequest" in caplog.text
    assert PASSWORD_PART not in caplog.text
