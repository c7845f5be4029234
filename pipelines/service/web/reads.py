"""Who was shown what steps have put out, in the audit log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from pipelines.service.web.base import Handler
from workbench.errors import AuditError
from workbench.security.audit import Action, AuditLog, Event

WAIT_SECONDS = 5.0  #: for a disk that hangs

logger = logging.getLogger(__name__)


async def record_read(handler: Handler, run: dict[str, Any], attempt: dict[str, Any] | None) -> None:
    """Record that who asks is shown an output; the same one again within a minute counts once.

    A log that cannot be written keeps nobody from looking.

    Args:
        handler: of the request.
        run: as the store has it.
        attempt: the same; None is all of the run's, as they come.
    """
    one = {} if attempt is None else {"step": attempt["step"], "attempt": attempt["id"]}
    if not handler.service.reads.is_new((handler.person.name, run["id"], one.get("attempt"))):
        return
    resource = f"pipeline:{run['pipeline']}"
    event = Event.of(Action.OUTPUTS_READ, actor=handler.person.name, resource=resource, run=run["id"], **one)
    audit = handler.service.site.audit
    recorded = asyncio.ensure_future(handler.beside(lambda: _append(audit, event), handler.service.recording))
    await asyncio.wait({recorded}, timeout=WAIT_SECONDS)


def _append(audit: AuditLog, event: Event) -> None:
    try:
        audit.append(event)
    except AuditError as error:
        logger.warning("that %s was read is not in the audit log: %s", event.resource, error)
