"""What follows from an answer: where the trigger has come, and whether a run begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.definition.triggers import KafkaTrigger
from pipelines.store.records import Json

LAST_RUN = "run"  #: key of the last run that the trigger has started, in its position


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The position to keep; and of the run that begins, `${trigger.event}`."""

    position: dict[str, Json]
    event: str | None = None  #: None begins none


@dataclass(frozen=True, kw_only=True)
class TopicEnds:
    """A topic, and a group that reads it, at one moment. Offsets by partition."""

    topic_id: str  #: a topic made anew has another
    first: dict[int, int]  #: of the oldest record that is kept
    ends: dict[int, int]
    committed: dict[int, int]  #: of the group; partitions that it has committed nothing of are missing

    @property
    def lag(self) -> int:
        """How many records the group has before it; without an offset, all that are kept."""
        begins = {number: max(self.committed.get(number, 0), self.first.get(number, 0)) for number in self.ends}
        return sum(max(end - begins[number], 0) for number, end in self.ends.items())

    @property
    def progress(self) -> int:
        """Another number once the group has gone on."""
        return sum(self.committed.values())


def judge_records(rule: KafkaTrigger, position: Json, found: TopicEnds) -> Verdict | None:
    """What becomes of the records that are new since the last run; None leaves all as it is.

    All records of a partition that was added, and of a topic that was made anew, are new. When an offset
    has gone back in a topic that is the same, its log was truncated: it is counted on from there.
    """
    assert rule.records is not None, "it is a trigger by records"
    is_known = position is not None and position["topic_id"] == found.topic_id
    seen = position["offsets"] if is_known else {}
    # What a broker does not know at this moment is not new when it knows it again.
    offsets = {**seen, **{str(number): end for number, end in sorted(found.ends.items())}}
    now = {"topic_id": found.topic_id, "offsets": offsets}
    if position is None:
        return Verdict(position=now)
    new = sum(max(end - seen.get(str(number), 0), 0) for number, end in found.ends.items())
    if new >= rule.records:
        return Verdict(position=now, event=f"{rule.topic} {new}")
    # Partitions are never taken away, but a broker that does not know all of them yet may say so.
    if all(found.ends[int(number)] >= end for number, end in seen.items() if int(number) in found.ends):
        return None
    lower = {number: min(end, found.ends.get(int(number), end)) for number, end in seen.items()}
    return Verdict(position={**position, "offsets": lower})


def judge_lag(rule: KafkaTrigger, position: Json, found: TopicEnds, *, is_running: bool) -> Verdict | None:
    """Whether a run begins because the group is so far behind; None leaves all as it is.

    One begins when the group falls behind. The next begins after that one has ended, if the lag has been below
    since, or if the group has moved since the run began and is still, or again, so far behind. A run that does
    not bring the group on is not followed by another.

    Args:
        rule: with topic, lag and group.
        position: None before the first look: a group that is behind then, is.
        found: what the cluster says.
        is_running: whether the last run that this trigger has started has not ended.
    """
    assert rule.lag is not None, "it is a trigger by lag"
    position = position or {"is_armed": True, "progress": 0}
    is_behind, is_armed = found.lag >= rule.lag, position["is_armed"]
    if not is_armed:
        is_armed = not is_behind or (not is_running and found.progress != position["progress"])
    if is_armed and is_behind and not is_running:
        return Verdict(
            position={**position, "is_armed": False, "progress": found.progress},
            event=f"{rule.group} {rule.topic} {found.lag}",
        )
    return Verdict(position={**position, "is_armed": is_armed}) if is_armed != position["is_armed"] else None


def judge_table(table: str, position: Json, moment: dict[str, Any], *, is_changed: bool) -> Verdict | None:
    """A run for a table that has changed; the first look only begins."""
    if is_changed:
        return Verdict(position=moment, event=table)
    return Verdict(position=moment) if position is None else None
