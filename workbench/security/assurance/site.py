"""The workbench that is looked at: its settings, and the ports on which its processes listen."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from workbench.answering import answers
from workbench.security.assurance.rows import NotProtected
from workbench.settings import Settings

CONNECT_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A port on which a process of the workbench listens."""

    port: int
    address: str
    pid: int
    command: tuple[str, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """What the process is, for people."""
        return Path(self.command[0]).name if self.command else "a process"


@dataclass(frozen=True, kw_only=True)
class Site:
    """One workbench."""

    settings: Settings
    pid: int | None  #: of `workbench up`; None when it does not run
    listeners: tuple[Listener, ...] = ()
    looked_at: set[int] = field(default_factory=set, init=False, compare=False)  #: ports that a row is about

    @classmethod
    def of(cls, settings: Settings, pid: int | None) -> Self:
        """The site with the ports of all processes below *pid*."""
        return cls(settings=settings, pid=pid, listeners=() if pid is None else tuple(_listeners(pid)))

    @property
    def home(self) -> Path:
        """WORKBENCH_HOME."""
        return self.settings.home

    def at(self, port: int) -> tuple[Listener, ...]:
        """Who of the workbench listens on *port*, which counts as looked at from now on."""
        self.looked_at.add(port)
        return tuple(each for each in self.listeners if each.port == port)

    def others(self) -> tuple[Listener, ...]:
        """Who listens on a port that no row has been about."""
        return tuple(each for each in self.listeners if each.port not in self.looked_at)

    def stays_here(self, port: int) -> str:
        """Whether a process of the workbench has *port*, and nothing outside of this machine can reach it.

        Raises:
            NotProtected: when another program has it, or it listens on an address of the network.
        """
        found = self.at(port)
        if not found:
            raise NotProtected(
                f"who listens on port {port} is no process of this workbench",
                remedy="Find it with `ss -ltnp`, end it, and start the workbench anew; change what was sent to it meanwhile.",
            )
        outside = sorted({each.address for each in found if not _is_loopback(each.address)})
        if outside:
            raise NotProtected(
                f"port {port} listens on {', '.join(outside)}, which other machines reach",
                remedy="Have it listen on 127.0.0.1.",
            )
        for address in own_addresses():
            if answers(port, address, CONNECT_SECONDS):
                raise NotProtected(
                    f"port {port} answers at {address}, which other machines reach",
                    remedy="Have it listen on 127.0.0.1, and look for a program that forwards it.",
                )
        return "on loopback only, by a process of this workbench"


def own_addresses() -> Iterable[str]:
    """The addresses of this machine that are not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET and not _is_loopback(each.address):
                yield each.address


def descendants(pid: int) -> Mapping[int, psutil.Process]:
    """The process and all that it started, by id."""
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        return {each.pid: each for each in (root, *root.children(recursive=True))}
    return {}


def _listeners(pid: int) -> Iterable[Listener]:
    for each in descendants(pid).values():
        # One that has ended meanwhile, or is another user's, has nothing to show.
        with contextlib.suppress(psutil.Error):
            connections = each.net_connections(kind="tcp")
            command = tuple(each.cmdline())
            for connection in connections:
                if connection.status == psutil.CONN_LISTEN:
                    address, port = connection.laddr[:2]
                    yield Listener(port=port, address=address, pid=each.pid, command=command)


def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
