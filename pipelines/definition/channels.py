"""Checks that the channels of alerts are there, and that alerts on metrics are right: pipelines/alerts.yaml declares both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.definition.document import Place, Problem
from pipelines.definition.model import Definition
from pipelines.parameters.declared import unknown_name
from workbench.observability.alerts.rules import rule_problems
from workbench.observability.notifications import read_channels


def unknown_channels(definition: Definition, file: Path) -> Iterator[tuple[Place, str]]:
    """Each channel that a pipeline names and *file* does not declare."""
    if definition.alerts is None:
        return
    found = read_channels(file)
    if found.faults:  # told by `channel_problems`
        return
    for number, name in enumerate(definition.alerts.to):
        if name not in found.channels:
            yield (
                ("alerts", "to", number),
                unknown_name(name, tuple(found.channels), "channel of pipelines/alerts.yaml,"),
            )


def channel_problems(file: Path) -> Iterator[Problem]:
    """What is wrong with the file itself."""
    for each in read_channels(file).faults:
        yield Problem(file, each.line, each.field, each.message)
    if not read_channels(file).faults:
        yield from rule_problems(file)
