"""What a child process does: waits for its order, carries it out, and writes down how that ended.

    python -m pipelines.runner.child < ORDER

What it prints is read by the worker as it comes. The order comes over standard input because
secrets are in it. How it ended goes to a file beside the log, since anything may be printed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.planning.bindings import read_bindings
from workbench.logs.beginning import begin_step_logs
from workbench.security.secrets import write_private

TEXT_CHARACTERS = 100_000


def main() -> int:
    """Carry out one order; exit 1 when it failed."""
    # Until there is an order, an interrupt just ends us.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    text = sys.stdin.buffer.read()
    if not text:
        return 0
    order: dict[str, Any] = json.loads(text)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(order["environment"])
    begin_step_logs(os.environ, component="step")
    sys.path[:0] = order["roots"]
    try:
        found = carry_out(order)
        result = {"state": "succeeded", "text": "" if found is None else repr(found)}
    except BaseException as error:  # noqa: BLE001 - whatever a step raises is its end
        # As in a notebook: who leaves by the front door has succeeded.
        is_exit = isinstance(error, SystemExit) and not error.code
        result = {"state": "succeeded", "text": ""} if is_exit else {"state": "failed", **described(error)}
    sys.stdout.flush()
    write_private(Path(order["result"]), json.dumps(_kept(result, {**order["secrets"], **order["hidden"]})))
    return 0 if result["state"] == "succeeded" else 1


def carry_out(order: Mapping[str, Any]) -> object:
    """Do what the order says; returns what a function returned, or a sentence."""
    values = {**read_bindings(order["bindings"]).values, **order["secrets"]}
    doers: dict[str, Callable[[Mapping[str, Any], dict[str, Any]], object]] = {
        "function": _call,
        "sql": _run_sql,
        "flow": _ingest,
    }
    return doers[order["kind"]](order, values)


def described(error: BaseException) -> dict[str, Any]:
    """An error as a kernel would tell it."""
    from pipelines.runner.assignment import told
    from workbench.errors import WorkbenchError

    message = str(error)
    if isinstance(error, WorkbenchError) and error.remedy:
        message = told(error.message, error.remedy)
    lines = traceback.format_exception(error)
    return {"ename": type(error).__name__, "evalue": message, "traceback": "".join(lines).splitlines()}


def _kept(result: dict[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    kept = _without_secrets(result, secrets)
    # Not cut before: a part of a secret would not be known as such.
    return {**kept, "text": kept["text"][:TEXT_CHARACTERS]} if "text" in kept else kept


def _without_secrets(result: dict[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    # The file outlives a worker that is killed before it has read it.
    if not secrets:
        return result
    from pydantic import SecretStr

    from pipelines.engine.record.redaction import Redactor

    return dict(Redactor({name: SecretStr(each) for name, each in secrets.items()}).cleaned(result))


def _call(order: Mapping[str, Any], values: dict[str, Any]) -> object:
    import importlib

    module, name = order["target"].split(":")
    return getattr(importlib.import_module(module), name)(**values)


def _run_sql(order: Mapping[str, Any], values: dict[str, Any]) -> object:
    from workbench.querying.scanner import parse_statements
    from workbench.settings import Settings
    from workbench.warehouse.queries import run_statements

    settings = Settings.load()
    text = Path(order["file"]).read_text(encoding="utf-8")
    answers = run_statements(settings.warehouse, parse_statements(text, "postgresql"), values, limit=0)
    for number, answer in enumerate(answers, start=1):
        changed = "done" if answer.changed is None else f"{answer.changed:,} rows"
        print(f"statement {number}: {changed}")  # noqa: T201 - the output of the step
    return None


def _ingest(order: Mapping[str, Any], values: dict[str, Any]) -> object:
    from workbench.flows import ingest_flow
    from workbench.ingestion.definition import read_flow
    from workbench.settings import Settings

    done = ingest_flow(Settings.load(), read_flow(Path(order["file"]).parent, order["target"]), lambda _: None)
    print(f"{done.rows:,} rows, {done.dead:,} dead letters in {done.seconds:.1f} s")  # noqa: T201 - the step's output
    return None


if __name__ == "__main__":
    sys.exit(main())
