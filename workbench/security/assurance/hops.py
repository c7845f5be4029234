"""The hops to the servers of data: Kafka, the warehouse, Spark, the schema registry, the store of pipelines."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

from workbench.sections import WarehouseSettings, is_loopback
from workbench.security.assurance import kafka, postgres, spark
from workbench.security.assurance.http import status_of
from workbench.security.assurance.rows import Check, Kind, NotProtected, Row, examine, not_in_use
from workbench.security.assurance.site import Listener, Site
from workbench.security.assurance.tls import Server, has_tls, refuses_plaintext
from workbench.settings import EMBEDDED_ENV

NOT_RUNNING = "the workbench does not run here; `workbench up` starts it"
LOOPBACK = "127.0.0.1"
CONNECT, PYTHON = "org.apache.spark", "pyspark.daemon"
ON_LOOPBACK = "plaintext, which does not leave this machine"


def kafka_hop(site: Site) -> Row:
    """Clients to each broker, and the controller's port of the embedded one."""
    settings = site.settings.kafka
    if not settings.brokers:
        return not_in_use(Kind.HOP, "kafka", NOT_RUNNING)
    checks: list[Check] = []
    for broker in settings.brokers:
        host, _, port = broker.rpartition(":")
        server = Server(host=host.strip("[]"), port=int(port), name=host.strip("[]"), authority=settings.ca_file)
        if not settings.ssl_enabled:
            checks.append(partial(_in_clear, "Kafka", "KAFKA_SSL_ENABLED"))
            continue
        checks += [
            partial(has_tls, server),
            partial(refuses_plaintext, server, kafka.METADATA_REQUEST),
            partial(kafka.refuses_strangers, server),
        ]
    for listener in _of_command(site, "kafka.Kafka"):
        server = Server(host=LOOPBACK, port=listener.port, name="localhost", authority=settings.ca_file)
        checks += [partial(site.stays_here, listener.port), partial(kafka.refuses_strangers, server)]
    return examine(Kind.HOP, "kafka", *_once(checks))


def warehouse_hop(site: Site) -> Row:
    """Clients to the SQL warehouse."""
    settings = site.settings.warehouse
    if settings.dialect == "duckdb":
        return not_in_use(Kind.HOP, "warehouse", "DuckDB is a file, and nobody connects to it")
    if not settings.host:
        return not_in_use(Kind.HOP, "warehouse", NOT_RUNNING)
    return examine(Kind.HOP, "warehouse", *_database_checks(site, settings))


def store_hop(site: Site) -> Row:
    """Scheduler, worker and service of pipelines to the store of runs."""
    settings = site.settings.pipelines
    if not settings.database_url.get_secret_value():
        return not_in_use(Kind.HOP, "store of pipelines", "runs are in the warehouse")
    found = settings.as_warehouse(site.settings.warehouse)
    return examine(Kind.HOP, "store of pipelines", *_database_checks(site, found))


def spark_hop(site: Site) -> Row:
    """Clients to the Connect server of jobs."""
    remote = urlsplit(site.settings.spark.remote)
    if not remote.hostname or remote.port is None:
        return not_in_use(Kind.HOP, "spark connect", NOT_RUNNING)
    host, port = remote.hostname, remote.port
    checks: list[Check] = [partial(spark.connect_refuses_strangers, host, port)]
    if _is_embedded(site, "WORKBENCH_SPARK_REMOTE"):
        checks.append(partial(site.stays_here, port))
    elif is_loopback(host):
        checks.append(lambda: ON_LOOPBACK)
    else:
        checks.append(partial(_in_clear, "Spark Connect", "WORKBENCH_SPARK_REMOTE"))
    return examine(Kind.HOP, "spark connect", *checks)


def driver_hop(site: Site) -> Row:
    """Every other port of every driver that runs here: RPC, blocks, UI, Python; those of people's servers too."""
    checks: list[Check] = []
    for each in _of_command(site, CONNECT):
        is_connect = spark.speaks_http2(LOOPBACK, each.port)
        way = spark.connect_refuses_strangers if is_connect else spark.driver_refuses_strangers
        checks += [partial(site.stays_here, each.port), partial(way, LOOPBACK, each.port)]
    for each in _of_command(site, PYTHON):
        checks += [
            partial(site.stays_here, each.port),
            partial(spark.python_refuses_strangers, LOOPBACK, each.port),
        ]
    if not checks:
        return not_in_use(Kind.HOP, "spark rpc and ui", "no driver runs on this machine")
    return examine(Kind.HOP, "spark rpc and ui", *_once(checks))


def registry_hop(site: Site) -> Row:
    """Clients to the schema registry."""
    settings = site.settings.registry
    url = urlsplit(settings.url)
    if not url.hostname:
        return not_in_use(Kind.HOP, "schema registry", "WORKBENCH_REGISTRY_URL is not set")
    host, port = url.hostname, url.port or (443 if url.scheme == "https" else 80)
    server = Server(host=host, port=port, name=host, authority=settings.ca_file)
    subjects = f"{settings.url.rstrip('/')}/subjects"

    def asks_for_login() -> str:
        context = ssl.create_default_context(cafile=settings.ca_file) if url.scheme == "https" else None
        status, _ = status_of(subjects, context=context)
        if status in {401, 403}:
            return f"without credentials it answers {status}"
        raise NotProtected(
            f"the registry answers {status} to who has not logged in",
            remedy="Have it ask for a user, and set WORKBENCH_REGISTRY_USERNAME and WORKBENCH_REGISTRY_PASSWORD.",
            promised=False,
        )

    if url.scheme == "https":
        transport: list[Check] = [partial(has_tls, server), partial(refuses_plaintext, server)]
    elif is_loopback(host):
        transport = [lambda: ON_LOOPBACK]
    else:
        transport = [partial(_in_clear, "the schema registry", "WORKBENCH_REGISTRY_URL")]
    return examine(Kind.HOP, "schema registry", *transport, asks_for_login)


def data_hops(site: Site) -> Iterator[Row]:
    """All of this module."""
    for hop in (kafka_hop, warehouse_hop, store_hop, spark_hop, driver_hop, registry_hop):
        yield hop(site)


def _database_checks(site: Site, settings: WarehouseSettings) -> list[Check]:
    over_tls = settings.effective_sslmode != "disable"
    server = Server(
        host=settings.host,
        port=settings.port,
        name=settings.host,
        authority=settings.ca_file,
        upgrade=postgres.ask_for_tls if over_tls else None,
    )
    scram = partial(postgres.asks_for_scram, server, settings.user, settings.database, over_tls=over_tls)
    if over_tls:
        return [partial(has_tls, server), scram]
    if settings.host == LOOPBACK and _is_embedded(site, "DW_HOST"):
        return [partial(site.stays_here, settings.port), scram]
    if is_loopback(settings.host):
        return [lambda: ON_LOOPBACK, scram]
    return [partial(_in_clear, "PostgreSQL", "sslmode"), scram]


def _is_embedded(site: Site, variable: str) -> bool:
    """Whether `workbench up` has started the server that *variable* names, so that a process of it has to be there."""
    told = site.home / EMBEDDED_ENV
    return site.pid is not None and told.is_file() and f"{variable}=" in told.read_text(encoding="utf-8")


def _in_clear(what: str, variable: str) -> str:
    raise NotProtected(f"{what} is spoken to without TLS", remedy=f"Switch TLS on there, and correct {variable}.")


def _of_command(site: Site, word: str) -> list[Listener]:
    return [each for each in site.listeners if any(word in part for part in each.command)]


def _once(checks: list[Check]) -> Iterator[Check]:
    """The checks, of which what says the same again says nothing."""
    said: set[str] = set()

    def once(check: Check) -> str:
        text = check()
        if text in said:
            return ""
        said.add(text)
        return text

    return (partial(once, check) for check in checks)
