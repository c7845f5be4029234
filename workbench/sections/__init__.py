"""What can be set: each section is a group of variables, with what contradicts itself inside it.

A field's alias is the name of its variable, its description the line in docs/settings.md.
`workbench.settings` reads them; tests and the documentation look at them.
"""

from collections.abc import Mapping

from workbench.sections.audit import AuditSettings
from workbench.sections.backup import BackupSettings
from workbench.sections.base import Section, is_loopback
from workbench.sections.embedded import EmbeddedSettings
from workbench.sections.hub import HubSettings
from workbench.sections.kafka import KafkaSettings, SchemaRegistrySettings
from workbench.sections.keys import KeysSettings
from workbench.sections.login import LoginSettings
from workbench.sections.logs import LogSettings
from workbench.sections.policies import PoliciesSettings
from workbench.sections.spark import SparkSettings
from workbench.sections.warehouse import EMBEDDED_SUPERUSER, PipelinesSettings, WarehouseSettings

__all__ = [
    "ALERTS",
    "EMBEDDED_SUPERUSER",
    "SECTIONS",
    "AuditSettings",
    "BackupSettings",
    "EmbeddedSettings",
    "HubSettings",
    "KafkaSettings",
    "KeysSettings",
    "LogSettings",
    "LoginSettings",
    "PipelinesSettings",
    "PoliciesSettings",
    "SchemaRegistrySettings",
    "Section",
    "SparkSettings",
    "WarehouseSettings",
    "is_loopback",
    "key_variables",
    "variables",
    "without_administrators",
    "without_keys",
]

ALERTS = "WORKBENCH_ALERTS_"  #: begins names that pipelines/alerts.yaml makes up, of addresses with secrets in them
SECTIONS: dict[str, type[Section]] = {
    "kafka": KafkaSettings,
    "registry": SchemaRegistrySettings,
    "spark": SparkSettings,
    "warehouse": WarehouseSettings,
    "pipelines": PipelinesSettings,
    "policies": PoliciesSettings,
    "login": LoginSettings,
    "hub": HubSettings,
    "audit": AuditSettings,
    "embedded": EmbeddedSettings,
    "keys": KeysSettings,
    "backup": BackupSettings,
    "logs": LogSettings,
}


def variables() -> dict[str, type[Section]]:
    """Every variable that is read, with the section that it belongs to."""
    return {
        str(field.validation_alias): section for section in SECTIONS.values() for field in section.model_fields.values()
    }


def key_variables() -> frozenset[str]:
    """Those that lead to the root key."""
    return frozenset(name for name, section in variables().items() if section is KeysSettings)


def without_administrators(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of what runs pipelines: without whoever makes roles in the warehouse."""
    names = {"WORKBENCH_POLICIES_ADMIN_USER", "WORKBENCH_POLICIES_ADMIN_PASSWORD"}
    return {name: value for name, value in environment.items() if name not in names}


def without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of what runs other people's code: without what leads to the root key, or to channels of alerts."""
    names = key_variables()
    return {name: value for name, value in environment.items() if name not in names and not name.startswith(ALERTS)}
