"""The error of a client that reads no more: who reads begins again with a new one."""

from __future__ import annotations

from workbench.errors import KafkaUnavailable


class Stalled(KafkaUnavailable):
    """Records are there and do not come; a new client may get them."""
