"""Keeps secrets out of logs, whoever writes the line: the second line of defence behind code that does not log them.

Values are known to this process from when they were read; see `remember`. Logins within addresses and
the headers that carry one are masked by their form, whether or not their value is known.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

LEAST_CHARACTERS = 8  #: of a value; what is shorter stands in too many words
LEAST_ENCODED_CHARACTERS = 8  #: of base64 or hex; a shorter piece may stand in any text
MOST_VALUES = 512  #: the oldest are forgotten
HIDDEN = "[secret]"
LOGIN = re.compile(r"(?P<before>\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#'\"<>]*@")
#: A text as Python and JSON write it, up to its own end and not that of a text within it.
QUOTED = r"""b?(?:'(?:\\.|[^'\\\r\n])*'?|"(?:\\.|[^"\\\r\n])*"?)"""
HEADER = re.compile(
    r"(?P<before>\b(?:(?:proxy-)?authorization|(?:set-)?cookie|x-vault-token|x-api-key)"
    r"(?:['\"]\s*,\s*(?=[\[(]?b?['\"])|\\*['\"]?\s*[:=]\s*))"
    rf"(?P<value>(?:[\[(]\s*)?{QUOTED}(?:\s*,\s*{QUOTED}(?=\s*[,\])]))*(?:(?!\s*[,)\]}}]|\s+[^\s;])[^\r\n]+)?|[^\r\n]+)",
    re.IGNORECASE,
)
OPENED = re.compile(r"(?:[\[(]\s*)?b?['\"]")
BEARER = re.compile(r"(?P<before>\b(?:bearer|basic)\s+\\*['\"]?)[A-Za-z0-9._~+/-]{12,}=*", re.IGNORECASE)
PERCENT = re.compile(r"%[0-9A-F]{2}")


class Masks:
    """The values that are not to be shown. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, set[str]] = {}
        self._pattern: re.Pattern[str] | None = None

    def remember(self, value: str) -> None:
        """Mask *value* from now on, in the forms that programs give it."""
        value = value.strip()
        if len(value) < LEAST_CHARACTERS or value in self._values:
            return
        with self._lock:
            self._values[value] = secret_forms(value)
            while len(self._values) > MOST_VALUES:
                self._values.pop(next(iter(self._values)))
            forms = {form for forms in self._values.values() for form in forms}
            # The longest first: one form may be part of another.
            self._pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))

    def masked(self, text: str) -> str:
        """*text* without what is not to be shown."""
        if self._pattern is not None:
            text = self._pattern.sub(HIDDEN, text)
        if "://" in text:
            text = LOGIN.sub(rf"\g<before>{HIDDEN}@", text)
        return BEARER.sub(rf"\g<before>{HIDDEN}", HEADER.sub(_without_value, text))


def _without_value(header: re.Match[str]) -> str:
    opened = OPENED.match(header["value"])
    if opened is None:
        return f"{header['before']}{HIDDEN}"
    end = opened[0][-1] if header["value"].endswith(opened[0][-1]) else ""
    return f"{header['before']}{opened[0]}{HIDDEN}{end}"


_MASKS = Masks()
_installing = threading.Lock()


def remember(value: str) -> None:
    """Mask *value* in all logs of this process from now on. What is shorter than eight characters is not masked."""
    _MASKS.remember(value)


def masked(text: str) -> str:
    """*text* as a log would have it."""
    return _MASKS.masked(text)


def mask_logs() -> None:
    """Mask every record of every logger of this process, wherever it is written to; called where logging is set up.

    Not as a `logging.Filter`: one of a logger is not asked for records of the loggers below it, and
    those of handlers miss the handlers that others add later, as JupyterHub does.
    """
    with _installing:
        make = logging.getLogRecordFactory()
        if not getattr(make, "masks", False):
            logging.setLogRecordFactory(_masking(make))


def _masking(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    def make_masked(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = make(*arguments, **named)
        _mask(record)
        return record

    make_masked.masks = True  # type: ignore[attr-defined]
    return make_masked


def _mask(record: logging.LogRecord) -> None:
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - the handler reports what is wrong with the arguments
        return
    if (shown := masked(text)) != text:
        record.msg, record.args = shown, None
    if record.exc_info and record.exc_info[0] is not None:
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if (shown := masked(text)) != text:
            # Whoever formats it takes the text that is there.
            record.exc_info, record.exc_text = None, shown


def secret_forms(secret: str) -> set[str]:
    """The texts in which *secret* can be read without knowing it: as it is, base64, hex, URLs, JSON, HTML, `repr`."""
    octets = secret.encode("utf-8", "surrogatepass")
    # That of JavaScript's encodeURIComponent leaves more; some programs write percents in small letters.
    percent = {quote(octets, safe=""), quote(octets), quote(octets, safe="!'()*~"), quote_plus(octets)}
    percent |= {PERCENT.sub(lambda found: found[0].lower(), each) for each in percent}
    written = {secret, *percent, html.escape(secret), repr(octets)[2:-1]}
    written |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    encoded = {octets.hex(), octets.hex().upper(), *_base64_forms(octets)}
    return written | {form for form in encoded if len(form) >= LEAST_ENCODED_CHARACTERS}


def _base64_forms(octets: bytes) -> Iterator[str]:
    """What of base64 is the same whatever stands before and after *octets*, for each of the three alignments."""
    for before in range(3):
        first = -(-before * 8 // 6)
        last = (before + len(octets)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(before) + octets).decode()[first:last]
