"""The operations of the service in this process, for panels of whoever may read the store; see `workbench.panels.service`."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from typing import Any

from pipelines.definition import Project
from pipelines.planning.run_as import RunAsRule
from pipelines.processes.opening import opened_store
from pipelines.service.operations import OPERATIONS, perform
from pipelines.service.rights import Person, Right
from pipelines.service.site.site import Site
from pipelines.service.web.base import as_json
from workbench.security.audit.commands import operator
from workbench.settings import Settings

Row = dict[str, Any]


class PipelinesHere:
    """Checks, records and does what the service would; its answers have the same form.

    Args:
        settings: where the store is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = ExitStack()
        self._opening = threading.Lock()
        self._site: Site | None = None

    def ask(self, operation: str, **values: Any) -> Row:
        """See `workbench.panels.service.Pipelines`."""
        person = Person(name=operator(), right=Right.OWNER, is_program=True)
        done = perform(self._opened(), person, OPERATIONS[operation], values)
        answer: Row = json.loads(as_json(done.answer))
        return answer

    def close(self) -> None:
        """See `workbench.panels.service.Pipelines`."""
        with self._opening:
            self._site = None
            self._open.close()

    def _opened(self) -> Site:
        with self._opening:
            if self._site is None:
                store = self._open.enter_context(opened_store(self._settings, is_stopping=lambda: True))
                rule = RunAsRule.of(self._settings)
                self._site = Site(store=store, project=Project.installed(), home=self._settings.home, run_as=rule)
            return self._site
