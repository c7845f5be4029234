"""OAUTHBEARER with a real Keycloak and a real broker."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from pydantic import SecretStr

from tests.services import java_client
from tests.services.certificates import Authority
from tests.services.kafka_cluster import ALLOWED_URLS, running_cluster, token_listener
from tests.services.keycloak_realm import Realm
from workbench.errors import KafkaError
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.cluster.oauth import TokenProvider

CLIENT, SECRET = "etl", "s3cret+/%=& of etl"
AUDIENCE = "kafka"

# Keycloak takes half a minute to start, on a busy machine more.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def connection(keycloak: Realm, tmp_path_factory):
    """A broker that takes the tokens of that Keycloak."""
    keycloak.add_client(CLIENT, SECRET, audience=AUDIENCE)
    folder = tmp_path_factory.mktemp("cluster")
    authority = Authority(folder, "authority")
    listeners = token_listener(keys_url=keycloak.keys_url, audience=AUDIENCE)
    allowed = f"-D{ALLOWED_URLS}={keycloak.keys_url}"
    with running_cluster(folder / "kafka", authority, listeners, allowed) as cluster:
        yield KafkaConnection(
            bootstrap_servers=(cluster.address("tokens"),),
            security_protocol="SASL_SSL",
            sasl_mechanism="OAUTHBEARER",
            username=CLIENT,
            password=SecretStr(SECRET),
            ca_file=str(authority.file),
            token_url=keycloak.token_url,
            token_ca_file=str(keycloak.authority),
        )


def refusal(connection: KafkaConnection) -> KafkaError:
    with pytest.raises(KafkaError) as caught:
        connection.check()
    assert connection.password.get_secret_value() not in str(caught.value)
    return caught.value


def test_librdkafka_gets_in_with_a_token(connection):
    assert connection.check()


def test_several_scopes_can_be_asked_for(connection):
    assert replace(connection, token_scope="email profile").check()


def test_kafka_python_gets_in_with_a_token_that_no_log_shows(connection, caplog):
    from kafka.admin import KafkaAdminClient

    arguments = connection.for_kafka_python()
    with caplog.at_level(logging.DEBUG):
        client = KafkaAdminClient(**arguments)
        try:
            assert client.list_topics() == []
        finally:
            client.close()

    token = arguments["sasl_oauth_token_provider"].token()
    assert SECRET not in caplog.text
    assert token not in caplog.text
    assert token not in repr(arguments)


def test_the_java_client_of_spark_gets_in_with_a_token(connection):
    assert java_client.cluster_id(connection.for_spark()) == connection.check()


def test_a_token_is_used_again_until_shortly_before_it_expires(connection):
    provider = TokenProvider(connection)
    first = provider.token()

    assert provider.token() == first

    provider._token["expires_at"] -= provider._token["expires_in"] - 10
    assert provider.token() != first


def test_a_wrong_client_secret_is_called_one(connection):
    error = refusal(replace(connection, password=SecretStr("wrong-secret")))

    assert f"refused the client {CLIENT!r}: unauthorized_client" in error.message
    assert "KAFKA_PASSWORD" in error.remedy


def test_a_wrong_client_secret_of_kafka_python_is_called_one(connection):
    provider = replace(connection, password=SecretStr("wrong-secret")).for_kafka_python()["sasl_oauth_token_provider"]

    with pytest.raises(KafkaError, match="refused the client") as caught:
        provider.token()
    assert "wrong-secret" not in str(caught.value)


def test_an_unknown_client_is_called_one(connection):
    assert "refused the client 'nobody': invalid_client" in refusal(replace(connection, username="nobody")).message


def test_a_token_for_somebody_else_is_refused_by_the_broker(connection, keycloak):
    keycloak.add_client("stranger", "x1", audience="other")

    error = refusal(replace(connection, username="stranger", password=SecretStr("x1")))

    assert "refused the token of client 'stranger'" in error.message
    assert "audience" in error.remedy


def test_a_scope_that_is_not_there_is_called_that(connection):
    error = refusal(replace(connection, token_scope="nope"))

    assert "refused the scope 'nope'" in error.message
    assert "WORKBENCH_KAFKA_TOKEN_SCOPE" in error.remedy


def test_a_token_endpoint_that_is_not_trusted_is_called_that(connection):
    error = refusal(replace(connection, token_ca_file=""))

    assert "certificate of the token endpoint" in error.message
    assert "WORKBENCH_KAFKA_TOKEN_CA_FILE" in error.remedy


def test_an_address_that_is_no_token_endpoint_is_called_that(connection):
    error = refusal(replace(connection, token_url=f"{connection.token_url}s"))

    assert "gave no token: HTTP 405" in error.message
    assert "WORKBENCH_KAFKA_TOKEN_URL" in error.remedy


def test_a_password_for_a_broker_that_wants_tokens_is_called_that(connection):
    assert "does not offer PLAIN, but OAUTHBEARER" in refusal(replace(connection, sasl_mechanism="PLAIN")).message
