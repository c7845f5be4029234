"""What of the hub reaches the audit log, and how often."""

from __future__ import annotations

from hub.auditing import Throttle


def test_strangers_cannot_fill_the_log():
    now = [0.0]
    throttle = Throttle(per_minute=3, clock=lambda: now[0])

    answers = [throttle.admit() for _ in range(10)]

    assert answers == [0, 0, 0, *[None] * 7]
    now[0] = 60.0
    assert [throttle.admit() for _ in range(4)] == [7, 0, 0, None]
