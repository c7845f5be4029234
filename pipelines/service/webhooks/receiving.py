"""Who may start a run from outside, and that it is one run however often they ask."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from pipelines.definition.triggers import WEBHOOK
from pipelines.planning.registering import ensure_registered
from pipelines.planning.runs import Plan, Start
from pipelines.service.rights import NotSignedIn, PipelinePaused, TooManyRefused
from pipelines.service.site.site import Site
from pipelines.service.webhooks.kept import KeptKeys
from pipelines.service.webhooks.signing import LEAST_BYTES, Signed, key_of
from pipelines.store.records import Trigger
from pipelines.store.runs.making import find_run, make_runs
from pipelines.store.runs.schedules import named_schedules, read_schedules
from workbench.errors import AuditError, ParametersRefused, WorkbenchError
from workbench.logs.context import bound
from workbench.references import SecretReference
from workbench.resolving import References
from workbench.security.audit import Action, Outcome
from workbench.security.throttle import Throttle

if TYPE_CHECKING:
    from pipelines.definition.triggers import Trigger as TriggerRule

logger = logging.getLogger(__name__)

Row = dict[str, Any]
KNOWN_SECONDS = 1.0  # between two looks at the store, whoever asks and how often
THREADS = 4  #: of their own: whatever strangers send, pages have theirs
REFUSED_PER_MINUTE = 120  # then strangers are asked to wait; who signs rightly never is


class _Refused(Exception):
    """Why a request is none of ours, for the audit log; never leaves this module."""


class Webhooks:
    """Takes requests for all pipelines; shared by threads.

    Args:
        site: where runs are made.
        references: reads the secrets of triggers, each once a second at most.
        clock: seconds since 1970.
    """

    def __init__(self, site: Site, references: References, clock: Callable[[], float] = time.time) -> None:
        self._site, self._reader, self._clock = site, references, clock
        self._lock = threading.Lock()
        self._keys = KeptKeys(self._read_key)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook")  #: where requests are received
        self._known: dict[str, list[str]] = {}
        self._known_at = float("-inf")
        self._audited, self._answered, self._told = Throttle(), Throttle(REFUSED_PER_MINUTE), Throttle(10)
        # What is compared with when there is no secret: the answer takes as long.
        self._nobody = secrets.token_bytes(LEAST_BYTES)

    def receive(self, pipeline: str, headers: Mapping[str, str], body: bytes) -> Row:
        """Make the run of a request, or find the one that the same id has made before.

        Raises:
            NotSignedIn: whatever keeps a stranger out, in the same words.
            TooManyRefused: the same, when strangers have tried often, or a secret is slow to read.
            PipelinePaused: when the pipeline begins no runs now.
            ParametersRefused: when the body is no text, or does not fit the parameters.
            WorkbenchError: when the pipeline's file is wrong.
            StoreUnavailable: when the store does not answer.
            AuditError: when the run cannot be recorded; it is not made then.
        """
        signed = Signed.read(headers, body)
        if signed is None:
            # Before anything is read for it: such an answer says nothing of the pipeline.
            self._refuse(pipeline, "headers")
        try:
            reference = self._proven(pipeline, signed)
            plan = self._site.plan(pipeline)
            rule = _rule(plan, reference)
        except _Refused as refused:
            self._refuse(pipeline, str(refused))
        return self._start(plan, rule, signed)

    def _proven(self, pipeline: str, signed: Signed) -> str:
        """The reference of the secret that the request is signed with."""
        references = self._references().get(pipeline, [])
        keys = [(each, key) for each in references if (key := self._keys.key(each)) is not None]
        # A list: all of them are compared.
        proven = [each for each, key in keys or [("", self._nobody)] if signed.is_signed(key)]
        if not keys or not proven:
            raise _Refused("signature" if keys else "no webhook")
        if not signed.is_fresh(self._clock()):
            raise _Refused("timestamp")
        return proven[0]

    def _references(self) -> Mapping[str, list[str]]:
        """References of secrets by pipeline, as the scheduler has them in the store."""
        with self._lock:
            if time.monotonic() - self._known_at >= KNOWN_SECONDS:
                with self._site.store.transaction() as connection:
                    found = named_schedules(connection, WEBHOOK)
                self._known = {}
                for each in found:
                    self._known.setdefault(each.pipeline, []).append(each.name.removeprefix(WEBHOOK))
                self._known_at = time.monotonic()
            return self._known

    def _read_key(self, reference: str) -> bytes | None:
        try:
            remedy = "Set it where the service of pipelines runs."
            return key_of(self._reader.read(SecretReference.parse(reference), remedy=remedy))
        except (WorkbenchError, ValueError) as error:
            # A stranger is not told.
            with self._lock:
                is_told = self._told.admit() is not None
            if is_told:
                logger.error("the secret of webhooks %s: %s", reference, error)  # noqa: TRY400 - it says all
            return None

    def _start(self, plan: Plan, rule: TriggerRule, signed: Signed) -> Row:
        try:
            event = signed.body.decode() or signed.id
        except UnicodeDecodeError as error:
            raise ParametersRefused([f"the body is no UTF-8: {error}."]) from None
        instant = datetime.fromtimestamp(signed.timestamp, UTC)
        start = Start(trigger=Trigger.EVENT, instant=instant, event_id=f"{WEBHOOK}{signed.id}", event=event)
        run = plan.run(start, plan.bound(rule.parameters, instant, event))
        name = plan.pipeline.name
        with self._site.store.transaction() as connection:
            if (known := find_run(connection, run.key)) is not None:
                return {"run": known}
            if any(each.paused for each in read_schedules(connection, name)):
                raise PipelinePaused(f"{name} is paused", remedy="Send it again later, with the same id.")
        # First the line, then the run: what cannot be recorded is not made, and may be sent again.
        self._audit(name, Outcome.BEGUN, id=signed.id)
        try:
            with self._site.store.transaction() as connection:
                ensure_registered(connection, plan.pipeline, plan.run_as)
                made = make_runs(connection, [run])
                number = made[run.key] if made else find_run(connection, run.key)
        except BaseException:
            self._audit(name, Outcome.FAILED, id=signed.id)
            raise
        told = {} if made else {"reason": "the same id has just made the run"}
        self._audit(name, Outcome.SUCCESS if made else Outcome.REFUSED, id=signed.id, run=number, **told)
        with bound(run=number, pipeline=name):
            logger.info("a webhook has asked for the run")
        return {"run": number}

    def _audit(self, pipeline: str, outcome: Outcome, **details: object) -> None:
        who, what = f"webhook:{pipeline}", f"pipeline:{pipeline}"
        try:
            self._site.audit.record(Action.WEBHOOK_ACCEPTED, actor=who, resource=what, outcome=outcome, **details)
        except AuditError:
            if outcome is Outcome.BEGUN:
                raise
            # That it began is in the log.
            logger.exception("how it ended is not in the audit log")

    def _refuse(self, pipeline: str, reason: str) -> NoReturn:
        with self._lock:
            is_answered = self._answered.admit() is not None
            left_out = self._audited.admit()
        if left_out is not None:
            told = {"resource": f"pipeline:{pipeline}", "reason": reason}
            try:
                self._site.audit.record(Action.WEBHOOK_REFUSED, actor="", **told, left_out=left_out)
            except AuditError as error:
                # Strangers are answered alike whatever the disk says.
                logger.error("%s", error)  # noqa: TRY400 - it says all
        if not is_answered:
            raise TooManyRefused("too many requests were refused", remedy="Wait a minute.")
        raise NotSignedIn(
            "no webhook takes this request",
            remedy="Check the address, the secret, the clock, and what is signed; docs/pipelines-service.md has the scheme.",
        )


def _rule(plan: Plan, reference: str) -> TriggerRule:
    """The trigger with that secret, as the file is now."""
    rules: Iterable[TriggerRule] = plan.pipeline.definition.triggers
    for each in rules:
        if each.webhook is not None and each.webhook.secret == reference:
            return each
    raise _Refused("no webhook")
