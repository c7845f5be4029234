"""A cluster's topics, their properties and their ACLs: read and changed through kafka-python's admin client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from workbench.errors import KafkaError
from workbench.ingestion.cluster.connection import KafkaConnection

UNKNOWN_TOPIC = 3  # error codes: kafka.apache.org/protocol#protocol_error_codes
INVALID_TOPIC = 17


@dataclass(frozen=True, order=True)
class Grant:
    """One ACL: who may do what with which topic or group (KIP-11, KIP-290)."""

    principal: str  #: such as User:alice
    operation: str  #: read, write, describe, …
    resource: str  #: topic or group
    name: str
    is_prefix: bool = False  #: for every name that begins with *name*
    host: str = "*"
    is_denied: bool = False

    def __str__(self) -> str:
        verb = "may not" if self.is_denied else "may"
        what = f"{self.resource}s that begin with {self.name}" if self.is_prefix else f"{self.resource} {self.name}"
        return f"{self.principal} {verb} {self.operation} {what}" + (f" from {self.host}" if self.host != "*" else "")


@dataclass(frozen=True)
class Property:
    """A property of a topic, in effect: set on the topic or taken from the cluster."""

    value: str
    kind: str = "STRING"  #: Kafka's type: BOOLEAN, INT, LONG, DOUBLE, LIST, …
    is_own: bool = False  #: set on the topic itself


@dataclass(frozen=True, kw_only=True)
class ClusterTopic:
    """A topic as the cluster has it."""

    name: str
    partitions: int
    replication: int  #: of the partition with the fewest copies
    properties: Mapping[str, Property]  #: empty when this user may not read them
    is_led: bool = True  #: every partition has a leader


@dataclass(frozen=True, kw_only=True)
class ClusterTopics:
    """The topics that were asked for, and the ACLs of single topics and of all groups."""

    topics: Mapping[str, ClusterTopic]
    grants: frozenset[Grant] = frozenset()
    no_grants_because: str = ""  #: why ACLs cannot be read


@dataclass(frozen=True)
class TopicAdmin:
    """Requests about topics. What changes something returns what the cluster refused, with its reason."""

    client: Any

    def read_wanted(self, names: Sequence[str]) -> ClusterTopics:
        """Those of the topics that exist, with properties and ACLs."""
        grants, reason = self._grants()
        return ClusterTopics(topics=self.read_topics(names), grants=grants, no_grants_because=reason)

    def read_topics(self, names: Sequence[str] | None = None) -> Mapping[str, ClusterTopic]:
        """Those of *names* that exist; without names all but the cluster's own.

        Raises:
            KafkaError: when the user may not see one of them.
        """
        from kafka.errors import for_code

        found = {}
        for each in self.client.describe_topics(None if names is None else list(names)):
            if each["error_code"] in {UNKNOWN_TOPIC, INVALID_TOPIC} or (names is None and each["is_internal"]):
                continue
            if each["error_code"]:
                raise for_code(each["error_code"])(f"topic {each['name']}")
            found[str(each["name"])] = each["partitions"]
        properties = self._properties(list(found))
        return {
            name: ClusterTopic(
                name=name,
                partitions=len(partitions),
                replication=min(len(each["replica_nodes"]) for each in partitions),
                properties=properties.get(name, {}),
                is_led=all(each["leader_id"] >= 0 for each in partitions),
            )
            for name, partitions in found.items()
        }

    def count_records(self, topics: Iterable[ClusterTopic]) -> Mapping[str, int]:
        """Offsets between the first and the next of each partition, summed for each topic.

        After compaction, and with transactions, there are fewer records than offsets.
        """
        from kafka import TopicPartition
        from kafka.protocol.consumer import OffsetSpec

        asked = [TopicPartition(each.name, number) for each in topics for number in range(each.partitions)]
        if not asked:
            return {}
        first = self.client.list_partition_offsets(dict.fromkeys(asked, OffsetSpec.EARLIEST))
        following = self.client.list_partition_offsets(dict.fromkeys(asked, OffsetSpec.LATEST))
        counts: dict[str, int] = {}
        for each in asked:
            counts[each.topic] = counts.get(each.topic, 0) + following[each].offset - first[each].offset
        return counts

    def create(
        self, topics: Mapping[str, tuple[int, int, Mapping[str, str]]], *, only_try: bool = False
    ) -> Mapping[str, str]:
        """Create topics of (partitions, replication, properties) and wait until they have leaders."""
        requests = {
            name: {"num_partitions": partitions, "replication_factor": replication, "configs": properties}
            for name, (partitions, replication, properties) in topics.items()
        }
        if not requests:
            return {}
        answer = self.client.create_topics(requests, validate_only=only_try, raise_errors=False)
        refused = _refused(answer["topics"])
        if not only_try:
            self.client.wait_for_topics([name for name in topics if name not in refused])
        return refused

    def grow(self, partitions: Mapping[str, int]) -> Mapping[str, str]:
        """Add partitions until each topic has as many."""
        answer = self.client.create_partitions(dict(partitions), raise_errors=False)
        return _refused(answer.to_dict()["results"])

    def set_properties(self, topics: Mapping[str, Mapping[str, str]], *, only_try: bool = False) -> Mapping[str, str]:
        """Set properties and leave the others as they are (KIP-339)."""
        from kafka.admin import ConfigResource, ConfigResourceType

        if not topics:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict(each)) for name, each in topics.items()]
        answer = self.client.alter_configs(resources, validate_only=only_try, raise_on_unknown=False, incremental=True)[
            "topic"
        ]
        return {name: str(result) for name, result in answer.items() if result != "OK"}

    def allow(self, grants: Sequence[Grant]) -> Mapping[Grant, str]:
        """Add ACLs."""
        made = {_as_acl(grant): grant for grant in grants}
        answer = self.client.create_acls(list(made))
        reasons = ", ".join(sorted({error.__name__ for error in answer["failed"]}))
        return {grant: reasons for acl, grant in made.items() if acl not in answer["succeeded"]}

    def withdraw(self, grants: Sequence[Grant]) -> Mapping[Grant, str]:
        """Remove exactly these ACLs."""
        answer = self.client.delete_acls([_as_acl(grant) for grant in grants])
        return {
            grant: error.__name__
            for grant, (_, _, error) in zip(grants, answer, strict=True)
            if error.__name__ != "NoError"
        }

    def _properties(self, names: Sequence[str]) -> dict[str, dict[str, Property]]:
        from kafka.admin import ConfigResource, ConfigResourceType

        if not names:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answer = self.client.describe_configs(resources, config_filter="all").get("topic", {})
        return {
            topic: {
                name: Property(
                    each["value"] or "",
                    each.get("config_type", "STRING"),
                    each["config_source"] == "DYNAMIC_TOPIC_CONFIG",
                )
                for name, each in properties.items()
            }
            for topic, properties in answer.items()
        }

    def _grants(self) -> tuple[frozenset[Grant], str]:
        from kafka.admin import ACLFilter, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourceType
        from kafka.admin import ResourcePatternFilter as Pattern
        from kafka.errors import ClusterAuthorizationFailedError, SecurityDisabledError

        asked = ((ResourceType.TOPIC, ACLResourcePatternType.LITERAL), (ResourceType.GROUP, ACLResourcePatternType.ANY))
        found = []
        try:
            for resource, pattern in asked:
                name = Pattern(resource, None, pattern)
                every = ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, name)
                found += self.client.describe_acls(every)[0]
        except SecurityDisabledError:
            return frozenset(), "the cluster has no authorizer, so it has no ACLs"
        except ClusterAuthorizationFailedError:
            return frozenset(), "this user may not read the cluster's ACLs"
        return frozenset(map(_as_grant, found)), ""


@contextmanager
def open_admin(connection: KafkaConnection) -> Iterator[TopicAdmin]:
    """Connect; errors of the driver become ours.

    Raises:
        KafkaError: when the cluster does not answer or does not let the user do it.
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError as DriverError

    connection.check()
    try:
        client = KafkaAdminClient(**connection.for_kafka_python())
        try:
            yield TopicAdmin(client)
        finally:
            client.close()
    except DriverError as error:
        raise KafkaError(
            f"Kafka at {','.join(connection.bootstrap_servers)} refused or did not finish: {error}",
            remedy="Check the rights of KAFKA_USERNAME, then look at `workbench topics plan`.",
        ) from None


def _refused(results: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    from kafka.errors import for_code

    return {
        each["name"]: each.get("error_message") or for_code(each["error_code"]).__name__
        for each in results
        if each["error_code"]
    }


def _as_acl(grant: Grant) -> Any:
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

    pattern = ACLResourcePatternType.PREFIXED if grant.is_prefix else ACLResourcePatternType.LITERAL
    return ACL(
        grant.principal,
        grant.host,
        ACLOperation[grant.operation.upper()],
        ACLPermissionType.DENY if grant.is_denied else ACLPermissionType.ALLOW,
        ResourcePattern(ResourceType[grant.resource.upper()], grant.name, pattern),
    )


def _as_grant(acl: Any) -> Grant:
    return Grant(
        principal=acl.principal,
        operation=acl.operation.name.lower(),
        resource=acl.resource_pattern.resource_type.name.lower(),
        name=acl.resource_pattern.resource_name,
        is_prefix=acl.resource_pattern.pattern_type.name == "PREFIXED",
        host=acl.host,
        is_denied=acl.permission_type.name == "DENY",
    )
