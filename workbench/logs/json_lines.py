"""Lines of JSON. Imported only where they are asked for."""

from __future__ import annotations

import logging
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from workbench.logs.context import log_context
from workbench.logs.formatting import exception_text, line_facts


class JsonLines(JsonFormatter):
    """One object in one line, whatever a value holds: all that is not ASCII is escaped."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Called by the formatter. What libraries add to a record is left out: nobody masks it."""
        facts = line_facts(record, self._component)
        log_data.update({**facts, **log_context(), "message": facts["message"]})
        if exception := exception_text(self, record):
            log_data["exception"] = exception
