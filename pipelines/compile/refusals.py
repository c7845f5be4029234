"""What no other scheduler is told to do: it has no word for it, and the pipeline would do something else there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipelines.definition import Pipeline
from pipelines.definition.document import Place

Refusal = tuple[Place, str]  #: where, and what with its remedy
ODD_CRON = re.compile(r"#|(?:^|,)(?:LW?|[0-7]L|L-?\d+|\d+W)(?:,|$)", re.IGNORECASE)  # the last, the nearest, the second


def common_refusals(pipeline: Pipeline) -> Iterator[Refusal]:
    """What no target does."""
    definition = pipeline.definition
    if definition.run_as:
        yield ("run_as",), "steps run as the user of the other scheduler's process; leave run_as out."
    for word in ("late", "slow", "overdue"):
        if getattr(definition.alerts, f"{word}_seconds", None) is not None:
            yield (
                ("alerts", word),
                f"only our scheduler sees that a run is {word}; leave it out, and use the other's alarm.",
            )
    rule = definition.schedule
    if rule is None:
        return
    if rule.ambiguous != "once":
        yield ("schedule", "ambiguous"), f"{rule.ambiguous} is a rule of our calendar alone; leave it out for once."
    if any(map(ODD_CRON.search, rule.cron.split())):
        yield ("schedule", "cron"), f"the days of {rule.cron!r} are read otherwise there; write them as numbers."
