from __future__ import annotations

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from workbench.embedded.certificates import ensure_certificates
from workbench.errors import KafkaError
from workbench.ingestion.connection import KafkaConnection
from workbench.runtime.ports import any_free


@pytest.fixture
def connection(settings) -> KafkaConnection:
    return KafkaConnection.from_settings(settings.kafka)


def test_the_embedded_broker_speaks_tls_and_scram(connection):
    assert connection.security_protocol == "SASL_SSL"
    assert connection.sasl_mechanism == "SCRAM-SHA-512"
    assert connection.check()


def test_a_wrong_password_is_called_one(connection):
    with pytest.raises(KafkaError, match="refused the user 'workbench' or its password") as caught:
        replace(connection, password="wrong-password").check()

    assert "KAFKA_PASSWORD" in caught.value.remedy
    assert "wrong-password" not in str(caught.value)


def test_an_untrusted_authority_is_called_one(connection, tmp_path):
    other = ensure_certificates(tmp_path)

    with pytest.raises(KafkaError, match="is not trusted"):
        replace(connection, ca_file=str(other.authority)).check()


def test_a_silent_address_is_called_one(connection):
    with pytest.raises(KafkaError, match="did not answer"):
        replace(connection, bootstrap_servers=(f"localhost:{any_free()}",)).check()


def test_no_client_gets_in_without_a_password(connection):
    with pytest.raises(KafkaError):
        replace(connection, security_protocol="SSL", username="", sasl_mechanism="").check()


def test_both_clients_get_in(connection):
    from kafka.admin import KafkaAdminClient

    client = KafkaAdminClient(**connection.for_kafka_python())
    try:
        assert isinstance(client.list_topics(), list)
    finally:
        client.close()


def test_the_password_is_in_no_repr(connection):
    assert connection.password
    assert connection.password not in repr(connection)


def test_a_port_that_does_not_speak_tls_is_called_one(connection):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        with pytest.raises(KafkaError, match="does not speak TLS") as caught:
            replace(connection, bootstrap_servers=(f"127.0.0.1:{server.server_port}",)).check()

        server.shutdown()
    assert "KAFKA_SSL_ENABLED" in caught.value.remedy
