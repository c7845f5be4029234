"""`workbench doctor --security`: every hop and every store, with what protects it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.metadata import entry_points
from socket import create_connection

from rich.table import Table

from workbench.console import plain_console
from workbench.observability.notifications import Channel, find_address, load_channels
from workbench.observability.notifications.transport import transport_of
from workbench.resolving import References
from workbench.resources import resource
from workbench.runtime.state import read_status
from workbench.sections import is_loopback
from workbench.security.assurance import Kind, NotProtected, Row, Site, State, examine, not_in_use
from workbench.security.assurance.hops import data_hops
from workbench.security.assurance.stores import stores
from workbench.security.assurance.tls import Server, has_tls
from workbench.security.references import references_of
from workbench.settings import Settings

MARKS = {State.PROTECTED: "ok", State.NOT_PROTECTED: "open", State.NOT_IN_USE: "-"}
BROKEN = "FIX"
SECONDS = 5.0
STARTTLS = (25, 587)  #: ports of mail servers on which TLS begins after a greeting


def assess(settings: Settings) -> list[Row]:
    """The rows of a workbench, hops first; whoever adds a hop or a store has an entry point `workbench.assurance`."""
    site = Site.of(settings, read_status(settings.home).pid)
    found = [*data_hops(site), *stores(site), _notifications(settings)]
    for entry in sorted(entry_points(group="workbench.assurance"), key=lambda entry: entry.name):
        found += entry.load()(site)
    # Last: it is about the ports that no other row was about.
    found.append(_others(site))
    return sorted(found, key=lambda row: row.kind is Kind.STORE)


def show(rows: Iterable[Row]) -> None:
    """A table, and under it the remedy of what is open."""
    table = Table("", "what", "state", "", box=None, header_style="bold", pad_edge=False)
    remedies = []
    for row in rows:
        mark = BROKEN if row.is_broken else MARKS[row.state]
        table.add_row(mark, f"{row.kind}: {row.subject}", row.state, "; ".join((*row.proved, *_lacks(row))))
        remedies += [f"{row.subject}: {lack.remedy}" for lack in row.lacks if lack.remedy]
    console = plain_console()
    console.print(table)
    for remedy in remedies:
        console.print(remedy)


def _lacks(row: Row) -> Iterator[str]:
    for lack in row.lacks:
        yield lack.why if lack.promised else f"{lack.why} (not promised)"


def _notifications(settings: Settings) -> Row:
    """The channels of alerts."""
    subject, path = "notifications", resource("pipelines") / "alerts.yaml"
    channels = [each for each in load_channels(path).channels.values() if _is_set(each)]
    if not channels:
        return not_in_use(Kind.HOP, subject, "no channel of pipelines/alerts.yaml has an address in this environment")
    references = references_of(settings, os.environ)
    return examine(Kind.HOP, subject, *(partial(_channel, each, references) for each in channels))


def _is_set(channel: Channel) -> bool:
    scheme, _, place = channel.reference.partition(":")
    return scheme != "env" or bool(os.environ.get(place))


def _channel(channel: Channel, references: References) -> str:
    address = find_address(channel, references)
    way = transport_of(address)
    if not way.is_encrypted:
        if is_loopback(way.host):
            return f"{channel.name}: plaintext, which does not leave this machine"
        raise NotProtected(
            f"channel {channel.name} is told in clear", remedy=f"Write an address with TLS into {channel.reference}."
        )
    try:
        create_connection((way.host, way.port), SECONDS).close()
    except OSError as error:
        raise NotProtected(
            f"channel {channel.name}: {way.host}:{way.port} cannot be tried: {error}",
            remedy="Look whether this machine reaches it; then look again.",
            promised=False,
        ) from None
    if way.port in STARTTLS:
        return f"{channel.name}: STARTTLS is asked for"
    return f"{channel.name}: {has_tls(Server(host=way.host, port=way.port, name=way.host))}"


def _others(site: Site) -> Row:
    """Ports of processes below `workbench up` that no other row is about."""
    subject = "other ports"
    others = site.others()
    if not others:
        return not_in_use(Kind.HOP, subject, "no process of the workbench listens on another port")

    def is_named(port: int, name: str) -> str:
        site.stays_here(port)
        raise NotProtected(
            f"port {port} of {name} is none of the workbench's: what it asks for is up to who started it",
            remedy="Most often somebody's notebook or terminal has started it; end what is not needed.",
            promised=False,
        )

    return examine(Kind.HOP, subject, *(partial(is_named, each.port, each.name) for each in others))
