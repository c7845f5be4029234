"""Logs of requests without what may be a secret in their addresses."""

from __future__ import annotations

import logging
from typing import Any

from tornado.web import HTTPError, RequestHandler

logger = logging.getLogger(__name__)


class PathOnly(RequestHandler):
    """A handler of whose requests no log has the query, which may hold a token or a code of OAuth."""

    def _request_summary(self) -> str:
        return f"{self.request.method} {self.request.path}"

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """Called by tornado, whose own way shows the whole request."""
        if isinstance(value, HTTPError):
            super().log_exception(typ, value, tb)
        else:
            logger.error("%s", self._request_summary(), exc_info=(typ, value, tb) if value is not None else None)
