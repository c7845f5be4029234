"""What a kernel of Python is told before its first cell: folder, environment and secrets.

They go over a Unix socket in the kernel's private folder, once. The code that the kernel runs for
it says only where that socket is. It makes a module `workbench_run` in the kernel, so that the
environment of the notebook needs no package of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from workbench.masking import secret_forms

MODULE = "workbench_run"
SOCKET = "handover"

# The trace of a crash goes where the process wrote before ipykernel took its streams, which it cannot serve then.
_CODE = '''\
def _workbench_take_over(path):
    import atexit, faulthandler, json, os, socket, sys, types
    # Handlers run from the last to the first: what the notebook's print, and its threads before them, is sent, too.
    atexit.register(lambda: (sys.stdout.flush(), sys.stderr.flush()))
    faulthandler.enable(getattr(sys.stderr, "_original_stdstream_copy", 2), all_threads=False)
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(path)
        given = json.loads(b"".join(iter(lambda: channel.recv(65536), b"")))
    os.environ.update(given["environment"])
    os.chdir(given["folder"])
    try:
        from workbench.logs.beginning import begin_step_logs
    except Exception:
        pass
    else:
        begin_step_logs(os.environ)
    def secret(name):
        """The secret *name* of this run."""
        if name not in given["secrets"]:
            raise LookupError(f"this run has no secret {{name!r}}")
        return given["secrets"][name]
    def is_running(process):
        try:
            return process.status() != "zombie"
        except Exception:
            return False
    # At its end ipykernel ends what was started, and takes what has ended then, as nobody waits for it, for running:
    # it would try for half a minute. Other kernels of Python are left as they are.
    try:
        kernel = get_ipython().kernel
        children = kernel._process_children
        kernel._process_children = lambda: [each for each in children() if is_running(each)]
    except Exception:
        pass
    module = types.ModuleType({module!r}, "What this run of the notebook was given.")
    module.secret = secret
    module.forms = tuple(form.encode("utf-8", "surrogatepass") for form in given["forms"])
    sys.modules[{module!r}] = module
try:
    _workbench_take_over({path!r})
finally:
    del _workbench_take_over
'''


def secret_reference(name: str) -> str:
    """The expression that is the secret *name* in a cell of a notebook that runs."""
    return f'__import__("{MODULE}").secret({json.dumps(name)})'


def handover_code(private: Path) -> str:
    """What the kernel runs to fetch what `serve_handover` gives."""
    return _CODE.format(module=MODULE, path=str(private / SOCKET))


@asynccontextmanager
async def serve_handover(
    private: Path,
    *,
    folder: Path,
    environment: Mapping[str, str],
    secrets: Mapping[str, SecretStr],
    hidden: Mapping[str, SecretStr],
) -> AsyncIterator[None]:
    """Give the kernel with the folder *private* what it needs, to the first that asks, while the block runs."""
    given = {
        "folder": str(folder),
        "environment": dict(environment),
        "secrets": {name: each.get_secret_value() for name, each in secrets.items()},
        # By which a checkpoint tells what it must not write.
        "forms": sorted(
            {form for each in (*secrets.values(), *hidden.values()) for form in secret_forms(each.get_secret_value())}
        ),
    }

    async def give(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.close()  # for one use
        writer.write(json.dumps(given).encode())
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    path = private / SOCKET
    server = await asyncio.start_unix_server(give, path)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)
