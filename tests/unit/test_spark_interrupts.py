"""Ctrl-C while gRPC is at work: it cancels, is raised at the end, and leaves no lock taken."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from workbench.transformation import interrupts
from workbench.transformation.interrupts import HeldInterrupt


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Python's own handler of SIGINT, which is there again after each context."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_the_first_cancels_and_is_raised_when_that_has_ended_it():
    cancelled = threading.Event()

    with pytest.raises(KeyboardInterrupt), HeldInterrupt(cancelled.set):
        press()
        assert cancelled.wait(60)
        raise RuntimeError("the operation was cancelled")


def test_the_second_breaks_in():
    passed: list[str] = []

    with pytest.raises(KeyboardInterrupt), HeldInterrupt(broken=lambda: passed.append("broken")):
        press()
        passed.append("first")
        press()
        passed.append("second")

    assert passed == ["first", "broken"]


def test_one_that_comes_at_the_very_end_is_raised_all_the_same():
    with pytest.raises(KeyboardInterrupt), HeldInterrupt() as held:
        held._ended.set()
        press()


def test_what_does_not_end_is_broken_into(monkeypatch):
    monkeypatch.setattr(interrupts, "PATIENCE_SECONDS", 0.05)

    def fails() -> None:
        raise OSError("the server does not answer")

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), HeldInterrupt(fails):
        press()
        threading.Event().wait(60)

    assert time.monotonic() - began < 50


def test_what_nobody_interrupts_is_as_it_would_be_without():
    with HeldInterrupt():
        pass
    with pytest.raises(StopIteration), HeldInterrupt():
        next(iter(()))
    with pytest.raises(KeyboardInterrupt):
        press()


def test_who_handles_interrupts_otherwise_is_left_alone():
    pressed = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    with HeldInterrupt(lambda: pytest.fail("was not asked for")):
        press()
    signal.signal(signal.SIGINT, signal.default_int_handler)

    assert pressed == [1]


def test_other_threads_have_no_interrupts():
    def work() -> None:
        with HeldInterrupt():
            found.append(signal.getsignal(signal.SIGINT))

    found: list[object] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert found == [signal.default_int_handler]


def test_no_lock_is_left_taken():
    # Its `__enter__` is Python: without the context, every few rounds leave it taken.
    condition = threading.Condition(threading.Lock())
    for _ in range(200):
        stop = threading.Event()
        began = threading.Event()

        def interrupt(began: threading.Event = began) -> None:
            began.wait()
            _thread.interrupt_main()

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt), HeldInterrupt(stop.set):
            began.set()
            while not stop.is_set():
                with condition:
                    pass
        thread.join()
        assert condition.acquire(blocking=False)
        condition.release()
