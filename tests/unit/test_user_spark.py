"""When a user's Spark starts; that it does is shown where a real server runs."""

from __future__ import annotations

import threading

from workbench.embedded.lab import Once


def test_kernels_and_the_clock_start_it_once():
    calls = []
    start = Once(lambda: calls.append("started"))
    threads = [threading.Thread(target=start) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert calls == ["started"]
