"""Tokens for Kafka's OAUTHBEARER (KIP-255), by OAuth 2 client credentials (RFC 6749, section 4.4)."""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from workbench.errors import KafkaError
from workbench.ingestion.cluster.connection_errors import setting

if TYPE_CHECKING:
    from workbench.ingestion.cluster.connection import KafkaConnection

ANSWER_SECONDS = 10.0
RENEW_BEFORE_SECONDS = 30  # a token that a broker is about to refuse is not handed out
# What a token endpoint says of the client, and not of the address (RFC 6749, section 5.2).
REFUSALS = {"invalid_client", "unauthorized_client", "invalid_grant", "access_denied"}


class TokenProvider:
    """Hands out a token, and fetches another shortly before it expires.

    It has the two methods of kafka-python's AbstractTokenProvider, whose threads share it.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._token: Any = None

    def token(self) -> str:
        """A token that is valid for a while.

        Raises:
            KafkaError: when the token endpoint refuses us or does not answer.
        """
        with self._lock:
            if self._token is None or self._token.is_expired(leeway=self._leeway()):
                self._token = fetch_token(self._connection)
            return str(self._token["access_token"])

    def extensions(self) -> dict[str, str]:
        """What goes to the broker beside the token (KIP-342): nothing."""
        return {}

    def _leeway(self) -> int:
        # A token that lives shorter than that is used for half of its life.
        return min(RENEW_BEFORE_SECONDS, int(self._token.get("expires_in") or 0) // 2)


def fetch_token(connection: KafkaConnection) -> Any:
    """Ask the token endpoint for a token; returns authlib's OAuth2Token.

    Raises:
        KafkaError: when it refuses the client, is not trusted, does not answer, or answers something else.
    """
    import httpx2
    from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]
    from authlib.integrations.httpx_client import OAuth2Client  # type: ignore[import-untyped]

    try:
        with OAuth2Client(
            form_encoded(connection.username),
            form_encoded(connection.password.get_secret_value()),
            scope=connection.token_scope or None,
            token_endpoint_auth_method="client_secret_basic",  # noqa: S106
            verify=ssl.create_default_context(cafile=connection.token_ca_file or None),
            timeout=ANSWER_SECONDS,
        ) as client:
            token = client.fetch_token(connection.token_url, grant_type="client_credentials")
    except AuthlibBaseError as error:
        raise _refused(connection, error.error, error.description or "") from None
    except httpx2.HTTPStatusError as error:
        raise _no_answer(connection, f"it answered with status {error.response.status_code}") from None
    except (httpx2.HTTPError, OSError) as error:
        raise _no_answer(connection, str(error)) from None
    except ValueError:
        raise _no_answer(connection, "what it answered is no JSON") from None
    if not token.get("access_token"):
        raise _no_answer(connection, "there is no access_token in its answer")
    return token


def form_encoded(text: str) -> str:
    """*text* as client id, secret and scope go to a token endpoint (RFC 6749, section 2.3.1).

    librdkafka and authlib send them as they are given, so a `+` or `%` in a secret would become something else.
    """
    return quote_plus(text, safe="")


def _refused(connection: KafkaConnection, code: str, description: str) -> KafkaError:
    said = f"{code}: {description}" if description else code
    if code == "invalid_scope":
        return KafkaError(
            f"the token endpoint {connection.token_url} refused the scope {connection.token_scope!r}: {said[:200]}",
            remedy=f"Check {setting(connection, 'token_scope')}.",
        )
    if code not in REFUSALS:
        return _no_answer(connection, said)
    return KafkaError(
        f"the token endpoint {connection.token_url} refused the client {connection.username!r}: {said[:200]}",
        remedy=f"Check {setting(connection, 'username')} (the client id) and {setting(connection, 'password')} (its secret).",
    )


def _no_answer(connection: KafkaConnection, reason: str) -> KafkaError:
    if "certificate" in reason.lower():
        return KafkaError(
            f"the certificate of the token endpoint {connection.token_url} is not accepted: {reason[:200]}",
            remedy=f"Set {setting(connection, 'token_ca_file')} to the PEM file of the authority that signed it.",
        )
    return KafkaError(
        f"the token endpoint {connection.token_url} gave no token: {reason[:200]}",
        remedy=f"Check that {setting(connection, 'token_url')} is the token endpoint and that this machine reaches it.",
    )
