"""The hop from our proxy to the hub: only what came over it says from where it came.

JupyterHub believes `X-Real-Ip` and `X-Forwarded-For` of whoever asks. Its port is on loopback beside the proxy's,
where every user of the machine can ask, and write somebody else's address into the audit log.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from tornado.httputil import HTTPServerRequest
from tornado.web import OutputTransform

HEADER = "X-Workbench-Proxy"  #: put on by the proxy, over what a client has sent, for the hub alone

Transform = Callable[[HTTPServerRequest], OutputTransform]


def address_of_peers(secret: str) -> Transform:
    """For `Application(transforms=…)`: a request without our proxy's secret comes from where its connection does.

    A function: its representation, unlike that of an object with a field, shows no secret.

    Args:
        secret: what the proxy puts into `HEADER`; not empty.
    """

    def transform(request: HTTPServerRequest) -> OutputTransform:
        # Taken away: JupyterHub logs the headers of a request that failed.
        sent = request.headers.pop(HEADER, "")
        if not hmac.compare_digest(sent.encode(), secret.encode()):
            # That of tornado before it had read headers; `remote_ip` is what they say.
            request.remote_ip = request.connection.context.address[0]  # type: ignore[union-attr]
        return OutputTransform(request)

    return transform
