"""Flows as pages and the API show them: rows of the store, and the end of their logs, which are on their workers' machines."""

from __future__ import annotations

from typing import Any

from pipelines import acting
from pipelines.processes.naming import is_here
from pipelines.runner.flows.files import FlowFiles
from pipelines.runner.flows.log import LogTail
from pipelines.service.site.site import Site
from pipelines.store.flows.listing import list_flows
from workbench.errors import NoSuchRun

Row = dict[str, Any]
LINES = 200  #: of the log, for those who come late


def flows(site: Site) -> Row:
    """All flows: those that somebody has asked for, and those that have a file."""
    with site.store.transaction() as connection:
        return {"flows": list_flows(connection, site.project.flows)}


def flow(site: Site, flow: str) -> Row:
    """One flow, the end of its log, and how far that goes in bytes.

    Raises:
        NoSuchRun: when nobody has asked for it, and it has no file.
    """
    found = next((each for each in flows(site)["flows"] if each["name"] == flow), None)
    if found is None:
        raise NoSuchRun(f"there is no flow {flow}", remedy="The page of flows lists them all.")
    tail = log_of(site, flow, None)
    return {
        "flow": {**found, "is_here": found["worker"] is None or is_here(found["worker"])},
        "log": tail.new_text(),
        "log_bytes": tail.position,
    }


def log_of(site: Site, flow: str, position: int | None) -> LogTail:
    """The log of a flow that is known, from *position* on; None begins near its end."""
    path = FlowFiles(site.home, flow).log
    return LogTail.near_end(path, LINES) if position is None else LogTail(path, position)


def start(site: Site, by: str, *, flow: str) -> Row:
    """As `acting.start_flow`."""
    return acting.start_flow(site.store, by, site.project, flow=flow)


def stop(site: Site, by: str, *, flow: str) -> Row:
    """As `acting.stop_flow`."""
    return acting.stop_flow(site.store, by, site.project, flow=flow)


def restart(site: Site, by: str, *, flow: str) -> Row:
    """As `acting.restart_flow`."""
    return acting.restart_flow(site.store, by, site.project, flow=flow)
