"""A real Jupyter server with the configuration that users' servers have, and no hub.

with running_jupyter(tmp_path) as server:
    server.call("GET", "api/contents")
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.services.browser import send
from tests.services.process_tree import stop
from tests.services.workbench import ROOT, environment, wait_until
from workbench.runtime.kernels import jupyter_folders
from workbench.runtime.ports import any_free

UP_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class JupyterServer:
    """A server that answers."""

    root: Path  #: of the files that it shows
    url: str
    token: str = field(repr=False)

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request with the server's token."""
        return send(method, f"{self.url}/{path}", token=self.token, **options)


@contextmanager
def running_jupyter(folder: Path) -> Iterator[JupyterServer]:
    """Start the server with the files of *folder*/files, and stop it at the end."""
    root, token, port = folder / "files", secrets.token_hex(16), any_free()
    for each in (root, folder / "home"):
        each.mkdir(exist_ok=True)
    server = JupyterServer(root=root, url=f"http://127.0.0.1:{port}", token=token)
    variables = {
        **jupyter_folders(),
        "HOME": str(folder / "home"),
        "JUPYTER_TOKEN": token,
        "PYTHONPATH": str(ROOT),
        "WORKBENCH_SPARK_REMOTE": "sc://localhost:1",
    }
    options = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", f"--ServerApp.root_dir={root}", "--allow-root"]
    log = folder / "jupyter.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", "--no-browser", *options],
            env=environment(folder / "home", **variables),
            stdout=output,
            stderr=output,
            cwd=folder,
            start_new_session=True,
        )
    try:
        wait_until(lambda: _answers(server) or process.poll() is not None, UP_SECONDS, "the server to answer")
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        yield server
    finally:
        stop(process)


def _answers(server: JupyterServer) -> bool:
    with suppress(httpx.HTTPError):
        return server.call("GET", "api").status_code == 200
    return False
