"""Who was shown an output, in the audit log."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipelines.service.web import reads
from pipelines.service.web.reads import record_read
from workbench.security.audit import Action, AuditLog, read_events
from workbench.security.throttle import Repeats

RUN = {"id": 7, "pipeline": "say"}


def handler(audit: Any, person: str, repeats: Repeats) -> Any:
    async def beside(call: Any, threads: ThreadPoolExecutor) -> Any:
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    recording = ThreadPoolExecutor(1)
    service = SimpleNamespace(reads=repeats, recording=recording, site=SimpleNamespace(audit=audit))
    return SimpleNamespace(service=service, person=SimpleNamespace(name=person), beside=beside)


def test_an_output_that_is_shown_again_and_again_is_recorded_once_for_each_person(tmp_path: Path):
    audit, repeats = AuditLog.of(tmp_path), Repeats()

    async def act() -> None:
        for person in ("ada", "ada", "grace"):
            await record_read(handler(audit, person, repeats), RUN, {"id": 9, "step": "load"})
            await record_read(handler(audit, person, repeats), RUN, None)

    asyncio.run(act())
    told = [(each.actor, each.resource, each.details) for each in read_events(audit.path, action=Action.OUTPUTS_READ)]
    one, all_of_it = {"run": "7", "step": "load", "attempt": "9"}, {"run": "7"}
    assert told == [(who, "pipeline:say", which) for who in ("ada", "grace") for which in (one, all_of_it)]


def test_a_log_that_cannot_be_written_or_hangs_keeps_nobody_from_looking(tmp_path, monkeypatch, caplog):
    (tmp_path / "audit").write_text("in the way")
    asyncio.run(record_read(handler(AuditLog.of(tmp_path), "ada", Repeats()), RUN, None))
    assert "pipeline:say was read is not in the audit log" in caplog.text

    free = threading.Event()
    monkeypatch.setattr(reads, "WAIT_SECONDS", 0.01)

    async def act() -> None:
        await record_read(handler(SimpleNamespace(append=lambda _: free.wait(30)), "ada", Repeats()), RUN, None)
        assert not free.is_set()
        free.set()

    asyncio.run(act())
