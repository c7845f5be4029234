"""The audit log: who did what to whom, one line each, on disk before it counts as recorded, tied to the line before.

docs/audit.md describes the form of lines, checkpoints and anchors, and what `verify` proves.
"""

from workbench.security.audit.actions import MEANINGS, Action, Outcome
from workbench.security.audit.event import Event
from workbench.security.audit.log import AuditLog
from workbench.security.audit.reading import Search, read_events, read_last_events, search_events

__all__ = [
    "MEANINGS",
    "Action",
    "AuditLog",
    "Event",
    "Outcome",
    "Search",
    "read_events",
    "read_last_events",
    "search_events",
]
