"""Named clusters as code: pipelines/clusters.yaml says where they are, and where their secrets are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from workbench.errors import SecretUnavailable, SettingsError
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.references import HOW, SecretReference
from workbench.resolving import References
from workbench.resources import resource
from workbench.sections import KafkaSettings
from workbench.security.references import references_of
from workbench.settings import Settings

SECRETS = ("password", "key_password")
FILES = ("ca_file", "certificate_file", "key_file", "token_ca_file")
FIELDS = tuple(name for name in KafkaSettings.model_fields if name != "clusters_file")


class Cluster(KafkaSettings):
    """One entry of the file: the fields and rules of the variables, and none of their values."""

    model_config = SettingsConfigDict(validate_by_name=True, validate_by_alias=False, hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *others: Any, **more: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the file says: no variable of the environment fills a gap."""
        return (init_settings,)

    def label(self, field: str) -> str:
        """What people write to set *field*: its name."""
        return field

    def problems(self) -> list[str]:
        """What is missing or contradicts itself, one sentence with its remedy each."""
        if not self.brokers:
            return ["brokers is not set. Write host:port of some of its brokers."]
        return super().problems()


def open_cluster(settings: Settings, name: str = "") -> KafkaConnection:
    """How to reach the cluster *name* of the file of clusters; without a name, that of the KAFKA_ variables.

    Args:
        settings: which name the file, and where secrets of `keyset:` and `vault:` are.
        name: under `clusters:`.

    Raises:
        SettingsError: with every problem of the file and of that cluster.
        KafkaError: when no cluster is configured.
    """
    if not name:
        return KafkaConnection.from_settings(settings.kafka)
    file = settings.kafka.clusters_file or resource("pipelines") / "clusters.yaml"
    return KafkaConnection.named(name, file, references=references_of(settings, os.environ))


def read_cluster(file: Path, name: str, references: References) -> Cluster:
    """The cluster *name*, with its secrets.

    Args:
        file: mapping `clusters:` of name to fields; paths in it are relative to its folder.
        name: which one.
        references: read its secrets.

    Raises:
        SettingsError: with every problem of the file, and of this cluster's values and secrets.
    """
    entries = _read_entries(file)
    if name not in entries:
        known = ", ".join(sorted(entries)) or "none"
        raise SettingsError([f"{file}: there is no cluster {name!r}. Known are {known}."])
    where = f"{file}: cluster {name}"
    values, problems = _resolved(dict(entries[name]), file.parent, references)
    if not problems:
        try:
            cluster = Cluster(**values)
        except ValidationError as error:
            problems = [
                f"{detail['loc'][0]}: {detail['msg'].removeprefix('Value error, ')}." for detail in error.errors()
            ]
        else:
            problems = cluster.problems()
    if problems:
        raise SettingsError([f"{where}: {problem}" for problem in problems])
    return cluster


def _read_entries(file: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([f"{file}: {error.strerror}. Set WORKBENCH_KAFKA_CLUSTERS_FILE."]) from None
    except yaml.YAMLError as error:
        # The error quotes the line, which may hold what should not be there.
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise SettingsError([f"{file}: no YAML{line}. See docs/kafka.md for the format."]) from None
    entries = raw.get("clusters") if isinstance(raw, dict) else None
    if not isinstance(entries, dict):
        raise SettingsError([f"{file}: there is no mapping `clusters:`. See docs/kafka.md for the format."])
    problems = [f"{file}: cluster {name}: {each}" for name, fields in entries.items() for each in _problems(fields)]
    if problems:
        raise SettingsError(problems)
    return entries


def _problems(fields: Any) -> list[str]:
    """What is wrong with an entry whatever its secrets are; no value of a secret is in it."""
    if not isinstance(fields, dict):
        return [f"it is no mapping of {', '.join(FIELDS)}."]
    found = [f"unknown field {name!r}. Known are {', '.join(FIELDS)}." for name in fields if name not in FIELDS]
    found += [
        f"{name} is written out. Secrets do not belong in this file: write {HOW}."
        for name in SECRETS
        if name in fields and _reference(fields[name], Path()) is None
    ]
    return found


def _reference(value: Any, folder: Path) -> SecretReference | None:
    """Where a secret is; a file may be relative to *folder*."""
    if not isinstance(value, str):
        return None
    scheme, _, place = value.partition(":")
    if scheme == "file" and place.strip():
        return SecretReference(scheme, str((folder / Path(place).expanduser()).absolute()))
    try:
        return SecretReference.parse(value)
    except ValueError:
        return None


def _resolved(fields: dict[str, Any], folder: Path, references: References) -> tuple[dict[str, Any], list[str]]:
    problems = []
    for name in (name for name in FILES if isinstance(fields.get(name), str)):
        fields[name] = folder / Path(fields[name]).expanduser()
    for name in (name for name in SECRETS if name in fields):
        reference = _reference(fields[name], folder)
        assert reference is not None  # all entries have been checked
        try:
            fields[name] = references.read(reference)
        except SecretUnavailable as error:
            problems.append(f"{name}: {error.message}.{' ' if error.remedy else ''}{error.remedy}")
    return fields, problems
