"""Keeps logins out of kafka-python's debug log, which writes every request out, passwords and tokens among them."""

from __future__ import annotations

import logging

# Where kafka-python 3 logs requests, and the bytes that it sends.
LOGGERS = ("kafka.protocol.parser", "kafka.net.connection")
SECRET_PARTS = ("SaslAuthenticate", " Send: ")


def hide_logins() -> None:
    """Drop the records that hold a login, and those of raw bytes, which may; the others stay. Repeatable."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_is_harmless)


def _is_harmless(record: logging.LogRecord) -> bool:
    if record.levelno > logging.DEBUG:
        return True
    text = record.getMessage()
    return not any(part in text for part in SECRET_PARTS)
