"""The service as a process: started by `workbench up` behind the hub, or alone on loopback; ended by a signal."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from pipelines.definition import Project
from pipelines.planning.run_as import RunAsRule
from pipelines.processes.leaving import leaving_in_time
from pipelines.processes.life import Sign
from pipelines.processes.listening import Listener
from pipelines.processes.signing import give_signs
from pipelines.service.application import build_application, build_templates
from pipelines.service.entrance import Entrance
from pipelines.service.rights import SERVICE
from pipelines.service.site.site import Site
from pipelines.service.web.base import Service
from pipelines.service.web.hints import Hints
from pipelines.service.webhooks.receiving import THREADS as WEBHOOK_THREADS
from pipelines.service.webhooks.receiving import Webhooks
from pipelines.store.database import Store, store_address
from workbench.errors import PortTaken, StoreError, WorkbenchError
from workbench.observability.metrics import begin_authorizations
from workbench.runtime.metrics import serving_metrics
from workbench.runtime.ports import LOOPBACK
from workbench.security.audit.proof.anchors import anchors_of
from workbench.security.audit.proof.checkpointer import Checkpointer, making_checkpoints
from workbench.security.keyset.opening import Keys
from workbench.security.references import references_of
from workbench.security.secrets import ensure_token
from workbench.settings import Settings

logger = logging.getLogger(__name__)

SIGN, JOB = "pipelines-service", "pipelines"
THREADS = 8  # each may hold a connection; two more are for those who listen and migrate
AGAIN_SECONDS = 1.0
LARGEST_BODY_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """How the service is run."""

    project: Project
    entrance: Entrance
    port: int  #: on loopback
    prefix: str = "/"


def hub_file(home: Path) -> Path:
    """What the hub writes for this service: an `entrance.hub.HubAddress`."""
    return home / "run" / "hub-pipelines.json"


def run_service(settings: Settings, options: ServiceOptions, *, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT. A store that is not there yet is waited for; pages say so.

    Raises:
        SettingsError: when no PostgreSQL is configured.
        PortTaken: when somebody else listens.
        KeysetError: when the token for a Vault that keeps the root key cannot be read.
    """
    # The loop waits for its threads, too.
    with leaving_in_time("pages of pipelines") as begin_to_leave:
        asyncio.run(_serve(settings, options, ready, begin_to_leave))


async def _serve(
    settings: Settings, options: ServiceOptions, ready: Callable[[], None], begin_to_leave: Callable[[], None]
) -> None:
    stopping = asyncio.Event()

    def stop() -> None:
        stopping.set()
        begin_to_leave()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="store"))
    sign = Sign(settings.home, SIGN)
    with Store(store_address(settings), connections=THREADS + WEBHOOK_THREADS + 2) as store:
        hints = Hints(asyncio.get_running_loop())
        keys = Keys.of(settings.home, settings.keys)
        rule = RunAsRule.of(settings)
        site = Site(store=store, project=options.project, home=settings.home, run_as=rule, keys=keys)
        service = Service(
            site=site,
            entrance=options.entrance,
            prefix=options.prefix,
            templates=build_templates(),
            hints=hints,
            webhooks=Webhooks(site, references_of(settings, os.environ)),
            sign=sign,
            rendering=ThreadPoolExecutor(1, thread_name_prefix="output"),
            key=ensure_token(settings.home / "keys" / "pipelines-service").encode(),
        )
        # Behind a proxy that puts on its own headers: nothing here believes X-Forwarded-For.
        server = HTTPServer(build_application(service), max_body_size=LARGEST_BODY_BYTES)
        server.add_sockets(_sockets(options.port))
        begin_authorizations(SERVICE)
        checkpointer = Checkpointer.of(settings.home, anchors_of(settings.audit))
        with (
            _migrated(store),
            Listener(store, hints.hear),
            making_checkpoints(checkpointer),
            serving_metrics(settings.home, JOB, lambda: sign.obstacle),
        ):
            ready()
            signing = asyncio.create_task(give_signs(sign, store))
            await stopping.wait()
            signing.cancel()
            server.stop()


@contextmanager
def _migrated(store: Store) -> Iterator[None]:
    """Bring the tables up to date as soon as the database answers, beside everything else."""
    ending = threading.Event()

    def migrate() -> None:
        while not ending.is_set():
            try:
                store.migrate()
                return
            except StoreError as error:
                logger.info("waiting for the store: %s", error.message)
                ending.wait(AGAIN_SECONDS)
            except WorkbenchError as error:
                logger.warning("%s", error)
                return

    thread = threading.Thread(target=migrate, name="migrate", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()


def _sockets(port: int) -> list[socket]:
    try:
        return bind_sockets(port, LOOPBACK)
    except OSError as error:
        raise PortTaken(
            f"port {port} is in use: {error}", remedy="End what listens there, or take another port."
        ) from None
