"""Ids of requests in servers of tornado: the hub and the page of pipelines."""

from __future__ import annotations

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import OutputTransform

from workbench.logs.context import HEADER, bind_request, request_id


class RequestIds(OutputTransform):
    """Gives each request its id before it is handled, and says it in the answer: for `Application(transforms=…)`.

    Each connection is served by a task of its own, one request after the other, and each handler by a task that
    begins in it: so the id stands in the lines of its request, and of no other.
    """

    def __init__(self, request: HTTPServerRequest) -> None:
        super().__init__(request)
        self._id = request_id(request.headers.get(HEADER))
        # What is sent on to others says the same.
        request.headers[HEADER] = self._id
        bind_request(self._id)

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Called by tornado with the head of the answer, errors included."""
        headers[HEADER] = self._id
        return status_code, headers, chunk
