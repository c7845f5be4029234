"""Topics as code: what pipelines/topics.yaml asks for is created; what would lose data is refused."""

from workbench.ingestion.topics.apply import apply_topics, plan_topics
from workbench.ingestion.topics.definition import Acl, SchemaFile, Topic
from workbench.ingestion.topics.file import read_topics
from workbench.ingestion.topics.inventory import ListedTopic, list_topics
from workbench.ingestion.topics.plan import Change

__all__ = [
    "Acl",
    "Change",
    "ListedTopic",
    "SchemaFile",
    "Topic",
    "apply_topics",
    "list_topics",
    "plan_topics",
    "read_topics",
]
