"""Writes alerts as a rule file of Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from workbench.observability.alerts.rules import Rule

GROUP = "workbench"
HEADER = "# Made by `workbench alerts compile` from pipelines/alerts.yaml; correct that file, and not this one.\n"


def as_rule_file(rules: Sequence[Rule]) -> str:
    """The file; the receivers of Alertmanager are chosen by the labels `severity` and `channels`."""
    group = {"name": GROUP, "rules": [_rule(each) for each in rules]}
    return HEADER + yaml.safe_dump({"groups": [group]}, sort_keys=False, width=120)


def _rule(rule: Rule) -> dict[str, object]:
    made: dict[str, object] = {"alert": rule.name, "expr": rule.condition.promql(rule.seconds)}
    if rule.for_seconds:
        made["for"] = f"{rule.for_seconds}s"
    if rule.keep_firing_seconds:
        made["keep_firing_for"] = f"{rule.keep_firing_seconds}s"
    # Alertmanager's matchers look for `,slack,` in it.
    made["labels"] = {"severity": str(rule.severity), "channels": f",{','.join(rule.channels)},"}
    if rule.summary:
        made["annotations"] = {"summary": rule.summary}
    return made
