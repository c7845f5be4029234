"""How long policies take: their apply, and queries under them.

    python -m benchmarks.policies

Its PostgreSQL is the embedded one, in a folder that is removed. A query under row security is compared
with the same query of the tables' owner that names the same rows itself, one after the other in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from tests.services.policies import GovernedWarehouse, governed_warehouse
from tests.services.postgres_server import USER

TABLES, ROLES, COLUMNS = 50, 10, 10
ROWS, RUNS = 500_000, 15
OUTPUT = Path(__file__).parent / "results" / "policies.json"
FLIGHTS = f"""
CREATE TABLE raw.flights (id int, carrier text, month int, distance int, tail text);
INSERT INTO raw.flights SELECT i, 'C' || i % 10, 1 + i % 12, i % 3000, 'N' || i FROM generate_series(1, {ROWS}) i;
ANALYZE raw.flights"""
POLICIES = """
version: 1
roles:
  everything: {tables: {raw.flights: {columns: [id, carrier, month, distance, tail]}}}
  one: {tables: {raw.flights: {columns: [id, carrier, month, distance], rows: "carrier IN ('C1', 'C2')"}}}
  mine: {tables: {raw.flights: {columns: [id, carrier, month, distance], rows: carrier = user.carrier, masks: {tail: {partial: 2}}}}}
bindings: {viewers: [one], analysts: [mine], engineers: [everything]}
users: {gh-bench: {carrier: [C1, C2]}}
"""
WHERE = "carrier IN ('C1', 'C2')"
SUM = "SELECT month, count(*), sum(distance) FROM {table} WHERE {where} GROUP BY month"


def main() -> None:
    """Print each figure, and keep all of them."""
    result: dict[str, Any] = {"machine": machine(), "load_before": os.getloadavg()}
    with tempfile.TemporaryDirectory() as folder, governed_warehouse(Path(folder)) as warehouse:
        warehouse.own("CREATE SCHEMA raw")
        result["apply"] = measure_apply(warehouse)
        warehouse.own(FLIGHTS)
        result["queries"] = measure_queries(warehouse)
    result["load_after"] = os.getloadavg()
    OUTPUT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure_apply(warehouse: GovernedWarehouse) -> dict[str, float]:
    """Seconds for the first apply of 50 tables and 10 roles, for one that finds nothing, and for verify."""
    columns = ", ".join(f"c{number} int" for number in range(COLUMNS))
    warehouse.own("; ".join(f"CREATE TABLE raw.t{number} ({columns})" for number in range(TABLES)))
    text = _many_roles()
    figures = {
        "apply_seconds": timed(lambda: warehouse.apply(text)),
        "apply_again_seconds": timed(lambda: warehouse.apply(text)),
        "verify_seconds": timed(lambda: warehouse.plan(text)),
    }
    for name, seconds in figures.items():
        print(f"{TABLES} tables, {ROLES} roles: {name} {seconds:.2f}")
    return figures


def measure_queries(warehouse: GovernedWarehouse) -> dict[str, dict[str, float]]:
    """Medians in milliseconds of the owner and of people, and their ratio."""
    warehouse.apply(POLICIES)
    cases = {
        "all rows": ("engineers", "raw.flights", "TRUE"),
        "a list of values": ("viewers", "raw.flights", WHERE),
        "an attribute of the person": ("analysts", "raw.flights", WHERE),
        "an attribute, through the view with masks": ("analysts", "raw_masked.flights", WHERE),
    }
    found = {}
    for name, (group, table, where) in cases.items():
        theirs, owners = [], []
        with (
            warehouse.person(POLICIES, "gh-bench", [group]) as person,
            warehouse.connect(USER, warehouse.server.server.password) as owner,
        ):
            under, without = SUM.format(table=table, where="TRUE"), SUM.format(table="raw.flights", where=where)
            assert sorted(person.execute(under)) == sorted(owner.execute(without))
            for _ in range(RUNS):
                owners.append(timed(lambda: owner.execute(without).fetchall()))  # noqa: B023 - called at once
                theirs.append(timed(lambda: person.execute(under).fetchall()))  # noqa: B023 - called at once
        ratio = statistics.median(theirs) / statistics.median(owners)
        found[name] = {
            "without_milliseconds": statistics.median(owners) * 1000,
            "under_milliseconds": statistics.median(theirs) * 1000,
            "ratio": ratio,
        }
        print(f"{name}: {found[name]['under_milliseconds']:.1f} ms, {ratio:.2f} times that without")
    return found


def _many_roles() -> str:
    roles = []
    for role in range(ROLES):
        tables = "".join(
            f'      raw.t{table}: {{columns: [{", ".join(f"c{each}" for each in range(1 + role))}], rows: "c0 = {role}"}}\n'
            for table in range(TABLES)
        )
        roles.append(f"  r{role}:\n    tables:\n{tables}")
    return f"version: 1\nroles:\n{''.join(roles)}"


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
