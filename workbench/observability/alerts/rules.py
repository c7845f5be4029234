"""Reads the section `alerts` of pipelines/alerts.yaml; all that is wrong is told at once, each with its line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from workbench.documents import Document, DocumentProblem, Place, Problem, read_document
from workbench.durations import parse_duration
from workbench.errors import AlertsRefused
from workbench.observability.alerts.conditions import Condition, ConditionProblem, parse_condition
from workbench.observability.notifications import Severity

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
FIELDS = ("name", "condition", "duration", "severity", "channels", "keep_firing", "summary")
REQUIRED = ("name", "condition", "severity", "channels")
MOST_SECONDS = 86400
LEAST_COUNT_SECONDS = 60  #: four looks of 15 seconds: between two of them that lie further apart nothing is counted
MOST_COUNT_SECONDS = 3600  #: within which something is counted
MOST_SUMMARY = 500


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One alert.

    Args:
        name: of the alert.
        condition: when it is one.
        seconds: its `duration`.
        severity: how bad it is.
        channels: who is told.
        keep_firing_seconds: how long it goes on firing after its condition has last held.
        summary: what to do, for those who are told.
    """

    name: str
    condition: Condition
    seconds: int
    severity: Severity
    channels: tuple[str, ...]
    keep_firing_seconds: int = 0
    summary: str = ""

    @property
    def for_seconds(self) -> int:
        """How long the condition has to hold before it fires; 0 for what counts within the duration."""
        return 0 if self.condition.is_count else self.seconds


def load_rules(path: Path) -> tuple[Rule, ...]:
    """The alerts of a file; one that is not there has none.

    Raises:
        AlertsRefused: with all that is wrong.
    """
    if not path.exists():
        return ()
    try:
        document = read_document(path, "of channels and alerts; docs/alerts.md describes it")
    except DocumentProblem as error:
        raise AlertsRefused([error.problem]) from None
    rules, problems = _read(document)
    if problems:
        raise AlertsRefused(problems)
    return tuple(rules)


def rule_problems(path: Path) -> tuple[Problem, ...]:
    """What is wrong with the alerts of a file."""
    try:
        load_rules(path)
    except AlertsRefused as error:
        return error.problems
    return ()


def _read(document: Document) -> tuple[list[Rule], list[Problem]]:
    listed = document.value.get("alerts") or []
    if not isinstance(listed, list):
        return [], [document.problem(("alerts",), "is no list; begin each alert with a dash.")]
    channels, names = document.names("channels"), set[str]()
    rules, problems = [], []
    for number, each in enumerate(listed):
        place: Place = ("alerts", number)
        if not isinstance(each, dict):
            problems.append(document.problem(place, "is no mapping; write name, condition and so on."))
            continue
        found = [*_faults(each, channels)]
        if (named := str(each.get("name"))) in names:
            found.append(("name", f"{each['name']!r} is there twice; give one another name."))
        names.add(named)
        problems += [document.problem((*place, name) if name else place, message) for name, message in found]
        if not found:
            rules.append(_rule(each))
    return rules, problems


def _faults(fields: dict[str, Any], channels: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in fields:
        if name not in FIELDS:
            close = difflib.get_close_matches(name, FIELDS, n=1)
            yield (
                name,
                f"there is no such field; {f'did you mean {close[0]}?' if close else 'known are ' + ', '.join(FIELDS)}",
            )
    for name in REQUIRED:
        if name not in fields:
            yield "", f"has no {name}."
    if "name" in fields and not NAME.fullmatch(str(fields["name"])):
        yield "name", f"{fields['name']!r} is no name; use small letters, digits and _, a letter first."
    if "severity" in fields and fields["severity"] not in list(Severity):
        yield "severity", f"{fields['severity']!r} is none; use {', '.join(Severity)}."
    if len(str(fields.get("summary", ""))) > MOST_SUMMARY or "{{" in str(fields.get("summary", "")):
        yield "summary", f"has more than {MOST_SUMMARY} characters, or {{{{, which begins a template of Prometheus."
    yield from _channel_faults(fields.get("channels", []), channels)
    yield from _duration_faults(fields)


def _channel_faults(named: Any, channels: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        yield "channels", "is no list of names."
        return
    for each in named:
        if each not in channels:
            yield "channels", f"{each!r} is no channel of this file; declared are {', '.join(channels) or 'none'}."


def _duration_faults(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("duration", "keep_firing"):
        if name in fields and _seconds(fields[name]) is None:
            yield name, f"{fields[name]!r} is no time of whole seconds up to a day; write one such as 30s, 5m or 1h30m."
    if "condition" not in fields:
        return
    try:
        condition = parse_condition(str(fields["condition"]))
    except ConditionProblem as error:
        yield "condition", str(error)
        return
    seconds = _seconds(fields.get("duration", "0s")) or 0
    if condition.is_count and not LEAST_COUNT_SECONDS <= seconds <= MOST_COUNT_SECONDS:
        yield "duration", "what is counted is counted within the duration; write one from 1m to 1h, such as 5m."


def _rule(fields: dict[str, Any]) -> Rule:
    return Rule(
        name=fields["name"],
        condition=parse_condition(str(fields["condition"])),
        seconds=_seconds(fields.get("duration", "0s")) or 0,
        severity=Severity(fields["severity"]),
        channels=tuple(dict.fromkeys(fields["channels"])),
        keep_firing_seconds=_seconds(fields.get("keep_firing", "0s")) or 0,
        summary=str(fields.get("summary", "")),
    )


def _seconds(text: Any) -> int | None:
    try:
        seconds, rest = divmod(parse_duration(text), timedelta(seconds=1))
    except ValueError:
        return None
    return None if rest or seconds > MOST_SECONDS else seconds
