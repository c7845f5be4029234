"""Servers of one machine that need Java and jars; light to import, because each JupyterLab does."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from workbench.embedded.clusters import StartLog
from workbench.embedded.jars import ensure_jars, read_lock
from workbench.embedded.java import Java, find_java
from workbench.embedded.profiles import read_profile
from workbench.embedded.spark import WARM_UP_SECONDS, SparkConnectServer
from workbench.runtime.ports import any_free
from workbench.settings import Settings


def make_spark(
    settings: Settings,
    folder: Path,
    *,
    log: Path,
    lock: Path,
    profile: str = "",
    first_query_seconds: float = WARM_UP_SECONDS,
    tell: Callable[[str], None] = lambda _: None,
) -> SparkConnectServer:
    """A Connect server with a fresh token and port, whose files are in *folder*.

    Args:
        settings: where executors run, and where the jars are.
        folder: of this server alone.
        log: what it prints is appended to this file.
        lock: locked while it runs.
        profile: another than that of the settings.
        first_query_seconds: how long executors may let the first query wait.
        tell: called with a sentence before something that takes long.

    Raises:
        ComponentError: when there is no such profile, no Java, or a jar cannot be had.
    """
    chosen = read_profile(settings.spark, profile)
    java, jars = java_and_jars(settings, "spark", tell)
    return SparkConnectServer(
        name="spark",
        folder=folder,
        log=log,
        lock=lock,
        java=java,
        jars=jars,
        port=any_free(),
        token=secrets.token_hex(32),
        profile=chosen,
        start_log=StartLog(log),
        first_query_seconds=first_query_seconds,
    )


def java_and_jars(settings: Settings, server: str, tell: Callable[[str], None]) -> tuple[Java, list[Path]]:
    """The Java of this machine and the jars of *server*, `kafka` or `spark`, fetched when they are not there.

    Raises:
        ComponentError: when there is no Java, or a jar cannot be had.
    """
    # The same path from every home that links to it: an archive of classes is for one path.
    folder = (settings.home / "jars").resolve()
    wanted = [jar for jar in read_lock() if jar.server == server]
    if not all((folder / server / jar.file_name).exists() for jar in wanted):
        tell(f"Fetching {len(wanted)} jars for {server}, once…")
    return find_java(), ensure_jars(folder, wanted, repository=settings.embedded.jars_repository)[server]
