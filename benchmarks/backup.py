"""How long a backup and a restore of the embedded warehouse take, beside PostgreSQL's own programs in the same run.

    python -m benchmarks.backup [--megabytes 1000] [--rounds 2]

A warehouse is filled, and backed up in turns by `pg_basebackup` alone and by the workbench, which compresses
as much, encrypts, and reads back what it has written. Then a twentieth of the rows is changed, for an incremental
backup. Each is restored until PostgreSQL has recovered, with the same configuration: from the base backup alone
by tar, and by the workbench from the full and the incremental one. Rates are by the size of the database.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, measure_part
from workbench.embedded import recovery
from workbench.embedded.backups import BackedUp
from workbench.embedded.drop_privileges import as_ordinary_user
from workbench.embedded.postgres import PostgresServer, programs
from workbench.embedded.recovery import server_of
from workbench.runtime.ports import any_free
from workbench.runtime.supervisor import Supervisor
from workbench.sections import KeysSettings
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import private_folder, write_private
from workbench.warehouse.backup.base.taking import base_backup
from workbench.warehouse.backup.parts import Source
from workbench.warehouse.backup.repository import Backup, Repository
from workbench.warehouse.backup.restoring import choose
from workbench.warehouse.backup.verification import verify

OUTPUT = Path(__file__).parent / "results" / "backup.json"
DATABASE, USER = "analytics", "workbench"
BATCH_ROWS = 250_000
ROWS = """
INSERT INTO events
SELECT n, now() - n * interval '1 second', 'carrier ' || n %% 16, md5(n::text), random() * 1000, md5(random()::text)
FROM generate_series(%s::int, %s::int) n
"""


@dataclass(frozen=True)
class Bench:
    """A warehouse that is measured."""

    folder: Path
    postgres: PostgresServer
    backed_up: BackedUp
    figures: dict[str, Any] = field(default_factory=dict)

    def ask(self, query: str, *values: object) -> Any:
        """The first value of the answer, if there is one."""
        with server_of(self.postgres).connect() as connection:
            found = connection.execute(query.encode(), values or None)
            return (found.fetchone() or [None])[0] if found.description else None

    def timed(self, name: str, call: Callable[[], Any]) -> Any:
        """What the call returns; how long it took and how fast that is are noted and printed."""
        size = self.ask("SELECT pg_database_size('postgres')") / 1e6
        started = time.perf_counter()
        found = call()
        seconds = time.perf_counter() - started
        self.figures.setdefault(name, []).append(
            {
                "seconds": round(seconds, 1),
                "database_megabytes": round(size),
                "megabytes_per_second": round(size / seconds, 1),
            }
        )
        print(name, self.figures[name][-1], flush=True)
        return found


def main() -> None:
    """Measure, print and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    measure_part(
        {"machine": machine()},
        "backup",
        lambda folder: measured(folder, asked.megabytes, asked.rounds),
        command=f"python -m benchmarks.backup --megabytes {asked.megabytes} --rounds {asked.rounds}",
        output=OUTPUT,
    )


def measured(folder: Path, megabytes: int, rounds: int) -> dict[str, Any]:
    """Everything, on one server."""
    home = private_folder(folder / "home")
    postgres = PostgresServer(home=home, port=any_free(), database=DATABASE, user=USER, is_backed_up=True)
    with Supervisor(home) as supervisor:
        supervisor.start([postgres])
        keys = Keys.of(home, KeysSettings())
        keys.ensure()
        source = Source(home=home, server=server_of(postgres), database=DATABASE, user=USER)
        bench = Bench(
            folder, postgres, BackedUp(keys=keys, repository=Repository.of(home, folder / "backups"), source=source)
        )
        fill(bench, megabytes)
        for _ in range(rounds):
            bench.timed("bare_base_backup", lambda: bare(bench))
            full = bench.timed("full_backup", bench.backed_up.create)
        bench.ask("UPDATE events SET value = value + 1 WHERE n < (SELECT max(n) * 0.05 FROM events)")
        bench.ask("CHECKPOINT")
        incremental = bench.timed("incremental_backup", lambda: bench.backed_up.create(is_incremental=True))
        problems = bench.timed("verify", lambda: verify(keys, bench.backed_up.repository, incremental.name)).problems
        rows = bench.ask("SELECT count(*) FROM events")
        for turn in range(rounds):
            bench.timed("bare_restore", partial(bare_restored, bench, folder / f"bare{turn}"))
            bench.timed("restore_full", partial(restored, bench, full, folder / f"full{turn}"))
            bench.timed("restore_incremental", partial(restored, bench, incremental, folder / f"both{turn}"))
    assert not problems
    sizes = {"full_bytes": full.size_bytes, "incremental_bytes": incremental.size_bytes}
    return {"rows": rows, **sizes, **bench.figures}


def fill(bench: Bench, megabytes: int) -> None:
    """A table of that size, with its index."""
    bench.ask(
        "CREATE TABLE events (n int PRIMARY KEY, at timestamptz, carrier text, tail text, value float, note text)"
    )
    begin = 0
    while bench.ask("SELECT pg_database_size('postgres')") < megabytes * 1e6:
        bench.ask(ROWS, begin, begin + BATCH_ROWS - 1)
        begin += BATCH_ROWS
    bench.ask("CHECKPOINT")


def bare(bench: Bench) -> None:
    """The same program with the same compression, into a file in clear."""
    with (
        base_backup(bench.backed_up.source.server, {}, None) as stream,
        (bench.folder / "bare.tar.gz").open("wb") as file,
    ):
        shutil.copyfileobj(stream, file, 1024 * 1024)


def bare_restored(bench: Bench, home: Path) -> None:
    """By tar, then PostgreSQL's recovery by our own code: what a person would type."""
    data = private_folder(private_folder(home / "postgres") / "data")
    subprocess.run(["tar", "-xzf", str(bench.folder / "bare.tar.gz"), "-C", str(data)], check=True)
    private_folder(home / "keys")
    for name in ("warehouse-superuser-password", "warehouse-password"):
        shutil.copy(bench.postgres.home / "keys" / name, home / "keys" / name)
    copied = PostgresServer(home=home, port=any_free(), database=DATABASE, user=USER)
    if account := as_ordinary_user(copied.folder, programs()).account:
        subprocess.run(["chown", "-R", f"{account.pw_uid}:{account.pw_gid}", str(copied.folder)], check=True)
    with Supervisor(home) as supervisor:
        supervisor.start([copied])
    shutil.rmtree(home)


def restored(bench: Bench, backup: Backup, home: Path) -> None:
    """As `workbench backup restore` does it."""
    repository = bench.backed_up.repository
    with recovery.staged(home) as place:
        private_folder(place / "keys")
        for name in ("keyset.json", "root.key"):
            write_private(place / "keys" / name, (bench.postgres.home / "keys" / name).read_bytes())
        keys = Keys.of(place, KeysSettings())
        recovery.restore(choose([repository], lambda _: keys, name=backup.name, at=None), home, None)
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
