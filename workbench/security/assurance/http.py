"""Whether an HTTP server refuses who shows no credentials."""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

from workbench.security.assurance.rows import NotProtected

SECONDS = 10.0
REFUSED = (401, 403)
TO_LOGIN = (301, 302, 303, 307, 308)


def refuses_strangers(url: str, *, context: ssl.SSLContext | None = None) -> str:
    """*url*, asked for without any credentials, is refused or leads to a login.

    Args:
        url: of something that nobody but who is known may see.
        context: for https.

    Raises:
        NotProtected: when it is answered, or not in HTTP.
    """
    status, location = status_of(url, context=context)
    if status in REFUSED:
        return f"without credentials it answers {status}"
    if status in TO_LOGIN and any(word in location for word in ("login", "oauth")):
        return "without credentials it leads to the login"
    raise NotProtected(
        f"{url} answers {status} without credentials",
        remedy="Stop the workbench: this port is not protected. If you did not change it, somebody else answers there.",
    )


def status_of(url: str, *, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    """Status and `Location` of the answer to GET; redirects are not followed, and no proxy is asked.

    Raises:
        NotProtected: when what answers does not speak HTTP.
        OSError: when nobody answers.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
    try:
        connection.request("GET", parts.path or "/", headers={"Accept": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location", "")
    except http.client.HTTPException as error:
        raise NotProtected(
            f"what answers at {parts.netloc} is no HTTP server: {type(error).__name__}",
            remedy="Find out with `ss -ltnp` who has that port, and end it.",
        ) from None
    finally:
        connection.close()
