"""Plans against a cluster, and carries the plan out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from workbench.errors import KafkaError, WorkbenchError
from workbench.ingestion.cluster.admin import Grant, TopicAdmin, open_admin
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.topics.definition import Topic
from workbench.ingestion.topics.plan import Change, differences, refusal

Step = Callable[[TopicAdmin, Sequence[Change]], Mapping[Any, str]]  # -> what the cluster refused, with its reason


def plan_topics(
    connection: KafkaConnection,
    wanted: Sequence[Topic],
    *,
    prune_acls: bool = False,
    allow_data_loss: Collection[str] = (),
) -> tuple[Change, ...]:
    """The whole difference between *wanted* and the cluster; nothing is changed.

    What the cluster would refuse is found by asking it to validate only, and is a refusal in the plan.

    Args:
        connection: the cluster.
        wanted: topics that are not among them are left alone.
        prune_acls: ACLs of these topics that are not wanted are to be removed.
        allow_data_loss: topics whose retention and compaction may be changed so that records go.

    Raises:
        KafkaError: when the cluster does not answer.
        WorkbenchError: when *allow_data_loss* names a topic that is not wanted.
    """
    _check_names(wanted, allow_data_loss)
    with open_admin(connection) as admin:
        return _plan(admin, wanted, prune_acls, allow_data_loss)


def apply_topics(
    connection: KafkaConnection,
    wanted: Sequence[Topic],
    *,
    prune_acls: bool = False,
    allow_data_loss: Collection[str] = (),
) -> tuple[Change, ...]:
    """Change the cluster until it has what is wanted; returns what was done.

    Topics are created and grow, properties are set, ACLs are added; nothing is ever deleted but
    ACLs, with *prune_acls*. A topic that grows sends the records of some keys to other partitions
    from then on. The arguments are those of `plan_topics`.

    Raises:
        KafkaError: when a change would lose records or the cluster refuses it, before anything is
            changed; or later, with what was done until then.
        WorkbenchError: when *allow_data_loss* names a topic that is not wanted.
    """
    _check_names(wanted, allow_data_loss)
    with open_admin(connection) as admin:
        changes = _plan(admin, wanted, prune_acls, allow_data_loss)
        if refused := [change.detail for change in changes if change.action == "refuse"]:
            raise KafkaError(
                "nothing was changed, because this cannot be done:" + "".join(f"\n  - {each}" for each in refused),
                remedy="Correct the file, or make a new topic and move its readers.",
            )
        return _carry_out(admin, changes)


def _plan(
    admin: TopicAdmin, wanted: Sequence[Topic], prune_acls: bool, allow_data_loss: Collection[str]
) -> tuple[Change, ...]:
    cluster = admin.read_wanted([topic.name for topic in wanted])
    changes = differences(wanted, cluster, prune_acls=prune_acls, allow_data_loss=allow_data_loss)
    properties = _new_properties(changes)
    refused = {
        "create": admin.create(_new_topics(changes), only_try=True),
        "config": admin.set_properties(properties, only_try=True),
    }
    return tuple(
        _tried(change, refused.get(change.action, {}).get(change.topic.name, ""), properties) for change in changes
    )


def _tried(change: Change, reason: str, properties: Mapping[str, Mapping[str, str]]) -> Change:
    """The change, or a refusal when the cluster would refuse it for this reason."""
    # Properties of a topic are refused together; the reason names the one that is wrong.
    named = [name for name in properties.get(change.topic.name, {}) if name in reason]
    if not reason or (named and change.about not in named):
        return change
    return refusal(change.topic, change.about, f"the cluster would refuse: {reason}", old=change.old, new=change.new)


def _carry_out(admin: TopicAdmin, changes: Sequence[Change]) -> tuple[Change, ...]:
    done: list[Change] = []
    for action, step in STEPS.items():
        part = [change for change in changes if change.action == action]
        refused = step(admin, part) if part else {}
        done += [change for change in part if change.topic.name not in refused and change.grant not in refused]
        if refused:
            before = "; ".join(change.detail for change in done) or "nothing"
            reasons = "; ".join(f"{what}: {reason}" for what, reason in refused.items())
            raise KafkaError(
                f"the cluster refused to {action}: {reasons}. Done: {before}",
                remedy="Look at `workbench topics plan`, and check the rights of KAFKA_USERNAME.",
            )
    return tuple(done)


def _new_topics(changes: Sequence[Change]) -> dict[str, tuple[int, int, Mapping[str, str]]]:
    return {
        change.topic.name: (change.topic.partitions, change.topic.replication, change.topic.configuration)
        for change in changes
        if change.action == "create"
    }


def _new_properties(changes: Sequence[Change]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for change in changes:
        if change.action == "config":
            found.setdefault(change.topic.name, {})[change.about] = change.new
    return found


def _grants(changes: Sequence[Change]) -> list[Grant]:
    return [change.grant for change in changes if change.grant]


STEPS: Mapping[str, Step] = {
    "create": lambda admin, changes: admin.create(_new_topics(changes)),
    "grow": lambda admin, changes: admin.grow({change.topic.name: change.topic.partitions for change in changes}),
    "config": lambda admin, changes: admin.set_properties(_new_properties(changes)),
    "allow": lambda admin, changes: admin.allow(_grants(changes)),
    "withdraw": lambda admin, changes: admin.withdraw(_grants(changes)),
}


def _check_names(wanted: Sequence[Topic], allow_data_loss: Collection[str]) -> None:
    unknown = sorted(set(allow_data_loss) - {topic.name for topic in wanted})
    if unknown:
        raise WorkbenchError(
            f"data loss is allowed for {', '.join(unknown)}, but the file has no such topic",
            remedy="Name topics of the file.",
        )
