"""One notebook in a real kernel: what it leaves, how it can end, and that each end is said as it was."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from urllib.parse import quote

import nbformat
import psutil
import pytest

from pipelines.engine import Checkpoints, Earlier, JobLimits, NotebookJob, run_notebook
from pipelines.engine.kernels.pool import KernelPool, PoolLimits
from pipelines.engine.record.events import Kind, read_events
from pipelines.engine.record.notebook import read_notebook
from pipelines.states import State
from tests.services.canaries import files_with
from tests.services.keysets import make_keys, turn
from tests.services.notebooks import (
    is_printing,
    make_job,
    printed,
    ran,
    read_output,
    run_job,
    secrets,
    statuses,
    write_notebook,
)
from tests.services.workbench import wait_until
from workbench.errors import NotebookFailed, WorkbenchError

COUNTING = "import time\nfor second in range(600):\n    print('line', second, flush=True)\n    time.sleep(0.05)"
GONE_SECONDS = 20
STREAMS = ("stdout", "stderr")


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_notebook_runs_with_its_parameters_and_its_output_is_private(tmp_path):
    job = make_job(
        tmp_path, "print(day)", "n * 2", declared="day = 'none'\nn = 0", parameters={"day": "2013-01-01", "n": 21}
    )

    outcome = ran(job)

    notebook = read_output(job.output)
    nbformat.validate(nbformat.from_dict(notebook))
    assert (outcome.state, outcome.output, outcome.message) == (State.SUCCEEDED, job.output, "")
    assert outcome.peak_memory_bytes > 20_000_000
    assert notebook["cells"][1]["metadata"]["tags"] == ["injected-parameters"]
    assert printed(notebook, 2) == "2013-01-01\n"
    assert notebook["cells"][3]["outputs"][0]["data"]["text/plain"] == "42"
    assert statuses(notebook) == ["completed"] * 4
    assert notebook["metadata"]["papermill"]["parameters"] == {"day": "2013-01-01", "n": 21}
    assert notebook["metadata"]["papermill"]["exception"] is None
    assert [stat.S_IMODE(each.stat().st_mode) for each in (job.output, job.log)] == [0o600, 0o600]


def test_what_the_end_of_python_puts_out_and_writes_belongs_to_the_run(tmp_path):
    leaving = (
        "import atexit, sys, threading, time\n"
        "def work():\n    for line in range(2000):\n        print(line)\n    time.sleep(0.01)\n    print('last')\n"
        "atexit.register(lambda: print('bye'))\natexit.register(lambda: print('bye', file=sys.stderr))\n"
        "threading.Thread(target=work).start()\nkept = open('late.txt', 'w')\nkept.write('flushed')"
    )

    job = make_job(tmp_path, leaving)
    ran(job)

    streams = [each for each in read_output(job.output)["cells"][0]["outputs"] if each["output_type"] == "stream"]
    texts = ["".join(line for each in streams if each["name"] == name for line in each["text"]) for name in STREAMS]
    assert texts[0].splitlines() == [*map(str, range(2000)), "last", "bye"]
    assert texts[1] == "bye\n"
    assert (tmp_path / "late.txt").read_text() == "flushed"


LINGERING = (
    "import pathlib, threading, time\n"
    "def write():\n    time.sleep({seconds})\n    pathlib.Path('late.txt').write_text('whole')\n"
    "threading.Thread(target=write).start()\nprint('started', flush=True)"
)


def test_a_thread_that_still_writes_after_the_last_cell_is_waited_for(tmp_path):
    outcome = ran(make_job(tmp_path, LINGERING.format(seconds=7)))

    assert (outcome.state, outcome.message) == (State.SUCCEEDED, "")
    assert (tmp_path / "late.txt").read_text() == "whole"


@pytest.mark.parametrize(
    ("leaving", "signal_name", "code", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL", None, "was killed by SIGKILL"),
        ("os._exit(7)", "", 7, "ended with code 7"),
    ],
)
def test_a_kernel_that_dies_in_an_exit_handler_is_no_success(tmp_path, leaving, signal_name, code, how):
    job = make_job(tmp_path, f"import atexit, os, signal\natexit.register(lambda: {leaving})", "print('done')")

    outcome = ran(job)

    notebook = read_output(job.output)
    assert (outcome.state, outcome.signal, outcome.exit_code) == (State.KERNEL_DIED, signal_name, code)
    assert outcome.message.startswith(f"the kernel {how} after its last cell")
    assert outcome.cell is None
    assert statuses(notebook) == ["completed"] * 2
    assert notebook["metadata"]["papermill"]["exception"] is True


def test_who_cancels_while_the_kernel_ends_does_not_wait_for_it(tmp_path):
    job = make_job(tmp_path, LINGERING.format(seconds=600))

    outcome = ran(job, cancel_when=lambda event: event.kind is Kind.CELL_ENDED)

    assert (outcome.state, outcome.cell) == (State.CANCELLED, None)
    assert "after its last cell" in outcome.message
    assert outcome.seconds < 60


def test_a_kernel_that_does_not_end_in_the_time_of_the_notebook_is_no_success(tmp_path):
    outcome = ran(make_job(tmp_path, LINGERING.format(seconds=600), limits=JobLimits(run_seconds=6)))

    assert (outcome.state, outcome.limit) == (State.TIMED_OUT, "run")
    assert "after its last cell within 6 s" in outcome.message
    assert not (tmp_path / "late.txt").exists()


def test_displays_are_updated_and_cleared_as_in_a_browser(tmp_path):
    updating = "shown = display('before', display_id=True)\nshown.update('after')"
    clearing = "from IPython.display import clear_output\nprint('old')\nclear_output(wait=True)\nprint('new')"
    job = make_job(tmp_path, updating, clearing)

    ran(job)

    notebook = read_output(job.output)
    assert [each["data"]["text/plain"] for each in notebook["cells"][0]["outputs"]] == ["'after'"]
    assert printed(notebook, 1) == "new\n"


def test_a_cell_that_raises_is_named_with_its_last_lines(tmp_path):
    job = make_job(tmp_path, "print('before')\n1 / 0", "print('never')")

    outcome = ran(job)

    notebook = read_output(job.output)
    assert (outcome.state, outcome.cell, outcome.error_name) == (State.FAILED, 0, "ZeroDivisionError")
    assert outcome.message == "cell [1] raised ZeroDivisionError: division by zero"
    assert outcome.last_lines[0] == "before"
    assert statuses(notebook) == ["failed", "pending"]
    assert notebook["metadata"]["papermill"]["exception"] is True


def test_a_cell_that_may_raise_does_not_end_the_notebook_and_exit_0_does(tmp_path):
    job = make_job(tmp_path, "1 / 0", "import sys\nsys.exit(0)", "print('never')")
    notebook = nbformat.read(job.notebook, as_version=4)
    notebook.cells[0].metadata["tags"] = ["raises-exception"]
    nbformat.write(notebook, job.notebook)

    outcome = ran(job)

    assert outcome.state is State.SUCCEEDED
    assert statuses(read_output(job.output))[2] == "pending"


def test_a_killed_kernel_is_named_with_signal_and_memory(tmp_path):
    job = make_job(
        tmp_path,
        "taken = bytearray(200_000_000)\nprint('big', flush=True)\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "1",
    )

    outcome = ran(job)

    notebook = read_output(job.output)
    assert (outcome.state, outcome.signal, outcome.exit_code) == (State.KERNEL_DIED, "SIGKILL", None)
    assert outcome.peak_memory_bytes > 200_000_000
    assert "killed by SIGKILL" in outcome.message
    assert statuses(notebook) == ["failed", "pending"]
    assert notebook["cells"][0]["outputs"][-1]["ename"] == "KernelDied"
    assert notebook["metadata"]["workbench"]["state"] == "kernel_died"


def test_a_kernel_that_leaves_by_itself_has_died_with_its_code(tmp_path):
    outcome = ran(make_job(tmp_path, "taken = bytearray(100_000_000)\nimport os\nos._exit(7)"))

    assert (outcome.state, outcome.exit_code, outcome.signal) == (State.KERNEL_DIED, 7, "")
    assert outcome.peak_memory_bytes > 100_000_000


def test_a_crash_leaves_what_python_wrote_of_it(tmp_path):
    outcome = ran(make_job(tmp_path, "import faulthandler\nfaulthandler._sigsegv()"))

    assert (outcome.state, outcome.signal) == (State.KERNEL_DIED, "SIGSEGV")
    assert any("Segmentation fault" in line for line in outcome.last_lines)


def test_what_was_printed_until_the_cancel_is_kept(tmp_path):
    job = make_job(tmp_path, COUNTING, "1")

    outcome = ran(job, cancel_when=is_printing)

    notebook = read_output(job.output)
    assert (outcome.state, outcome.cell) == (State.CANCELLED, 0)
    assert printed(notebook, 0).startswith("line 0\n")
    assert notebook["cells"][0]["outputs"][-1]["ename"] == "Cancelled"
    assert "KeyboardInterrupt" in [each.get("ename") for each in notebook["cells"][0]["outputs"]]


def test_a_cell_that_does_not_listen_to_interrupts_is_killed(tmp_path):
    stubborn = (
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('here', flush=True)\ntime.sleep(600)"
    )
    job = make_job(tmp_path, stubborn, limits=JobLimits(grace_seconds=0.5))

    outcome = ran(job, cancel_when=is_printing)

    assert outcome.state is State.CANCELLED
    assert printed(read_output(job.output), 0) == "here\n"


@pytest.mark.parametrize(("limits", "limit"), [(JobLimits(cell_seconds=4), "cell"), (JobLimits(run_seconds=4), "run")])
def test_time_that_is_up_says_which_limit_it_was(tmp_path, limits, limit):
    job = make_job(tmp_path, "1", COUNTING, limits=limits)

    outcome = ran(job)

    assert (outcome.state, outcome.limit, outcome.cell) == (State.TIMED_OUT, limit, 1)
    assert "not done within 4 s" in outcome.message
    assert printed(read_output(job.output), 1).startswith("line 0\n")


def test_what_the_notebook_has_started_is_gone_with_its_kernel(tmp_path):
    job = make_job(
        tmp_path,
        "import subprocess\n"
        "inside = subprocess.Popen(['sleep', '600'])\n"
        "outside = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print(inside.pid, outside.pid)",
        # ipykernel alone would try for half a minute to end what has ended.
        limits=JobLimits(run_seconds=20),
    )

    outcome = ran(job)

    assert outcome.state is State.SUCCEEDED

    for pid in map(int, printed(read_output(job.output), 0).split()):
        wait_until(lambda pid=pid: is_gone(pid), GONE_SECONDS, f"the end of {pid}")


def test_a_kernel_that_is_not_there_is_no_fault_of_the_notebook(tmp_path):
    job = make_job(tmp_path, "1", kernel="fortran")

    outcome = ran(job)

    assert outcome.state is State.INFRASTRUCTURE_ERROR
    assert outcome.message == "there is no kernel 'fortran'"
    assert "python3" in outcome.remedy
    assert statuses(read_output(job.output)) == ["pending"]
    assert read_output(job.output)["metadata"]["papermill"]["exception"] is True


def test_secrets_reach_the_cell_and_nothing_that_is_written(tmp_path):
    value = "canary/7+QmZ_änderung"
    encoded = base64.b64encode(b"user:" + value.encode()).decode()
    showing = (
        "import base64, urllib.parse, html\nassert len(token) == 21\n"
        "print(token, base64.b64encode(b'user:' + token.encode()).decode(), urllib.parse.quote(token, safe=''))\n"
        "import sys\nsys.stdout.write(token[:9]); sys.stdout.flush(); sys.stdout.write(token[9:]); sys.stdout.flush()\n"
        "{'key ' + token: [token, repr(token), token.encode().hex()]}"
    )
    job = make_job(tmp_path, showing, "raise ValueError(token)", declared="token = ''", secrets=secrets(token=value))
    seen = []

    outcome = ran(job, on_event=lambda event: seen.append(repr(event)))

    written = [job.log.read_text(), job.output.read_text(), repr(outcome), repr(job), "".join(seen)]
    assert outcome.state is State.FAILED
    assert outcome.error_value == "[secret token]"
    # The middle of the encoded form is the same whatever stands before it.
    for form in (value, value[9:], encoded[8:-4], quote(value, safe=""), value.encode().hex()):
        assert [form in each for each in written] == [False] * len(written)


def modes_of_waiting(kernels: KernelPool) -> set[int]:
    """Of the folders in which kernels that wait are."""
    waiting = kernels._shelves["python3"].waiting
    return {Path(f"/proc/{each.pid}/cwd").stat().st_mode & 0o777 for each in waiting}


def test_a_warm_kernel_is_handed_folder_environment_and_secrets_and_is_used_once(tmp_path):
    (tmp_path / "place").mkdir()
    showing = "import os\nprint(os.getpid(), os.getcwd(), os.environ['DAY'], token == 'canary-0123')"
    fields = {"folder": tmp_path / "place", "environment": {"DAY": "monday"}, "secrets": secrets(token="canary-0123")}
    jobs = [make_job(tmp_path, showing, name=name, declared="token = ''", **fields) for name in ("one", "two")]

    async def run_both() -> None:
        async with KernelPool(PoolLimits(kernels=1), environment=os.environ) as kernels:
            await kernels.warm("python3")
            for job in jobs:
                assert kernels.waiting("python3") == 1
                # Python imports from where it starts: nobody else may write there.
                assert modes_of_waiting(kernels) == {0o700}
                assert (await run_job(job, kernels=kernels)).state is State.SUCCEEDED
                await kernels.warm("python3")

    asyncio.run(run_both())

    pids = set()
    for job in jobs:
        pid, *rest = printed(read_output(job.output), 2).split()
        pids.add(pid)
        assert rest == [str(tmp_path / "place"), "monday", "True"]
    assert len(pids) == 2


def test_a_warm_kernel_that_died_is_not_noticed_by_who_takes_one(tmp_path):
    job = make_job(tmp_path, "print(1)")

    async def run() -> State:
        async with KernelPool(PoolLimits(kernels=1), environment=os.environ) as kernels:
            await kernels.warm("python3")
            kernel = kernels._shelves["python3"].waiting[0]
            os.kill(kernel.pid, 9)
            await asyncio.wait({kernel.ended}, timeout=10)
            return (await run_job(job, kernels=kernels)).state

    assert asyncio.run(run()) is State.SUCCEEDED


def test_a_kernel_that_waits_and_answers_no_more_is_no_fault_of_the_notebook(tmp_path):
    job = make_job(tmp_path, "print(1)", limits=JobLimits(start_seconds=2))

    async def run() -> tuple[int, str]:
        async with KernelPool(PoolLimits(kernels=1), environment=os.environ) as kernels:
            await kernels.warm("python3")
            pid = kernels._shelves["python3"].waiting[0].pid
            os.kill(pid, signal.SIGSTOP)
            outcome = await run_job(job, kernels=kernels)
            assert outcome.state is State.INFRASTRUCTURE_ERROR
            return pid, outcome.message

    pid, message = asyncio.run(run())
    assert message == "the kernel 'python3' does not answer any more"
    assert is_gone(pid)


def test_who_cancels_the_coroutine_leaves_no_kernel(tmp_path):
    job = make_job(tmp_path, "import os\nprint(os.getpid(), flush=True)", COUNTING)

    async def run() -> int:
        printing = asyncio.get_running_loop().create_future()

        def watch(event) -> None:
            if is_printing(event) and not printing.done():
                printing.set_result(int(event.content["text"]))

        execution = asyncio.create_task(run_job(job, on_event=watch))
        pid = await printing
        execution.cancel()
        with pytest.raises(asyncio.CancelledError):
            await execution
        return pid

    assert is_gone(asyncio.run(run()))
    assert read_notebook(job.log)["metadata"]["workbench"]["state"] == "lost"


def test_a_kernel_that_cannot_start_says_what_it_wrote(tmp_path, monkeypatch):
    broken = tmp_path / "share" / "kernels" / "broken"
    broken.mkdir(parents=True)
    argv = [sys.executable, "-c", "import sys; sys.exit('no such library')", "{connection_file}"]
    (broken / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "B", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))

    outcome = ran(make_job(tmp_path, "1", kernel="broken"))

    assert outcome.state is State.INFRASTRUCTURE_ERROR
    assert "ended with code 1. It wrote:\n    no such library" in outcome.message


def test_executions_side_by_side_keep_apart(tmp_path):
    jobs = [make_job(tmp_path, f"x = {n}", "import time; time.sleep(0.2)", "print(x)", name=f"n{n}") for n in range(10)]

    async def run_all() -> list[State]:
        async with KernelPool(PoolLimits(kernels=0), environment=os.environ) as kernels:
            return [each.state for each in await asyncio.gather(*(run_job(job, kernels=kernels) for job in jobs))]

    assert asyncio.run(run_all()) == [State.SUCCEEDED] * 10
    assert [printed(read_output(job.output), 2) for job in jobs] == [f"{n}\n" for n in range(10)]


def test_output_beyond_its_limit_is_counted_and_left_out(tmp_path):
    flood = "for _ in range(100):\n    print('x' * 999_999)\nprint('the end')"
    job = make_job(tmp_path, flood, "print('still here')", limits=JobLimits(cell_output_bytes=1_000_000))
    before = psutil.Process().memory_info().rss

    outcome = ran(job)

    text = printed(read_output(job.output), 0)
    assert outcome.state is State.SUCCEEDED
    assert "[99,000,008 bytes of further output were left out]" in text
    assert outcome.last_lines[-2:] == ("the end", "still here")
    assert job.log.stat().st_size < 1_100_000
    assert psutil.Process().memory_info().rss - before < 600_000_000


def test_text_that_is_no_utf_8_survives(tmp_path):
    # ipykernel cannot send a lone surrogate: what it is about to send is lost in the kernel, and nothing else is.
    lost = r"import os, time; print('\ud83d'); time.sleep(0.5)"
    raw = r"_ = os.write(1, b'before \xff\xfe raw\n'); time.sleep(0.5)"
    job = make_job(tmp_path, lost, raw, r"print('\0 \x1b[31m ü 漢')")

    outcome = ran(job)

    notebook = read_output(job.output)
    assert outcome.state is State.SUCCEEDED
    # ipykernel finds out by time which cell has written past Python.
    assert "before \ufffd\ufffd raw\n" in "".join(printed(notebook, number) for number in range(3))
    assert "\0 \x1b[31m ü 漢\n" in printed(notebook, 2)


EXECUTING = """
import sys
from pathlib import Path
from tests.services.notebooks import make_job, ran, is_printing
folder = Path(sys.argv[1])
cells = ["import os, subprocess\\nchild = subprocess.Popen(['sleep', '600'], start_new_session=True)\\nprint(os.getpid(), child.pid)", sys.argv[2]]
ran(make_job(folder, *cells), on_event=lambda event: is_printing(event) and print(event.content["text"], end="", flush=True))
"""


def test_a_killed_process_takes_its_kernel_along_and_loses_no_line(tmp_path):
    command = [sys.executable, "-c", EXECUTING, str(tmp_path), COUNTING]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        lines = [process.stdout.readline() for _ in range(10)]
        process.kill()
        lines += process.stdout.readlines()

    for pid in pids:
        wait_until(lambda pid=pid: is_gone(pid), GONE_SECONDS, f"the end of {pid}")
    with (tmp_path / "work.jsonl").open("ab") as log:
        log.write(b'{"at": 1, "kind": "outp')
    notebook = read_notebook(tmp_path / "work.jsonl")
    assert printed(notebook, 1).startswith("".join(line for line in lines if line.endswith("\n")))
    assert statuses(notebook) == ["completed", "failed"]
    assert notebook["metadata"]["workbench"]["state"] == "lost"
    assert not (tmp_path / "out").exists()


def test_lines_are_told_while_their_cell_runs(tmp_path):
    # The cell goes on when its line was told, and not before.
    waiting = f"""
    import pathlib, time
    for number in range(3):
        print(number, flush=True)
        while not pathlib.Path({str(tmp_path)!r}, f"told-{{number}}").exists():
            time.sleep(0.01)
    """

    def watch(event) -> None:
        for number in event.content["text"].split() if is_printing(event) else ():
            (tmp_path / f"told-{number}").touch()

    outcome = ran(make_job(tmp_path, dedent(waiting), limits=JobLimits(run_seconds=60)), on_event=watch)

    assert outcome.state is State.SUCCEEDED


def test_run_notebook_names_the_cell_that_raised_and_leaves_only_the_notebook(tmp_path):
    notebook = write_notebook(tmp_path / "fails.ipynb", "1 / n", parameters="n = 1")

    with pytest.raises(NotebookFailed, match=r"cell 3 of fails\.ipynb raised ZeroDivisionError: division by zero"):
        run_notebook(notebook, tmp_path / "out" / "fails.ipynb", {"n": 0})

    assert [each.name for each in (tmp_path / "out").iterdir()] == ["fails.ipynb"]
    with pytest.raises(WorkbenchError, match="does not take absent"):
        run_notebook(notebook, tmp_path / "out" / "other.ipynb", {"absent": 1})


def test_papermill_itself_runs_notebooks_by_this_engine_and_never_calls_a_dead_kernel_completed(tmp_path):
    import papermill

    good = write_notebook(tmp_path / "good.ipynb", "print(n)", parameters="n = 1")
    dead = write_notebook(tmp_path / "dead.ipynb", "import os\nos._exit(3)", "1")
    options = {"engine_name": "workbench", "language": "python", "progress_bar": False}

    papermill.execute_notebook(good, tmp_path / "good-out.ipynb", {"n": 5}, **options)
    with pytest.raises(NotebookFailed, match="ended with code 3"):
        papermill.execute_notebook(dead, tmp_path / "dead-out.ipynb", **options)

    assert "5\n" in read_output(tmp_path / "good-out.ipynb")["cells"][2]["outputs"][0]["text"]
    notebook = read_output(tmp_path / "dead-out.ipynb")
    assert statuses(notebook) == ["failed", "skipped"]
    assert notebook["metadata"]["papermill"]["exception"] is True
    assert not [*tmp_path.glob(".*")]


def test_the_log_tells_cells_in_their_order(tmp_path):
    job = make_job(tmp_path, "print(1)", "2")

    ran(job)

    kinds = [(event.kind, event.cell) for event in read_events(job.log)]
    cells = [(kind, n) for n in (0, 1) for kind in (Kind.CELL_STARTED, Kind.OUTPUT, Kind.CELL_ENDED)]
    assert kinds == [(Kind.STARTED, None), *cells, (Kind.ENDED, None)]


# What stands before the checkpoint says in a file that it was executed.
STEPPED = (
    "# checkpoint: frame, total\nimport pathlib, pandas as pd\n"
    "print('heavy work', file=pathlib.Path('executed').open('a'))\nprint('worked')\n"
    "frame = pd.DataFrame({'n': [1, 2, 3]})\ntotal = int(frame.n.sum())"
)


def attempt_of(place: Path, number: int, *cells: str, earlier: tuple[int, ...] = (), **fields) -> NotebookJob:
    """An attempt of a notebook with parameters, a cell of imports, a checkpoint, and *cells* behind it."""
    book = nbformat.read(write_notebook(place / "work.ipynb", "import math", STEPPED, *cells, parameters="day = ''"), 4)
    book.cells[1].metadata["tags"], book.cells[2].metadata["tags"] = ["setup"], ["checkpoint"]
    nbformat.write(book, place / "work.ipynb")
    folders = {each: place / f"load.{each}" for each in (number, *earlier)}
    checkpoints = Checkpoints(
        folder=folders[number],
        marks=("checkpoint",),
        earlier=tuple(Earlier(number=each, folder=folders[each], log=folders[each] / "log.jsonl") for each in earlier),
    )
    return NotebookJob(
        notebook=place / "work.ipynb", output=folders[number] / "output.ipynb", log=folders[number] / "log.jsonl",
        checkpoints=checkpoints, **{"parameters": {"day": "monday"}, **fields},
    )  # fmt: skip


def times_executed(place: Path) -> int:
    return len((place / "executed").read_text().splitlines())


def test_what_stands_before_a_checkpoint_is_not_executed_again_and_the_notebook_says_so(tmp_path):
    failed = ran(attempt_of(tmp_path, 1, "raise LookupError('later')"))
    killed = ran(attempt_of(tmp_path, 2, "import os\nos.kill(os.getpid(), 9)", earlier=(1,)))
    # The second attempt has come to no checkpoint of its own; the cell behind it has been corrected.
    job = attempt_of(tmp_path, 3, "print(day, total, list(frame.n), math.pi > 3)\nsorted(globals())", earlier=(2, 1))
    outcome = ran(job)

    assert [each.state for each in (failed, killed, outcome)] == [State.FAILED, State.KERNEL_DIED, State.SUCCEEDED]
    assert [each.resumed_from for each in (failed, killed, outcome)] == [None, 1, 1]
    assert (outcome.resumed_cell, outcome.not_resumed, times_executed(tmp_path)) == (3, "", 1)
    notebook = read_output(job.output)
    nbformat.validate(nbformat.from_dict(notebook))
    assert statuses(notebook) == ["completed", "completed", "completed", "skipped", "completed"]
    assert printed(notebook, 3) == "[not executed in this attempt, but in attempt 1: ../load.1/output.ipynb]\nworked\n"
    executed_in = notebook["cells"][3]["metadata"]["workbench"]["executed_in"]
    assert (job.output.parent / executed_in["notebook"]).resolve() == failed.output
    assert printed(notebook, 4) == "monday 6 [1, 2, 3] True\n"
    assert "kept" not in str(notebook["cells"][4]["outputs"][1]), "nothing of ours is left in the notebook's names"
    assert notebook["metadata"]["workbench"]["resumed_from"] == 1


def test_a_checkpoint_of_an_encrypted_attempt_is_nowhere_in_clear_and_is_gone_on_from(tmp_path):
    keys = make_keys(tmp_path / "home")

    def encrypted(number: int, cell: str, *earlier: int) -> NotebookJob:
        job = attempt_of(tmp_path, number, cell, earlier=earlier, keys=keys)
        text = job.notebook.read_text().replace("'n': [1, 2, 3]", "'n': [1, 2, 3], 'text': ''.join(['can', 'ary/x'])")
        job.notebook.write_text(text)
        logs = {each.number: each.folder / "log.jsonl.enc" for each in job.checkpoints.earlier}
        before = tuple(replace(each, log=logs[each.number]) for each in job.checkpoints.earlier)
        return replace(
            job,
            output=job.output.with_name("output.ipynb.enc"),
            log=job.log.with_name("log.jsonl.enc"),
            checkpoints=replace(job.checkpoints, earlier=before),
        )

    failed = ran(encrypted(1, "raise LookupError('later')"))
    assert [each.name for each in tmp_path.rglob("state.enc")] == ["state.enc"]
    assert files_with(tmp_path / "load.1", "canary/x") == []
    turn(keys)
    outcome = ran(encrypted(2, "print(total, list(frame.n), len(frame.text[0]))", 1))

    assert [each.state for each in (failed, outcome)] == [State.FAILED, State.SUCCEEDED]
    assert (outcome.resumed_from, outcome.not_resumed, times_executed(tmp_path)) == (1, "", 1)


def test_what_has_changed_before_the_checkpoint_is_told_and_all_is_executed(tmp_path):
    ran(attempt_of(tmp_path, 1, "raise LookupError('later')"))

    outcome = ran(attempt_of(tmp_path, 2, "1", earlier=(1,), parameters={"day": "sunday"}))

    assert (outcome.state, outcome.resumed_from, times_executed(tmp_path)) == (State.SUCCEEDED, None, 2)
    assert outcome.not_resumed == "the checkpoint of attempt 1: the values of parameters changed since"
    assert read_output(outcome.output)["metadata"]["workbench"]["not_resumed"] == outcome.not_resumed


def test_a_secret_is_not_kept_and_its_variable_is_named(tmp_path):
    job = attempt_of(tmp_path, 1, "1", parameters={}, secrets=secrets(token="canary-4711"))
    text = job.notebook.read_text().replace("total = int(", "total = token + str(")
    job.notebook.write_text(text)

    outcome = ran(job)

    assert (outcome.state, outcome.cell, outcome.error_name) == (State.FAILED, 3, "CheckpointRefused")
    assert outcome.error_value == "the checkpoint carries total, which holds a secret; leave it out"
    everything = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    assert b"canary-4711" not in everything
    assert not [*job.log.parent.rglob("*.arrow")], "what did not become a checkpoint is gone"


def test_a_checkpoint_that_takes_too_long_is_ended_like_its_cell(tmp_path):
    keeping = "# checkpoint: x\nx = 1\nimport os, time\nos.fsync = lambda handle: time.sleep(600)"
    job = attempt_of(tmp_path, 1, limits=JobLimits(cell_seconds=4, grace_seconds=1))
    book = nbformat.read(job.notebook, 4)
    book.cells[2].source = keeping
    nbformat.write(book, job.notebook)

    outcome = ran(job)

    assert (outcome.state, outcome.limit, outcome.cell) == (State.TIMED_OUT, "cell", 3)
    assert not [*job.log.parent.rglob("about.json")]
