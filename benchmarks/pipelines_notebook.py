"""One notebook: by the engine, by papermill, and in a bare kernel, in turns, in the same run."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import start_new_kernel

from pipelines.engine import NotebookJob, kernel_folders
from pipelines.engine.execution import execute
from pipelines.engine.kernels.pool import KernelPool, PoolLimits
from pipelines.engine.record.events import Event, Kind, read_events
from pipelines.states import State

SPEC = {"name": "python3", "language": "python", "display_name": "Python with Spark"}
CELL_SECONDS = 120
CELLS = 100
LOUD_CELLS, LOUD_BYTES = 50, 200_000
LOUD = f"for _ in range({LOUD_BYTES // 100}):\n    print('x' * 99)"
LINES = 40
TIMED = f"import time\nfor _ in range({LINES}):\n    print(time.time(), flush=True)\n    time.sleep(0.1)"

Lane = Callable[[Path, list[str]], float]  # an empty folder and cells -> seconds


def trivial(folder: Path, runs: int) -> dict[str, Any]:
    """Seconds from the call to the end, for a notebook of one cell; nothing is imported while the clock runs."""
    lanes = {"workbench_warm": warm, "workbench_cold": cold, "papermill": papermill_saved, "kernel": fresh_kernel}
    return in_turns(folder, lanes, ["1 + 1"], runs)


def cells(folder: Path, runs: int) -> dict[str, Any]:
    """Milliseconds for a cell, of the first cell's start to the last cell's end, in a kernel that runs already."""
    lanes = {"workbench": warm_cells, "papermill": papermill_cells, "kernel": bare_cells}
    seconds = in_turns(folder, lanes, ["1 + 1"] * CELLS, runs)
    return {name: {key: scaled(value, 1000 / CELLS) for key, value in each.items()} for name, each in seconds.items()}


def output(folder: Path, runs: int) -> dict[str, Any]:
    """Seconds for 50 cells of 200 kB, of the first cell's start to the last cell's end and the saving after it."""
    lanes = {
        "workbench": warm_cells_published,
        "kernel": bare_cells,
        "papermill": papermill_cells,
        "papermill_without_saving": papermill_cells_unsaved,
    }
    return in_turns(folder, lanes, [LOUD] * LOUD_CELLS, runs)


def live(folder: Path, runs: int) -> dict[str, Any]:
    """Milliseconds between a `print` in the kernel and its event, which is in the log then."""
    delays: list[float] = []

    def watch(event: Event) -> None:
        if event.content.get("output_type") == "stream":
            # Lines that come in one message have waited since they were printed.
            delays.extend(time.time() - float(line) for line in event.content["text"].split())

    for run in range(runs):
        asyncio.run(executed(empty(folder / f"live-{run}"), [TIMED], is_warm=True, on_event=watch))
    delays.sort()
    return {
        "lines": len(delays),
        "p50": round(statistics.median(delays) * 1000, 1),
        "p95": round(delays[int(len(delays) * 0.95)] * 1000, 1),
    }


def in_turns(folder: Path, lanes: Mapping[str, Lane], cells: list[str], runs: int) -> dict[str, Any]:
    """Each lane once, then each lane again; a round before the first is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in lanes}
    for run in range(runs + 1):
        for name, lane in lanes.items():
            measured = lane(empty(folder / f"{name}-{run}"), cells)
            if run:
                seconds[name].append(round(measured, 4))
    return {name: {"median": round(statistics.median(each), 4), "each": each} for name, each in seconds.items()}


def scaled(value: Any, factor: float) -> Any:
    """A number or a list of numbers, in another unit."""
    return [scaled(each, factor) for each in value] if isinstance(value, list) else round(value * factor, 3)


async def executed(
    folder: Path, cells: list[str], *, is_warm: bool, on_event: Callable[[Event], None] = lambda _: None
) -> tuple[float, NotebookJob]:
    """Seconds of one execution by the engine, and what was executed."""
    job = NotebookJob(
        notebook=written(folder, cells), output=folder / "out" / "work.ipynb", log=folder / "out" / "work.jsonl"
    )
    # One kernel, which is taken: a second that starts beside the run would be measured with it.
    async with KernelPool(PoolLimits(kernels=1 if is_warm else 0), environment=os.environ) as kernels:
        if is_warm:
            await kernels.warm("python3")
        started = time.perf_counter()
        outcome = await execute(job, kernels=kernels, cancel=asyncio.Event(), on_event=on_event)
        seconds = time.perf_counter() - started
    if outcome.state is not State.SUCCEEDED:
        raise RuntimeError(outcome.message)
    return seconds, job


def warm(folder: Path, cells: list[str]) -> float:
    """The engine, with a kernel that waits; the next one starts beside it, as it does in production."""
    return asyncio.run(executed(folder, cells, is_warm=True))[0]


def cold(folder: Path, cells: list[str]) -> float:
    """The engine, with a kernel that it starts."""
    return asyncio.run(executed(folder, cells, is_warm=False))[0]


def warm_cells(folder: Path, cells: list[str]) -> float:
    """The engine, by the times in its log."""
    _, job = asyncio.run(executed(folder, cells, is_warm=False))
    events = [event for event in read_events(job.log) if event.kind in {Kind.CELL_STARTED, Kind.CELL_ENDED}]
    return events[-1].at - events[0].at


def warm_cells_published(folder: Path, cells: list[str]) -> float:
    """The same, and the time to build the notebook and write it."""
    from pipelines.engine.record.publishing import publish_notebook

    seconds = warm_cells(folder, cells)
    started = time.perf_counter()
    publish_notebook(folder / "out" / "work.jsonl", folder / "again.ipynb")
    return seconds + time.perf_counter() - started


def papermill_saved(folder: Path, cells: list[str]) -> float:
    """papermill, with an output path, without its progress bar."""
    return by_papermill(folder, cells, is_saved=True)[0]


def papermill_cells(folder: Path, cells: list[str]) -> float:
    """papermill, by the times in its metadata: of its first cell's start to its last cell's end."""
    return by_papermill(folder, cells, is_saved=True)[1]


def papermill_cells_unsaved(folder: Path, cells: list[str]) -> float:
    """The same without an output path."""
    return by_papermill(folder, cells, is_saved=False)[1]


def by_papermill(folder: Path, cells: list[str], *, is_saved: bool) -> tuple[float, float]:
    """Seconds in all, and of the cells."""
    import papermill

    notebook = written(folder, cells)
    with kernel_folders():
        started = time.perf_counter()
        done = papermill.execute_notebook(
            str(notebook), str(folder / "out.ipynb") if is_saved else None, progress_bar=False
        )
        seconds = time.perf_counter() - started
    first, last = done.cells[0].metadata.papermill, done.cells[-1].metadata.papermill
    return seconds, nanoless(last.end_time) - nanoless(first.start_time)


def nanoless(written_time: str) -> float:
    """A time of papermill's in seconds."""
    from datetime import datetime

    return datetime.fromisoformat(written_time).timestamp()


def fresh_kernel(folder: Path, cells: list[str]) -> float:
    """A kernel that is started, runs the cells and is ended, by jupyter_client alone; nothing is kept."""
    return in_kernel(cells)[0]


def bare_cells(folder: Path, cells: list[str]) -> float:
    """The cells in such a kernel, from the first request to the last answer."""
    return in_kernel(cells)[1]


def in_kernel(cells: list[str]) -> tuple[float, float]:
    """Seconds in all, and of the cells."""
    with kernel_folders():
        started = time.perf_counter()
        manager, client = start_new_kernel(kernel_name="python3")
        ready = time.perf_counter()
        for cell in cells:
            client.execute_interactive(cell, timeout=CELL_SECONDS, output_hook=lambda _: None)
        done = time.perf_counter()
        client.stop_channels()
        manager.shutdown_kernel()
        return time.perf_counter() - started, done - ready


def written(folder: Path, cells: list[str]) -> Path:
    """A notebook of *cells*."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(each) for each in cells],
        metadata={"kernelspec": SPEC, "language_info": {"name": "python"}},
    )
    nbformat.write(notebook, folder / "work.ipynb")
    return folder / "work.ipynb"


def empty(folder: Path) -> Path:
    """*folder*, made."""
    folder.mkdir()
    return folder
