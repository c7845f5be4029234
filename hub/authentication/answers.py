"""What an identity provider's answer means: yes, no, or nothing at all.

The difference decides whether somebody is logged out, so it is made in one place.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Mapping
from typing import Any

from tornado.httpclient import HTTPClientError
from tornado.iostream import StreamClosedError

from workbench.errors import ProviderRefused, ProviderUnavailable

TOO_MANY_REQUESTS = 429
FORBIDDEN = 403


def is_outage(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an HTTP status says nothing about the person: the provider is down, or has been asked too often.

    599 is tornado's for a connection that failed. GitHub limits rates with 403
    (docs.github.com, "Rate limits for the REST API").
    """
    is_limited = status == FORBIDDEN and (headers.get("X-RateLimit-Remaining") == "0" or "Retry-After" in headers)
    return status >= 500 or status in {408, TOO_MANY_REQUESTS} or is_limited


async def asked(provider: str, answer: Awaitable[Any]) -> Any:
    """The provider's answer.

    Raises:
        ProviderRefused: when it said no.
        ProviderUnavailable: when it did not answer, or with what cannot be read.
    """
    try:
        return await answer
    except HTTPClientError as error:
        headers = error.response.headers if error.response else {}
        if is_outage(error.code, headers):
            raise ProviderUnavailable(
                f"{provider} does not answer: {error.code} {error.message}", remedy="Try again in a few minutes."
            ) from None
        raise ProviderRefused(f"{provider} said {error.code}{_protocol_error(error)}") from None
    except (OSError, ssl.SSLError, StreamClosedError) as error:
        raise ProviderUnavailable(
            f"{provider} cannot be reached: {error}", remedy="Try again in a few minutes."
        ) from None
    except (ValueError, AttributeError):
        raise ProviderUnavailable(
            f"{provider} sent something that is no JSON", remedy="Try again in a few minutes."
        ) from None


def _protocol_error(error: HTTPClientError) -> str:
    """The error code of RFC 6749 §5.2 in a refusal, when there is one."""
    try:
        found = json.loads(error.response.body)["error"] if error.response else ""
    except (ValueError, KeyError, TypeError):
        return ""
    return f" {found[:80]!r}" if isinstance(found, str) else ""
