"""The whole difference between the topics that are wanted and the cluster; pure values."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from workbench.ingestion.cluster.admin import ClusterTopic, ClusterTopics, Grant, Property
from workbench.ingestion.topics.definition import FOREVER, MILLISECONDS_PER_HOUR, Topic

ACL = "acl"
PARTITIONS = "partitions"
REPLICATION = "replication"
TOPIC = "topic"
LIMITS = {"retention.ms": "older records", "retention.bytes": "the oldest records"}
#: Turned on, these let the cluster drop what it has acknowledged or stored.
DROPPING = {"unclean.leader.election.enable", "remote.log.delete.on.disable"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference between the cluster and the file, and what is done about it."""

    topic: Topic
    action: str  #: create, grow, config, allow, withdraw; extra is left alone; refuse stops `apply`
    detail: str
    about: str  #: topic, partitions, replication, acl, or the name of a property
    old: str = ""
    new: str = ""
    grant: Grant | None = None


def differences(
    wanted: Sequence[Topic], cluster: ClusterTopics, *, prune_acls: bool = False, allow_data_loss: Collection[str] = ()
) -> tuple[Change, ...]:
    """Every difference, topic by topic in the order of the file."""
    changes: list[Change] = []
    asked: set[Grant] = set()
    for topic in wanted:
        existing = cluster.topics.get(topic.name)
        if existing is None:
            changes.append(_create(topic))
        else:
            changes += _layout(topic, existing)
            changes += _properties(topic, existing, is_loss_allowed=topic.name in allow_data_loss)
        # A group may be asked for by several topics.
        changes += _acls(topic, cluster, already=asked, prune=prune_acls)
        asked |= topic.grants
    return tuple(changes)


def refusal(topic: Topic, about: str, reason: str, *, old: str = "", new: str = "") -> Change:
    """A difference that `apply` does not do away with."""
    return Change(topic=topic, action="refuse", detail=f"{topic.name}: {reason}", about=about, old=old, new=new)


def loss(name: str, old: str, new: str) -> str:
    """What a new value of a property takes away, or an empty text."""
    if name in LIMITS and _limit(new) < _limit(old):
        return f"removes {LIMITS[name]}"
    if name == "cleanup.policy":
        added = _items(new) - _items(old)
        return {
            frozenset({"compact"}): "removes all but the last record of each key",
            frozenset({"delete"}): "removes records after their retention",
        }.get(frozenset(added), "removes records" if added else "")
    if name in DROPPING and new.strip().lower() == "true" and old != "true":
        return "lets the cluster drop records"
    return ""


def is_same(kind: str, one: str, other: str) -> bool:
    """Whether two spellings of a property of this type mean the same."""
    if kind == "LIST":
        return _items(one) == _items(other)
    if kind in {"INT", "LONG", "SHORT", "DOUBLE"}:
        try:
            return one == other or float(one) == float(other)
        except ValueError:
            return False
    return one.strip().lower() == other.strip().lower() if kind == "BOOLEAN" else one == other


def _create(topic: Topic) -> Change:
    properties = [f"{name} {_shown(name, value)}" for name, value in sorted(topic.configuration.items())]
    count = "1 partition" if topic.partitions == 1 else f"{topic.partitions} partitions"
    copies = [f"replication {topic.replication}"] if topic.replication != -1 else []
    schema = [f"schema {topic.schema}"] if topic.schema else []
    detail = f"{topic.name}: create with {', '.join([count, *copies, *properties, *schema])}"
    return Change(topic=topic, action="create", detail=detail, about=TOPIC)


def _layout(topic: Topic, existing: ClusterTopic) -> Iterator[Change]:
    old, new = str(existing.partitions), str(topic.partitions)
    if existing.partitions < topic.partitions:
        detail = f"{topic.name}: grow from {old} to {new} partitions; some keys move to other partitions"
        yield Change(topic=topic, action="grow", detail=detail, about=PARTITIONS, old=old, new=new)
    if existing.partitions > topic.partitions:
        reason = f"has {old} partitions and cannot shrink to {new} without losing records"
        yield refusal(topic, PARTITIONS, reason, old=old, new=new)
    if topic.replication not in {-1, existing.replication}:
        reason = f"replication {existing.replication} → {topic.replication}: reassign by hand"
        yield refusal(topic, REPLICATION, reason, old=str(existing.replication), new=str(topic.replication))


def _properties(topic: Topic, existing: ClusterTopic, *, is_loss_allowed: bool) -> Iterator[Change]:
    wanted = topic.configuration
    if wanted and not existing.properties:
        yield refusal(topic, "config", "this user may not read the properties of the topic")
        return
    for name, new in sorted(wanted.items()):
        known = existing.properties.get(name)
        if known is None:
            close = get_close_matches(name, existing.properties, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            yield refusal(topic, name, f"the cluster knows no property {name!r} of topics{meant}", new=new)
        elif not is_same(known.kind, known.value, new):
            yield _property(topic, name, known, new, is_loss_allowed=is_loss_allowed)
    for name, each in sorted(existing.properties.items()):
        if each.is_own and name not in wanted:
            detail = f"{topic.name}: not in the file: {name} is {_shown(name, each.value)}"
            yield Change(topic=topic, action="extra", detail=detail, about=name, old=each.value)


def _property(topic: Topic, name: str, known: Property, new: str, *, is_loss_allowed: bool) -> Change:
    change = f"{name} {_shown(name, known.value)} → {_shown(name, new)}"
    lost = loss(name, known.value, new)
    if lost and not is_loss_allowed:
        reason = f"{change} {lost}; --allow-data-loss {topic.name} lets it through"
        return refusal(topic, name, reason, old=known.value, new=new)
    detail = f"{topic.name}: {change}" + (f", which {lost}" if lost else "")
    return Change(topic=topic, action="config", detail=detail, about=name, old=known.value, new=new)


def _acls(topic: Topic, cluster: ClusterTopics, *, already: set[Grant], prune: bool) -> Iterator[Change]:
    if cluster.no_grants_because:
        if topic.acls:
            yield refusal(topic, ACL, cluster.no_grants_because)
        return
    for grant in sorted(topic.grants - cluster.grants - already):
        detail = f"{topic.name}: {grant}"
        yield Change(topic=topic, action="allow", detail=detail, about=ACL, new=str(grant), grant=grant)
    of_topic = {grant for grant in cluster.grants if grant.resource == "topic" and grant.name == topic.name}
    for grant in sorted(of_topic - topic.grants):
        # Without a deny, somebody may do more than before; the file cannot have meant that.
        removed = prune and not grant.is_denied
        detail = f"{topic.name}: {'remove' if removed else 'not in the file'}: {grant}"
        action = "withdraw" if removed else "extra"
        yield Change(topic=topic, action=action, detail=detail, about=ACL, old=str(grant), grant=grant)


def _items(value: str) -> set[str]:
    return {item.strip() for item in value.split(",") if item.strip()}


def _limit(value: str) -> float:
    """A limit as a number; what is none passes for unlimited, because the cluster will refuse it."""
    try:
        number = int(value)
    except ValueError:
        return float("inf")
    return float("inf") if number == FOREVER else float(number)


def _shown(name: str, value: str) -> str:
    if name == "retention.ms":
        return as_duration(value)
    if name == "retention.bytes":
        return "without limit" if value == str(FOREVER) else f"{value} bytes"
    return value or "nothing"


def as_duration(milliseconds: str) -> str:
    """A retention in hours, where it is whole hours."""
    if milliseconds == str(FOREVER):
        return "for ever"
    if milliseconds.isdigit() and not int(milliseconds) % MILLISECONDS_PER_HOUR:
        return f"{int(milliseconds) // MILLISECONDS_PER_HOUR} h"
    return f"{milliseconds} ms"
