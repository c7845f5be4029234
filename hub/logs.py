"""The hub's log: its lines are those of all our processes, and codes, states and tokens in addresses do not stand there."""

from __future__ import annotations

import logging
import re
from typing import Any

from workbench.logs.beginning import LogOptions
from workbench.logs.formatting import make_formatter
from workbench.masking import mask_logs

LOGGERS = ("tornado.general", "tornado.application", "tornado.access")
SECRET = re.compile(r"((?:^|[?&;\s])(?:code|state|token|_xsrf|id_token_hint|session_state|nonce)=)[^&;\s'\"]+")
HIDDEN = r"\1[secret]"
# JupyterHub tells the values of session cookies.
LEFT_OUT = ("Setting new xsrf cookie",)


class WithoutSecrets(logging.Filter):
    """Blanks secrets in what a logger writes; leaves out what is nothing but secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Called with each record before it is written."""
        if str(record.msg).startswith(LEFT_OUT):
            return False
        if isinstance(record.args, tuple):
            record.args = tuple(SECRET.sub(HIDDEN, each) if isinstance(each, str) else each for each in record.args)
        record.msg = SECRET.sub(HIDDEN, str(record.msg))
        return True


def set_logs(c: Any, options: LogOptions) -> None:
    """Have JupyterHub's own handler, which has no other way to be told, write lines as ours does."""
    formatter = {"()": make_formatter, "component": "hub", "log_format": options.format}
    c.JupyterHub.logging_config = {
        "formatters": {"workbench": formatter},
        "handlers": {"console": {"formatter": "workbench"}},
    }
    if options.level in {"warning", "error"}:
        # Not debug: JupyterHub would tell what is in cookies and answers.
        c.JupyterHub.log_level = options.level.upper()


def hide_secrets() -> None:
    """Have tornado's loggers, which JupyterHub and its extensions use, write no secrets, and no logger one that is known."""
    mask_logs()
    for name in LOGGERS:
        logging.getLogger(name).addFilter(WithoutSecrets())
