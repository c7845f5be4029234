"""What an identity provider's answer means: yes, no, or nothing at all.

The difference decides whether somebody is logged out, so it is made in one place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Mapping
from typing import Any

from tornado.httpclient import HTTPClientError
from tornado.iostream import StreamClosedError

from workbench.errors import IdentityError, ProviderRefused, ProviderUnavailable

UNAUTHORIZED, FORBIDDEN, TIMEOUT, TOO_MANY_REQUESTS = 401, 403, 408, 429
# Error codes that are about the person or the grant (RFC 6749 §5.2, RFC 6750 §3.1; GitHub's and Keycloak's beside them).
# All others are about the hub's own client or the provider's health.
ABOUT_THE_PERSON = {
    *("invalid_grant", "invalid_token", "access_denied", "insufficient_scope"),
    *("bad_refresh_token", "bad_verification_code", "not_allowed"),
}
# What GitHub says beside a 403: of a person, and of the hub: of a limit, which needs no header ("Rate limits for the
# REST API"), and of its address ("Managing allowed IP addresses for your organization").
OF_THE_PERSON = re.compile(r"account\b.*\bsuspended|SAML", re.IGNORECASE)
OF_THE_HUB = re.compile(r"rate limit|abuse|IP allow list", re.IGNORECASE)
BEARER_ERROR = re.compile(r'^Bearer\b.*\berror="([^"]*)"', re.IGNORECASE)  # RFC 6750 §3
LATER = "Try again in a few minutes."
CLIENT = (
    "An administrator has to set the client's id and secret as they are at the provider, and start the workbench again; "
    "or something between this machine and the provider asks for a login of its own."
)


class TokenNotTaken(ProviderUnavailable):
    """An API answered 401 to somebody's access token: it may have run out, or a firewall stands before the API."""


def is_outage(status: int, headers: Mapping[str, str], body: bytes = b"") -> bool:
    """Whether an HTTP status says nothing about the person: the provider is down, or it is the hub that may not ask.

    599 is tornado's for a connection that failed. GitHub limits rates and addresses with 403.
    """
    is_refused_to_us = status == FORBIDDEN and (
        headers.get("X-RateLimit-Remaining") == "0" or "Retry-After" in headers or bool(OF_THE_HUB.search(said(body)))
    )
    return status >= 500 or status in {TIMEOUT, TOO_MANY_REQUESTS} or is_refused_to_us


def said(body: bytes) -> str:
    """The message of an answer of GitHub's API; empty when it is none, such as a page of something in between."""
    found = _document(body).get("message")
    return found if isinstance(found, str) else ""


def check_code(provider: str, code: str) -> None:
    """Raise what an error code of a token endpoint means.

    Raises:
        ProviderRefused: when it is about the person or the grant, such as `invalid_grant`.
        ProviderUnavailable: when it is about the hub's own client, which says nothing about anybody.
    """
    raise _of_code(provider, code)


def _of_code(provider: str, code: str) -> IdentityError:
    if code in ABOUT_THE_PERSON:
        return ProviderRefused(f"{provider} says {code!r}")
    return ProviderUnavailable(
        f"{provider} refuses this workbench itself: {code[:80]!r}",
        remedy="Try again in a few minutes; then an administrator has to check the client's id, secret, scopes and callback address.",
    )


async def asked(
    provider: str, answer: Awaitable[Any], *, with_persons_token: bool = False, with_clients_secret: bool = False
) -> Any:
    """The provider's answer.

    Args:
        provider: what people call it.
        answer: the request.
        with_persons_token: whether it shows the access token of somebody.
        with_clients_secret: whether it shows the secret of the hub's own client, which a 401 is about then
            (RFC 6749 §5.2).

    Raises:
        ProviderRefused: when it said no to the person: an error code that is about them or their grant, a 401 of
            an API to their token, GitHub's 403 for who is suspended.
        TokenNotTaken: when an API answered 401 to their token, and not why.
        ProviderUnavailable: when it did not answer, or with what says nothing about the person, such as
            the 404 of a proxy before an issuer that starts, or the 403 of a firewall.
    """
    try:
        return await answer
    except HTTPClientError as error:
        meant = _meaning(
            provider, error, with_persons_token=with_persons_token, with_clients_secret=with_clients_secret
        )
        raise meant from None
    except (OSError, StreamClosedError) as error:  # TLS errors are OSErrors
        raise ProviderUnavailable(f"{provider} cannot be reached: {error}", remedy=LATER) from None
    except (ValueError, AttributeError):
        raise ProviderUnavailable(f"{provider} sent something that is no JSON", remedy=LATER) from None


def _meaning(
    provider: str, error: HTTPClientError, *, with_persons_token: bool, with_clients_secret: bool
) -> IdentityError:
    headers: Mapping[str, str] = error.response.headers if error.response else {}
    body: bytes = error.response.body or b"" if error.response else b""
    if is_outage(error.code, headers, body):
        return ProviderUnavailable(f"{provider} does not answer: {error.code} {error.message}", remedy=LATER)
    code, is_401_to_token = _protocol_error(headers, body), with_persons_token and error.code == UNAUTHORIZED
    # One that we do not know, such as Spring's `Unauthorized`, is about the hub's client only where that has asked.
    is_to_token = with_persons_token and error.code in {UNAUTHORIZED, FORBIDDEN}
    if code and (code in ABOUT_THE_PERSON or not is_to_token):
        return _of_code(provider, code)
    if with_persons_token and not code and _is_no(error.code, headers, body):
        return ProviderRefused(f"{provider} said {error.code}")
    if is_401_to_token:
        told = f" ({code[:80]!r})" if code else ""
        return TokenNotTaken(f"{provider} answered 401 to an access token, and not why{told}", remedy=LATER)
    if with_clients_secret and error.code == UNAUTHORIZED:
        # Without the words of the answer, which may repeat what was sent.
        return ProviderUnavailable(
            f"{provider} refuses this workbench itself: 401 to the id and secret of its client", remedy=CLIENT
        )
    return ProviderUnavailable(f"{provider} answered {error.code}, which means nothing here", remedy=LATER)


def _is_no(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a refusal without a code of the protocol comes from an API that knows the token, not from before it."""
    if status == UNAUTHORIZED:
        return bool(_document(body)) or headers.get("WWW-Authenticate", "").lower().startswith("bearer")
    return status == FORBIDDEN and bool(OF_THE_PERSON.search(said(body)))


def _protocol_error(headers: Mapping[str, str], body: bytes) -> str:
    """The error code of RFC 6750 §3 or RFC 6749 §5.2 in a refusal; empty when there is none."""
    if told := BEARER_ERROR.search(headers.get("WWW-Authenticate", "")):
        return told[1]
    found = _document(body).get("error")
    return found if isinstance(found, str) else ""


def _document(body: bytes) -> dict[str, Any]:
    """The JSON object of an answer; empty when it is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
