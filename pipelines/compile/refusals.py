"""What no other scheduler is told to do: it has no word for it, and the pipeline would do something else there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipelines.definition import Pipeline
from pipelines.definition.document import Place

Refusal = tuple[Place, str]  #: where, and what with its remedy
ODD_CRON = re.compile(r"#|(?:^|,)(?:LW?|[0-7]L|L-?\d+|\d+W)(?:,|$)", re.IGNORECASE)  # the last, the nearest, the second
STEPPED_DAY = re.compile(r"(?:^|,)\w+/")  # of weekdays, without their end


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
    elif STEPPED_DAY.search(rule.cron.split()[4]):
        yield ("schedule", "cron"), f"the weekdays of {rule.cron!r} are read otherwise there; write them one by one."
    elif _is_odd(rule.cron):
        yield ("schedule", "cron"), "a day of the month and a weekday, one with a star, are `and` here and `or` there."


def _is_odd(cron: str) -> bool:
    """Whether Debian's rule for stars decides which days fit: the field of days or of weekdays is such as */2."""
    days, weekdays = cron.split()[2], cron.split()[4]
    stepped = [each for each in (days, weekdays) if each.startswith("*") and each != "*"]
    return bool(stepped) and "*" not in {days, weekdays}
