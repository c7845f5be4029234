"""A real kernel with the workbench's extension, driven as JupyterLab does."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jupyter_client import BlockingKernelClient, KernelManager

from pipelines.engine import kernel_folders

READY_SECONDS = 90
CELL_SECONDS = 90


@dataclass
class Ran:
    """What a cell has put out."""

    printed: str = ""
    shown: list[Mapping[str, str]] = field(default_factory=list)  #: by MIME type, in their order
    updates: list[Mapping[str, str]] = field(default_factory=list)
    error: str = ""  #: what is shown of it
    error_name: str = ""

    @property
    def text(self) -> str:
        """The last table in plain text."""
        return next((each["text/plain"] for each in reversed(self.shown) if "text/html" in each), "")

    @property
    def tables(self) -> list[str]:
        return [each["text/html"] for each in self.shown if "text/html" in each]

    @property
    def has_buttons(self) -> bool:
        return any("application/vnd.jupyter.widget-view+json" in each for each in self.shown)


class RunningKernel:
    """`run` gives what a cell has put out, `complete` what is proposed at the end of a text."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self._manager, self._client = manager, client

    def run(self, code: str, *, watched: bool = True, interrupt_when: Callable[[Ran], bool] = lambda _: False) -> Ran:
        """Run a cell. *watched*: as JupyterLab asks for it; otherwise as papermill does."""
        request = self._client.execute(code, allow_stdin=watched)
        ran, deadline = Ran(), time.monotonic() + CELL_SECONDS
        is_interrupted = False
        while time.monotonic() < deadline:
            if not is_interrupted and interrupt_when(ran):
                is_interrupted = True
                self._manager.interrupt_kernel()
            try:
                message = self._client.get_iopub_msg(timeout=0.2)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            if _is_idle(message):
                self._answer(request)
                return ran
            _take(ran, message["msg_type"], message["content"])
        raise TimeoutError(f"{code} runs for more than {CELL_SECONDS} s")

    def complete(self, code: str, behind: str = "") -> list[str]:
        """What is proposed at the end of *code*, with *behind* behind the cursor."""
        request = self._client.complete(code + behind, len(code))
        return list(self._answer(request)["matches"])

    def _answer(self, request: str) -> dict[str, Any]:
        while True:
            message = self._client.get_shell_msg(timeout=CELL_SECONDS)
            if message["parent_header"].get("msg_id") == request:
                return message["content"]


@contextmanager
def running_kernel(environment: Mapping[str, str]) -> Iterator[RunningKernel]:
    """A kernel of its own, which ends with this."""
    with kernel_folders():
        manager = KernelManager(kernel_name="python3", transport="ipc")
        manager.start_kernel(env={**os.environ, **environment})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=READY_SECONDS)
        yield RunningKernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _is_idle(message: Mapping[str, Any]) -> bool:
    return message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"


def _take(ran: Ran, kind: str, content: Mapping[str, Any]) -> None:
    if kind == "stream":
        ran.printed += content["text"]
    elif kind in ("display_data", "execute_result"):
        ran.shown.append(content["data"])
    elif kind == "update_display_data":
        ran.updates.append(content["data"])
    elif kind == "error":
        ran.error, ran.error_name = "\n".join(content["traceback"]), content["ename"]
