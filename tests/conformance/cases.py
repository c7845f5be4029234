"""Pipelines that end in every way there is, with what they need; each is run by our worker and by Airflow."""

from __future__ import annotations

from typing import Any

from tests.services.pipelines_project import Site

ONCE: dict[str, Any] = {"retries": {"times": 0}}
MODULE = """\
import datetime, decimal, os, signal, sys, time
from pathlib import Path


def double(number: int) -> int:
    print("doubling", number)
    return number * 2


def fail() -> None:
    print("so far")
    raise ValueError("no")


def every_second(counter: str) -> None:
    path = Path(counter)
    calls = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(calls))
    if calls % 2:
        raise ValueError("each first time")


def leave() -> None:
    sys.exit(3)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep() -> None:
    print("asleep", flush=True)
    time.sleep(600)


def typed(day: datetime.date, amount: decimal.Decimal, names: list[str], ratio: float) -> str:
    return repr((day, amount, names, ratio))


def tell(token: "secret") -> None:
    print("the token is", token)


def letters() -> None:
    print("Zürich 東京 \\N{SNOWMAN}")
    print("to the other", file=sys.stderr)
"""


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"function": f"steps_c:{name}", **more}


def write_cases(site: Site) -> dict[str, dict[str, Any]]:
    """Write them into the project of *site*; gives what each file says, by name."""
    site.module("steps_c", MODULE)
    site.notebook("plain", "x = 2", "print(x)", "x + 1")
    site.notebook("given", "n: int = 1", "print('n', n)", tags=["parameters"])
    site.notebook("fails", "print('before')", "1 / 0", "print('after')")
    site.notebook("dies", "import os, signal", "os.kill(os.getpid(), signal.SIGKILL)")
    site.notebook("sleeps", "import time", "print('asleep', flush=True)\ntime.sleep(600)")
    site.file("sql/make.sql", "DROP TABLE IF EXISTS public.c_made; CREATE TABLE public.c_made AS SELECT 1 AS n;")
    site.file(
        "sql/given.sql",
        "DROP TABLE IF EXISTS public.c_given; CREATE TABLE public.c_given (n int); INSERT INTO public.c_given VALUES (:n), (:n);",
    )
    site.file("sql/fails.sql", "SELECT * FROM public.nothing_here;")
    notebook = {"notebook": "notebooks/plain.ipynb"}
    given = {"notebook": "notebooks/given.ipynb", "parameters": {"n": "${n}"}}
    n = {"n": {"type": "int", "default": 20}}
    typed = {"day": "2013-01-31", "amount": "1.50", "names": ["a", "b'\""], "ratio": "inf"}
    cases: dict[str, dict[str, Any]] = {
        "notebook": {"steps": {"a": notebook}},
        "notebook-given": {"parameters": n, "steps": {"a": given}},
        "function": {"parameters": n, "steps": {"a": function("double", parameters={"number": "${n}"})}},
        "sql": {"steps": {"a": {"sql": "sql/make.sql"}}},
        "sql-given": {"parameters": n, "steps": {"a": {"sql": "sql/given.sql", "parameters": {"n": "${n}"}}}},
        "chain": {"steps": {"a": notebook, "b": function("letters", after=["a"]), "c": {"sql": "sql/make.sql", "after": ["b"]}}},
        "diamond": {"parameters": n, "steps": {
            "a": notebook,
            "b": function("letters", after=["a"]),
            "c": function("double", after=["a"], parameters={"number": "${n}"}),
            "d": {**given, "after": ["b", "c"]},
        }},
        "no-edges": {"steps": {"a": function("letters"), "b": function("letters"), "c": function("letters")}},
        "cell-fails": {"steps": {"a": {"notebook": "notebooks/fails.ipynb", **ONCE}}},
        "function-fails": {"steps": {"a": function("fail", **ONCE), "b": function("letters", after=["a"])}},
        "branch-fails": {"steps": {
            "a": function("fail", **ONCE), "b": function("letters", after=["a"]),
            "c": function("letters"), "d": function("letters", after=["c"]),
        }},
        "end-fails": {"steps": {"a": function("letters"), "b": function("fail", after=["a"], **ONCE)}},
        "sql-fails": {"steps": {"a": {"sql": "sql/fails.sql", **ONCE}}},
        "retry-helps": {"steps": {"a": function(
            "every_second", parameters={"counter": str(site.folder / "counter")},
            retries={"times": 1, "wait": "1s", "on": ["failed"]},
        )}},
        "retry-does-not-help": {"steps": {"a": function("fail", retries={"times": 1, "wait": "1s", "on": ["failed"]})}},
        "retry-of-another-cause": {"steps": {"a": function("fail", retries={"times": 1, "wait": "1s", "on": ["lost"]})}},
        "exits": {"steps": {"a": function("leave", **ONCE)}},
        "kernel-dies": {"steps": {"a": {"notebook": "notebooks/dies.ipynb", **ONCE}}},
        "process-dies": {"steps": {"a": function("die", **ONCE)}},
        "too-long": {"steps": {"a": function("sleep", timeout="2s", **ONCE)}},
        "cell-too-long": {"steps": {"a": {"notebook": "notebooks/sleeps.ipynb", "cell_timeout": "2s", **ONCE}}},
        "types": {"steps": {"a": function("typed", parameters=typed)}},
        "secret": {
            "parameters": {"token": {"type": "secret", "default": f"file:{site.file('token', 'canary-9f3a')}"}},
            "steps": {"a": function("tell", parameters={"token": "${token}"})},
        },
        "rules": {
            "description": 'All "rules" that have no effect here', "owner": "data", "tags": ["a", "b"], "priority": 5,
            "timeout": "1h", "concurrency": {"runs": 3}, "steps": {"a": function("letters", pool="spark", timeout="10m")},
        },
        "schedule": {
            "schedule": {"cron": "0 6 * * *", "zone": "Europe/Berlin", "catch_up": "last"},
            "steps": {"a": function("letters")},
        },
    }  # fmt: skip
    for name, fields in cases.items():
        site.pipeline(name, **fields)
    return cases
