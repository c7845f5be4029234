"""Tells somebody elsewhere each minute that alerts are evaluated: who hears nothing knows that this machine is gone."""

from __future__ import annotations

import http.client
import logging
import time
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import SecretStr

logger = logging.getLogger(__name__)

VARIABLE = "WORKBENCH_ALERTS_HEARTBEAT_URL"
SECONDS = 60.0
ANSWER_SECONDS = 5.0


class Heartbeat:
    """Posts an empty JSON object to an address, which is a secret; without one it does nothing.

    Args:
        environment: in which the address is looked up.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = SecretStr(environment.get(VARIABLE, "").strip())
        self._last = float("-inf")

    def beat(self) -> bool:
        """Post, if a minute is over; whether it was taken. What fails is tried again at the next call."""
        if not self._address or time.monotonic() - self._last < SECONDS:
            return False
        try:
            _post(self._address.get_secret_value())
        except (OSError, ValueError, http.client.HTTPException) as error:
            # Its text may have the address.
            logger.warning("%s does not take the heartbeat: %s", VARIABLE, type(error).__name__)
            return False
        self._last = time.monotonic()
        return True


def _post(address: str) -> None:
    if urlsplit(address).scheme not in {"http", "https"}:
        raise ValueError("no address of HTTP")
    headers = {"Content-Type": "application/json", "User-Agent": "workbench"}
    request = urllib.request.Request(address, data=b"{}", headers=headers)  # noqa: S310 - checked above
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):  # noqa: S310
        pass
