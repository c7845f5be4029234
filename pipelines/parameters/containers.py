"""Types that are made of others: lists, dicts, choices, and what may be None."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.parameters.kinds import Kind, Source, Str, from_json_text, quoted


@dataclass(frozen=True)
class ListOf:
    """A list whose items are of one type."""

    item: Kind

    @property
    def hint(self) -> str:
        return f"list[{self.item.hint}]"

    def read(self, raw: object) -> list[Any]:
        if not isinstance(raw, list):
            raise ValueError(f"{raw!r} is no list")
        return [_inside(f"[{number}]", self.item.read, each) for number, each in enumerate(raw)]

    def as_json(self, value: list[Any]) -> list[Any]:
        return [self.item.as_json(each) for each in value]

    def parse(self, text: str) -> list[Any]:
        return self.read(from_json_text(text))

    def as_text(self, value: list[Any]) -> str:
        return _json(self.as_json(value))

    def as_source(self, value: list[Any]) -> Source:
        return _bracketed("[]", [("", self.item.as_source(each)) for each in value])

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema()}


@dataclass(frozen=True)
class DictOf:
    """A dict from text to values of one type. The order of its keys does not count: they are sorted."""

    value: Kind

    @property
    def hint(self) -> str:
        return f"dict[str, {self.value.hint}]"

    def read(self, raw: object) -> dict[str, Any]:
        if not isinstance(raw, dict):
            raise ValueError(f"{raw!r} is no mapping")
        keys = sorted(Str().read(key) for key in raw)
        return {key: _inside(f"[{key!r}]", self.value.read, raw[key]) for key in keys}

    def as_json(self, value: dict[str, Any]) -> dict[str, Any]:
        return {key: self.value.as_json(each) for key, each in sorted(value.items())}

    def parse(self, text: str) -> dict[str, Any]:
        return self.read(from_json_text(text))

    def as_text(self, value: dict[str, Any]) -> str:
        return _json(self.as_json(value))

    def as_source(self, value: dict[str, Any]) -> Source:
        return _bracketed(
            "{}", [(f"{quoted(key)}: ", self.value.as_source(each)) for key, each in sorted(value.items())]
        )

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self.value.schema()}


@dataclass(frozen=True)
class Choice:
    """One of a few texts, whole numbers, or true and false."""

    values: tuple[str | int | bool, ...]

    @property
    def hint(self) -> str:
        return f"Literal[{', '.join(self.as_source(each).text for each in self.values)}]"

    def read(self, raw: object) -> str | int | bool:
        for each in self.values:
            if each == raw and type(each) is type(raw):  # 1 is not True
                return each
        raise ValueError(f"{raw!r} is none of {', '.join(map(repr, self.values))}")

    def as_json(self, value: str | int | bool) -> str | int | bool:
        return value

    def parse(self, text: str) -> str | int | bool:
        for each in self.values:
            if self.as_text(each) == text:
                return each
        raise ValueError(f"{text!r} is none of {', '.join(map(self.as_text, self.values))}")

    def as_text(self, value: str | int | bool) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value)

    def as_source(self, value: str | int | bool) -> Source:
        return Source(quoted(value) if isinstance(value, str) else str(value))

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.values)}


@dataclass(frozen=True)
class Optional:
    """A type, or None, which people type as `null`; the text "null" itself is typed in double quotes."""

    inner: Kind

    @property
    def hint(self) -> str:
        return f"{self.inner.hint} | None"

    def read(self, raw: object) -> Any:
        return None if raw is None else self.inner.read(raw)

    def as_json(self, value: Any) -> Any:
        return None if value is None else self.inner.as_json(value)

    def parse(self, text: str) -> Any:
        if text == "null":
            return None
        return self.inner.parse(from_json_text(text) if self._is_text and text.startswith('"') else text)

    def as_text(self, value: Any) -> str:
        if value is None:
            return "null"
        text = self.inner.as_text(value)
        return json.dumps(text) if self._is_text and (text == "null" or text.startswith('"')) else text

    def as_source(self, value: Any) -> Source:
        return Source("None") if value is None else self.inner.as_source(value)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.inner.schema(), {"type": "null"}]}

    @property
    def _is_text(self) -> bool:
        return isinstance(self.inner, (Str, Choice))


def _inside(where: str, read: Callable[[object], Any], raw: object) -> Any:
    try:
        return read(raw)
    except ValueError as error:
        raise ValueError(f"at {where}: {error}") from None


def _bracketed(brackets: str, items: list[tuple[str, Source]]) -> Source:
    text = ", ".join(f"{before}{each.text}" for before, each in items)
    imports = frozenset[str]().union(*(each.imports for _, each in items))
    return Source(f"{brackets[0]}{text}{brackets[1]}", imports, tuple(items))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
