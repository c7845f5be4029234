"""What a topic should be like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workbench.ingestion.cluster.admin import Grant

FOREVER = -1
MILLISECONDS_PER_HOUR = 3_600_000
#: Values of `compaction` in the file, and what they are as cleanup.policy.
COMPACTION: Mapping[bool | str, str] = {False: "delete", True: "compact", "and-delete": "compact,delete"}
#: Operations that a topic knows (kafka.apache.org, "Operations and Resources on Protocols").
OPERATIONS = (
    "read", "write", "create", "delete", "alter", "describe", "describe_configs", "alter_configs", "all",
)  # fmt: skip
FORMATS = ("avro", "protobuf", "json")


@dataclass(frozen=True, kw_only=True)
class Acl:
    """What one principal may do with a topic, and the consumer groups that it may use."""

    principal: str  #: such as User:alice
    operations: tuple[str, ...]
    group: str = ""  #: a group, or with a star at the end all that begin so

    def grants(self, topic: str) -> Iterator[Grant]:
        """The ACLs of Kafka."""
        for operation in self.operations:
            yield Grant(self.principal, operation, "topic", topic)
        if self.group:
            yield Grant(self.principal, "read", "group", self.group.removesuffix("*"), self.group.endswith("*"))


@dataclass(frozen=True, kw_only=True)
class SchemaFile:
    """The schema of a topic's values."""

    subject: str
    format: str  #: avro, protobuf or json
    file: Path

    def __str__(self) -> str:
        return f"{self.subject} ({self.format}, {self.file.name})"


@dataclass(frozen=True, kw_only=True)
class Topic:
    """What a topic should be like; None leaves it to the cluster."""

    name: str
    partitions: int = 1
    replication: int = -1  #: -1 is the cluster's default
    retention_hours: int | None = None  #: -1 keeps records for ever
    retention_bytes: int | None = None  #: of each partition; -1 is no limit
    compaction: bool | str | None = None  #: a key of COMPACTION
    schema: SchemaFile | None = None
    owner: str = ""
    acls: tuple[Acl, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)  #: other properties, by Kafka's names

    @property
    def configuration(self) -> dict[str, str]:
        """Topic properties of Kafka (kafka.apache.org, "Topic Configs")."""
        found = dict(self.config)
        if self.retention_hours is not None:
            is_forever = self.retention_hours == FOREVER
            found["retention.ms"] = str(FOREVER if is_forever else self.retention_hours * MILLISECONDS_PER_HOUR)
        if self.retention_bytes is not None:
            found["retention.bytes"] = str(self.retention_bytes)
        if self.compaction is not None:
            found["cleanup.policy"] = COMPACTION[self.compaction]
        return found

    @property
    def grants(self) -> frozenset[Grant]:
        """The ACLs of Kafka."""
        return frozenset(grant for acl in self.acls for grant in acl.grants(self.name))
