"""The processes of steps, when something that a step has started outlives their guard."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from pipelines.engine import JobLimits
from pipelines.engine.kernels import process
from pipelines.engine.kernels.process import KernelProcess
from pipelines.planning.bindings import Bindings
from pipelines.runner import child, children, processes
from pipelines.runner.assignment import Assignment, Result
from pipelines.runner.children import ChildPool
from pipelines.runner.processes import run_process
from pipelines.states import State
from tests.services.workbench import wait_until

BOUND_SECONDS = 8.0  # less than the guard would be given
LEAVES_A_CHILD = """
import os, signal, subprocess
from pathlib import Path

def work() -> None:
    Path(__file__).with_name("left").write_text(str(subprocess.Popen(["sleep", "60"]).pid))
    print("until here", flush=True)
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
"""


def test_the_stop_of_a_kernel_waits_for_nobody_who_has_outlived_its_guard(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "LEFT_SECONDS", 0.01)

    async def stopped() -> KernelProcess:
        command = ["sh", "-c", "sleep 60 & echo $!; wait"]
        kernel = KernelProcess(command, environment=os.environ, folder=tmp_path, private=tmp_path)
        async with asyncio.timeout(BOUND_SECONDS):
            await kernel.start()
            await asyncio.to_thread(wait_until, lambda: kernel.printed().endswith("\n"), BOUND_SECONDS, "its line")
            kernel._guard.kill()
            await kernel.stop()
        return kernel

    left = int(asyncio.run(stopped()).printed())

    os.kill(left, signal.SIGKILL)  # it was there


def test_what_a_function_returns_is_cut_in_no_secret():
    text = "x" * (child.TEXT_CHARACTERS - 4) + "canary-0123"

    kept = child._kept({"state": "succeeded", "text": text}, {"s": "canary-0123"})

    assert kept["text"].endswith("x[sec")


def test_a_step_whose_guard_was_killed_ends_whatever_it_has_left_behind(tmp_path, monkeypatch):
    for module in (children, processes):
        monkeypatch.setattr(module, "LEFT_SECONDS", 0.1)
    (tmp_path / "leaving.py").write_text(LEAVES_A_CHILD)
    folder = tmp_path / "attempt"
    folder.mkdir()
    assignment = Assignment(
        kind="function", target="leaving:work", roots=(tmp_path,), file=None, folder=folder,
        bindings=Bindings((), {}), limits=JobLimits(),
    )  # fmt: skip

    async def ran() -> Result:
        async with asyncio.timeout(BOUND_SECONDS), ChildPool(0, environment=os.environ) as pool:
            return await run_process(assignment, children=pool, cancel=asyncio.Event())

    result = asyncio.run(ran())

    os.kill(int(Path(tmp_path / "left").read_text()), signal.SIGKILL)  # it was there
    assert (result.state, result.last_lines) == (State.KERNEL_DIED, ("until here",))
