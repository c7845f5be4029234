"""A workbench whose servers may be killed: not the one that other tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.workbench import RunningWorkbench, make_home, running_workbench


@pytest.fixture(scope="session")
def own_workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorkbench]:
    with running_workbench(make_home(tmp_path_factory.mktemp("faults")), until="hub") as running:
        yield running
