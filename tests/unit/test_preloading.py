"""Imports in the background of a kernel: they end with the first cell."""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType

import pytest

from workbench.cells.preloading import Preloader


@pytest.fixture
def imported(monkeypatch) -> list[str]:
    """What was imported, of modules that are not there; `slow` takes until `go` is set."""
    names: list[str] = []

    def import_module(name: str) -> ModuleType:
        if name == "slow":
            began.set()
            assert go.wait(20)
        if name == "broken":
            raise ImportError(name)
        names.append(name)
        return sys

    monkeypatch.setattr(importlib, "import_module", import_module)
    return names


began, go = threading.Event(), threading.Event()


@pytest.fixture(autouse=True)
def fresh() -> None:
    began.clear()
    go.clear()


def test_modules_are_imported_in_order(imported):
    preloader = Preloader(("a", "b", "c"), after_seconds=0.0)
    preloader.start()
    preloader._thread.join(20)

    assert imported == ["a", "b", "c"]


def test_a_cell_that_comes_first_keeps_everything_out(imported):
    preloader = Preloader(("a",), after_seconds=60.0)
    preloader.start()
    preloader.end()

    assert imported == []


def test_a_cell_waits_for_the_module_that_is_being_imported_and_for_no_other(imported):
    preloader = Preloader(("a", "slow", "b"), after_seconds=0.0)
    preloader.start()
    assert began.wait(20)
    cell = threading.Thread(target=preloader.end, args=("info",))
    cell.start()
    assert preloader._over.wait(20)
    go.set()
    cell.join(20)

    assert imported == ["a", "slow"]


def test_what_cannot_be_imported_is_left_to_whoever_needs_it(imported):
    preloader = Preloader(("a", "broken", "b"), after_seconds=0.0)
    preloader.start()
    preloader._thread.join(20)
    preloader.end()

    assert imported == ["a"]
