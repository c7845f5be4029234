"""What a message about one run, about several of one pipeline, or about an alert on metrics says."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.store.outbox import Taken
from pipelines.store.troubles import LATE, OVERDUE, SLOW
from workbench.observability.notifications import Notification, Severity
from workbench.settings import Settings

MOST_RUNS = 20
GOOD = ("succeeded", "skipped")
TOO_LONG = {
    LATE: "has not begun {late} after its time.",
    SLOW: "has not ended {slow} after it began.",
    OVERDUE: "has not ended {overdue} after its time.",
}


def as_notification(taken: Sequence[Taken], site: str) -> Notification:
    """One message for alerts of one pipeline, or for one alert on metrics.

    Args:
        taken: at least one, the oldest first.
        site: where the pages of runs are, such as `https://hub.example.com/services/pipelines`; empty is nowhere.
    """
    first = taken[0].body
    if "alert" in first:
        return _on_metrics(taken)
    severity = Severity.INFO if all(each.body["state"] in GOOD for each in taken) else Severity.CRITICAL
    if len(taken) == 1:
        again = " again" if first.get("failed_before") else ""
        title = f"{first['pipeline']}: run {first['run']} {first['state']}{again}"
        return Notification(title=title, body=_about(first, site), key=taken[0].key, severity=severity)
    title = f"{first['pipeline']}: {len(taken)} runs, {_counts(taken)}"
    parts = [_about(each.body, site) for each in taken[-MOST_RUNS:]]
    if len(taken) > MOST_RUNS:
        parts.insert(0, f"{len(taken) - MOST_RUNS} earlier runs are not shown.")
    return Notification(title=title, body="\n\n".join(parts), key=taken[0].key, severity=severity)


def _on_metrics(taken: Sequence[Taken]) -> Notification:
    """What is so now: of messages that have waited, only the last one is still true."""
    last = taken[-1].body
    before = [f"Before that: {each.body['title']}" for each in taken[-MOST_RUNS:-1]]
    return Notification(
        title=last["title"],
        body="\n".join([last["body"], *before]),
        key=last["key"],
        severity=Severity(last["severity"]),
        is_resolved=bool(last["is_resolved"]),
    )


def run_pages(settings: Settings) -> str:
    """Where browsers find the pages of runs; empty when nobody has said how they reach the hub."""
    url = settings.hub.public_url
    return f"{url.rstrip('/')}/services/pipelines" if url else ""


def _counts(taken: Sequence[Taken]) -> str:
    states = [str(each.body["state"]) for each in taken]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _about(body: dict[str, object], site: str) -> str:
    run = f"Run {body['run']} of {body['pipeline']}"
    too_long = TOO_LONG.get(str(body["state"]))
    lines = [f"{run} {too_long.format(**body)}" if too_long else f"{run} ended {body['state']}."]
    lines += [f"Run {body['failed_before']} had failed before."] if body.get("failed_before") else []
    lines += [f"Reason: {body['reason']}"] if body.get("reason") else []
    lines += [f"{word.capitalize()}: {body[word]}" for word in ("instant", "partition") if body.get(word)]
    causes = body.get("causes")
    for cause in causes if isinstance(causes, list) else []:
        cell = "" if cause["cell"] is None else f", cell {cause['cell']}"
        error = f": {cause['error']}" if cause["error"] else ""
        lines.append(f"Step {cause['step']}{cell} ended {cause['state']}{error}")
    lines.append(f"See {site}/runs/{body['run']}" if site else f"See: workbench pipelines show {body['run']}")
    return "\n".join(lines)
