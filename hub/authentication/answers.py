"""What an identity provider's answer means: yes, no, or nothing at all.

The difference decides whether somebody is logged out, so it is made in one place.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from typing import Any

from tornado.httpclient import HTTPClientError
from tornado.iostream import StreamClosedError

from workbench.errors import ProviderRefused, ProviderUnavailable

UNAUTHORIZED, FORBIDDEN, TIMEOUT, TOO_MANY_REQUESTS = 401, 403, 408, 429
# Error codes that are about the person or the grant (RFC 6749 §5.2, RFC 6750 §3.1; GitHub's and Keycloak's beside them).
# All others are about the hub's own client or the provider's health.
ABOUT_THE_PERSON = {
    *("invalid_grant", "invalid_token", "access_denied", "insufficient_scope"),
    *("bad_refresh_token", "bad_verification_code", "not_allowed"),
}
LATER = "Try again in a few minutes."


def is_outage(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an HTTP status says nothing about the person: the provider is down, or has been asked too often.

    599 is tornado's for a connection that failed. GitHub limits rates with 403
    (docs.github.com, "Rate limits for the REST API").
    """
    is_limited = status == FORBIDDEN and (headers.get("X-RateLimit-Remaining") == "0" or "Retry-After" in headers)
    return status >= 500 or status in {TIMEOUT, TOO_MANY_REQUESTS} or is_limited


def check_code(provider: str, code: str) -> None:
    """Raise what an error code of a token endpoint means.

    Raises:
        ProviderRefused: when it is about the person or the grant, such as `invalid_grant`.
        ProviderUnavailable: when it is about the hub's own client, which says nothing about anybody.
    """
    if code in ABOUT_THE_PERSON:
        raise ProviderRefused(f"{provider} says {code!r}")
    raise ProviderUnavailable(
        f"{provider} refuses this workbench itself: {code[:80]!r}",
        remedy="Try again in a few minutes; then an administrator has to check the client's id, secret, scopes and callback address.",
    )


async def asked(provider: str, answer: Awaitable[Any]) -> Any:
    """The provider's answer.

    Raises:
        ProviderRefused: when it said no: 401 or 403, or an error code of a token endpoint.
        ProviderUnavailable: when it did not answer, or with what says nothing about the person, such as
            the 404 of a proxy before an issuer that starts.
    """
    try:
        return await answer
    except HTTPClientError as error:
        code = _protocol_error(error)
        if is_outage(error.code, error.response.headers if error.response else {}):
            raise ProviderUnavailable(
                f"{provider} does not answer: {error.code} {error.message}", remedy=LATER
            ) from None
        if code:
            check_code(provider, code)
        if error.code in {UNAUTHORIZED, FORBIDDEN}:
            raise ProviderRefused(f"{provider} said {error.code}") from None
        raise ProviderUnavailable(f"{provider} answered {error.code}, which means nothing here", remedy=LATER) from None
    except (OSError, StreamClosedError) as error:  # TLS errors are OSErrors
        raise ProviderUnavailable(f"{provider} cannot be reached: {error}", remedy=LATER) from None
    except (ValueError, AttributeError):
        raise ProviderUnavailable(f"{provider} sent something that is no JSON", remedy=LATER) from None


def _protocol_error(error: HTTPClientError) -> str:
    """The error code of RFC 6749 §5.2 in a refusal; empty when there is none."""
    try:
        found = json.loads(error.response.body)["error"] if error.response else ""
    except (ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""
