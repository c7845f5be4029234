"""Where the Connect server of a session is: the user's own when JupyterLab started one, else as configured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workbench import answering
from workbench.errors import SparkError
from workbench.sections import SparkSettings
from workbench.transformation.failures import LOCAL_FOLDER

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.connect.client.core import DefaultChannelBuilder

    from workbench.transformation.connect_client import Server

ANSWER_SECONDS = 5.0
DEFAULT_PORT = 15002
READY_SECONDS = 120.0
RESTART_SECONDS = 60.0
LAST_WORDS_BYTES = 20_000
NOTHING_ANSWERS = "`workbench status` shows whether Spark runs; restart it, or correct WORKBENCH_SPARK_REMOTE."
POLL_SECONDS = 0.1
TELL_AFTER_SECONDS = 1.0


class Whereabouts:
    """Where the server of a session is, and whether it still is the one that we know."""

    def __init__(self, settings: SparkSettings, tell: Callable[[str], None]) -> None:
        self._settings, self._tell = settings, tell
        self._known: tuple[int, int] | None = None

    @property
    def identity(self) -> Hashable:
        """Equal for settings that lead to the same server."""
        file = self._settings.endpoint_file
        return file or (self._settings.remote, self._settings.token.get_secret_value())

    @property
    def is_coming(self) -> bool:
        """Whether a server was started for us that is not ready yet."""
        return self._settings.endpoint_file is not None and self._seen() is None

    def endpoint(self) -> tuple[str, str]:
        """Address and token; waits while the server starts."""
        found = endpoint(self._settings, self._tell)
        self._known = self._seen()
        return found

    def server(self, ready: Callable[[SparkSession], None]) -> Server:
        """What the client needs for its recovery."""
        from workbench.transformation.connect_client import Server

        return Server(
            identity=self.identity,
            has_changed=self._has_changed,
            find=self._find,
            ready=ready,
            tell=self._tell,
            last_words=self._last_words,
            settings=self._values(),
        )

    def _seen(self) -> tuple[int, int] | None:
        """What is another one after each start of the server; None while there is none."""
        if not self._settings.endpoint_file:
            return None
        try:
            found = self._settings.endpoint_file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _has_changed(self) -> bool:
        return self._settings.endpoint_file is not None and self._seen() != self._known

    def _find(self) -> DefaultChannelBuilder:
        """Wait until a server answers; the file of one that has just died may still be there."""
        deadline = time.monotonic() + RESTART_SECONDS
        told = False
        while True:
            remote, token = self.endpoint()
            if answers(remote):
                return channel(remote, token)
            if time.monotonic() > deadline:
                raise SparkError(f"Spark ended, and nothing answers at {remote}", remedy=NOTHING_ANSWERS)
            if not told:
                told = True
                self._tell("Spark is not there; waiting for its restart.")
            time.sleep(POLL_SECONDS)

    def _last_words(self) -> str:
        if not self._settings.endpoint_file:
            return ""
        log = self._settings.endpoint_file.with_name("spark.log")
        return last_words(log, self._settings.driver_memory)

    def _values(self) -> dict[str, str]:
        file = self._settings.endpoint_file
        return {
            "SPARK_MASTER_URL": self._settings.master_url,
            "SPARK_DRIVER_MEMORY": self._settings.driver_memory,
            "SPARK_EXECUTOR_MEMORY": self._settings.executor_memory,
            **({LOCAL_FOLDER: str(file.with_name("scratch"))} if file else {}),
        }


def last_words(log: Path, driver_memory: str) -> str:
    """What the log of a server that has ended says about why: whether it was out of memory; else ""."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_WORDS_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    if "OutOfMemoryError" not in text:
        return ""
    return f"It ran out of memory: raise SPARK_DRIVER_MEMORY, which is {driver_memory} now."


def channel(remote: str, token: str) -> DefaultChannelBuilder:
    """What dials the server at *remote*."""
    from pyspark.sql.connect.client.core import DefaultChannelBuilder

    class Channel(DefaultChannelBuilder):  # type: ignore[misc]
        """Dials 127.0.0.1 for `localhost`: on ::1 somebody else may listen, and would be sent the token."""

        @property
        def endpoint(self) -> str:
            return f"ipv4:127.0.0.1:{self._port}" if self.host == "localhost" else str(super().endpoint)

    built = Channel(remote)
    if token:
        # Set on the channel: in the address it would show in spark.conf and in errors.
        built.set(built.PARAM_TOKEN, token)
    built.setChannelOption("grpc.enable_http_proxy", 0)
    return built


def answers(remote: str) -> bool:
    """Whether something listens at *remote*."""
    address = urlsplit(remote)
    host = "127.0.0.1" if address.hostname == "localhost" else str(address.hostname)
    return answering.answers(address.port or DEFAULT_PORT, host, ANSWER_SECONDS)


def endpoint(settings: SparkSettings, tell: Callable[[str], None]) -> tuple[str, str]:
    """Address and token: of the user's own server when JupyterLab started one, else as configured."""
    if settings.endpoint_file:
        return _read_endpoint(settings.endpoint_file, tell)
    if not settings.remote:
        raise SparkError(
            "no Spark server is running here",
            remedy="Start one with `workbench up`, or set WORKBENCH_SPARK_REMOTE and WORKBENCH_SPARK_TOKEN.",
        )
    return settings.remote, settings.token.get_secret_value()


def _read_endpoint(path: Path, tell: Callable[[str], None]) -> tuple[str, str]:
    started = time.monotonic()
    told = False
    while not path.exists():
        waited = time.monotonic() - started
        failure = path.with_name("failure.txt")
        if failure.exists():
            raise SparkError(
                failure.read_text(encoding="utf-8").strip(),
                remedy="Restart your server from the hub's control panel to try again.",
            )
        if waited > READY_SECONDS:
            raise SparkError(
                f"your Spark server was not ready after {READY_SECONDS:.0f} s",
                remedy=f"See {path.with_name('spark.log')}.",
            )
        if waited > TELL_AFTER_SECONDS and not told:
            told = True
            tell("Your Spark server is starting; this cell runs as soon as it answers.")
        time.sleep(POLL_SECONDS)
    found = json.loads(path.read_text(encoding="utf-8"))
    return found["remote"], found["token"]
