"""Reads topics from a YAML file; every field that is wrong is named, all in one error."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from workbench.errors import SettingsError
from workbench.ingestion.topics.definition import COMPACTION, FORMATS, OPERATIONS, Acl, SchemaFile, Topic

NAME = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")  # org.apache.kafka.common.internals.Topic
PRINCIPAL = re.compile(r"\w+:.+")
GROUP = re.compile(r"[^*]+\*?")
#: Properties that have a field of their own.
FIELD_OF = {"retention.ms": "retention_hours", "retention.bytes": "retention_bytes", "cleanup.policy": "compaction"}

Check = Callable[[str, Any], Iterator[str]]  # (where, value) -> what is wrong


def read_topics(path: Path) -> tuple[Topic, ...]:
    """The topics of a YAML file, each with the fields of `defaults:` that it does not set itself.

    Raises:
        SettingsError: naming the file and every field that is wrong.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError([f"{path}: {error}"]) from None
    entries = raw.get("topics") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(entries, dict):
        raise SettingsError([f"{path}: there is no mapping `topics:`. See docs/topics.md for the format."])
    defaults = raw.get("defaults") or {}
    problems = [
        *(f"{path}: unknown field {key!r}. Known are defaults, topics." for key in raw.keys() - {"defaults", "topics"}),
        *_problems(f"{path}: defaults", defaults, CHECKS.keys() - {"schema"}),
        *(problem for name, fields in entries.items() for problem in _topic_problems(path, name, fields or {})),
    ]
    if not problems:
        merged = {name: _merged(defaults, fields or {}) for name, fields in entries.items()}
        problems = [problem for name, fields in merged.items() for problem in _contradictions(path, name, fields)]
    if problems:
        raise SettingsError(problems)
    return tuple(_topic(path.parent, name, fields) for name, fields in merged.items())


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def _merged(defaults: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    config = {**(defaults.get("config") or {}), **(fields.get("config") or {})}
    return {**defaults, **fields, "config": config}


def _topic(folder: Path, name: str, fields: Mapping[str, Any]) -> Topic:
    schema = fields.get("schema")
    return Topic(
        **{
            **fields,
            "name": name,
            "acls": tuple(
                Acl(
                    principal=acl["principal"],
                    operations=tuple(map(str.lower, acl["operations"])),
                    group=acl.get("group", ""),
                )
                for acl in fields.get("acls", ())
            ),
            "schema": SchemaFile(**{**schema, "file": folder / schema["file"]}) if schema else None,
            "config": {key: _text(value) for key, value in fields["config"].items()},
        }
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _topic_problems(path: Path, name: object, fields: Any) -> Iterator[str]:
    where = f"{path}: topic {name}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield f"{where}: a name is text of at most 249 of the characters a-z A-Z 0-9 . _ -, in quotes if it looks like a number."
    yield from _problems(where, fields, CHECKS.keys())
    schema = fields.get("schema") if isinstance(fields, dict) else None
    if (
        isinstance(schema, dict)
        and isinstance(schema.get("file"), str)
        and not (path.parent / schema["file"]).is_file()
    ):
        yield f"{where}: schema: there is no file {path.parent / schema['file']}."


def _problems(where: str, fields: Any, known: Collection[str]) -> Iterator[str]:
    names = ", ".join(sorted(known))
    if not isinstance(fields, dict):
        yield f"{where} is {fields!r}, not a mapping of {names}."
        return
    for field, value in fields.items():
        if field in known:
            yield from CHECKS[field](f"{where}: {field}", value)
        else:
            yield f"{where}: unknown field {field!r}. Known are {names}."


def _contradictions(path: Path, name: str, fields: Mapping[str, Any]) -> Iterator[str]:
    for key, field in FIELD_OF.items():
        if key in fields["config"] and field in fields:
            yield f"{path}: topic {name}: both {field} and config {key} are set, the defaults included. Set one of them."


def _number(*, least: int, or_minus_one: bool = True) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        allowed = f"{least} or more" + (", or -1" if or_minus_one else "")
        if not isinstance(value, int) or isinstance(value, bool):
            yield f"{where} is {value!r}, which is no whole number. Write {allowed}."
        elif value < least and not (or_minus_one and value == -1):
            yield f"{where} is {value}. Write {allowed}."

    return check


def _choice(choices: tuple[Any, ...]) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        # 0 equals False.
        if not any(value == each and type(value) is type(each) for each in choices):
            yield f"{where} is {value!r}. Write one of {', '.join(_text(each) for each in choices)}."

    return check


def _string(where: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{where} is {value!r}, which is no text."


def _pattern(pattern: re.Pattern[str], example: str) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            yield f"{where} is {value!r}. Write for example {example}."

    return check


def _mapping(checks: Mapping[str, Check], *, needed: frozenset[str]) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where} is {value!r}, not a mapping of {', '.join(checks)}."
            return
        for missing in sorted(needed - value.keys()):
            yield f"{where}: {missing} is missing."
        for key, each in value.items():
            if key in checks:
                yield from checks[key](f"{where}: {key}", each)
            else:
                yield f"{where}: unknown field {key!r}. Known are {', '.join(checks)}."

    return check


def _list(check_each: Check, *, least: int = 0) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, list) or len(value) < least:
            yield f"{where} is {value!r}, which is no list" + (f" of at least {least}." if least else ".")
            return
        for number, each in enumerate(value, start=1):
            yield from check_each(f"{where} {number}", each)

    return check


def _operation(where: str, value: Any) -> Iterator[str]:
    yield from _choice(OPERATIONS)(where, value.lower() if isinstance(value, str) else value)


def _config(where: str, value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is {value!r}, not a mapping of Kafka's names to values."
        return
    for key, each in value.items():
        if not isinstance(key, str) or not isinstance(each, str | int | float):
            yield f"{where}: {key} is {each!r}. Write a name of Kafka and text, a number, true or false."


CHECKS: Mapping[str, Check] = {
    "partitions": _number(least=1, or_minus_one=False),
    "replication": _number(least=1),
    "retention_hours": _number(least=1),
    "retention_bytes": _number(least=1),
    "compaction": _choice(tuple(COMPACTION)),
    "schema": _mapping(
        {"subject": _pattern(re.compile(r".+"), "flights-value"), "format": _choice(FORMATS), "file": _string},
        needed=frozenset({"subject", "format", "file"}),
    ),
    "owner": _string,
    "acls": _list(
        _mapping(
            {
                "principal": _pattern(PRINCIPAL, "User:alice"),
                "operations": _list(_operation, least=1),
                "group": _pattern(GROUP, "reports, or reports-* for all that begin so"),
            },
            needed=frozenset({"principal", "operations"}),
        )
    ),
    "config": _config,
}
