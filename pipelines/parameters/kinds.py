"""What a type of parameter has to do, and the types that are one word: int, float, bool, str, Decimal, secret."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

from workbench.references import REFERENCE, SecretReference
from workbench.storable import UNSTORABLE, is_storable

MOST_DIGITS = 1000  # Python itself refuses to read numbers of more than 4300
INTEGER = re.compile(r"[+-]?[0-9]+")
#: What JSON has no number for; PostgreSQL's jsonb loses the sign of a negative zero.
NO_NUMBERS = ("nan", "inf", "-inf", "-0.0")


@dataclass(frozen=True)
class Source:
    """An expression of Python: `text` in one line, or `items` between brackets when that is too long."""

    text: str
    imports: frozenset[str] = frozenset()  #: lines that the cell needs above it
    items: tuple[tuple[str, Source], ...] = ()  #: of a list or a dict, each with what stands before it


class Kind(Protocol):
    """A type of parameter. Every method that is given a wrong value raises ValueError, which says what it is not."""

    @property
    def hint(self) -> str:
        """The type as it is written in YAML and in a notebook; `parse_hint` reads it."""

    def read(self, raw: object) -> Any:
        """The value from its JSON form, or from itself."""

    def as_json(self, value: Any) -> Any:
        """What `json` writes without loss and `read` takes back."""

    def parse(self, text: str) -> Any:
        """The value from what a person typed."""

    def as_text(self, value: Any) -> str:
        """What a person would type for it."""

    def as_source(self, value: Any) -> Source:
        """An expression of Python that makes it."""

    def schema(self) -> dict[str, Any]:
        """JSON Schema of its JSON form."""


@dataclass(frozen=True)
class Int:
    """A whole number of at most 1000 digits."""

    hint: str = "int"

    def read(self, raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise ValueError(f"{raw!r} is no whole number; write one such as 7")
        if abs(raw) >= 10**MOST_DIGITS:
            raise ValueError(f"the number has more than {MOST_DIGITS} digits")
        return raw

    def as_json(self, value: int) -> int:
        return value

    def parse(self, text: str) -> int:
        if not INTEGER.fullmatch(text.strip()) or len(text) > MOST_DIGITS + 1:
            raise ValueError(f"{text[:80]!r} is no whole number; write one such as 7")
        return self.read(int(text))

    def as_text(self, value: int) -> str:
        return str(value)

    def as_source(self, value: int) -> Source:
        return Source(str(value))

    def schema(self) -> dict[str, Any]:
        return {"type": "integer"}


@dataclass(frozen=True)
class Float:
    """A number of 64 bits, `nan`, `inf` and `-inf` among them."""

    hint: str = "float"

    def read(self, raw: object) -> float:
        if isinstance(raw, str) and raw in NO_NUMBERS:
            return float(raw)
        if isinstance(raw, bool) or not isinstance(raw, (int, float)):
            raise ValueError(f"{raw!r} is no number")
        try:
            return float(raw)
        except OverflowError:
            raise ValueError("the number is too large for a float") from None

    def as_json(self, value: float) -> float | str:
        odd = not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0)
        return repr(value) if odd else value

    def parse(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is no number") from None
        if math.isinf(value) and "inf" not in text.lower():
            raise ValueError(f"{text[:80]!r} is too large for a float")
        return value

    def as_text(self, value: float) -> str:
        return repr(value)

    def as_source(self, value: float) -> Source:
        return Source(repr(value) if math.isfinite(value) else f'float("{value!r}")')

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "number"}, {"enum": list(NO_NUMBERS)}]}


@dataclass(frozen=True)
class Bool:
    """`true` or `false`."""

    hint: str = "bool"

    def read(self, raw: object) -> bool:
        if not isinstance(raw, bool):
            raise ValueError(f"{raw!r} is neither true nor false")
        return raw

    def as_json(self, value: bool) -> bool:
        return value

    def parse(self, text: str) -> bool:
        known = {"true": True, "false": False}
        if text.strip().lower() not in known:
            raise ValueError(f"{text!r} is neither true nor false")
        return known[text.strip().lower()]

    def as_text(self, value: bool) -> str:
        return "true" if value else "false"

    def as_source(self, value: bool) -> Source:
        return Source(str(value))

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Str:
    """Text that PostgreSQL can keep: without NUL and without halves of surrogate pairs."""

    hint: str = "str"

    def read(self, raw: object) -> str:
        if not isinstance(raw, str):
            raise ValueError(f"{raw!r} is no text")
        if not is_storable(raw):
            raise ValueError(f"{raw!r} has {UNSTORABLE}")
        return raw

    def as_json(self, value: str) -> str:
        return value

    def parse(self, text: str) -> str:
        return self.read(text)

    def as_text(self, value: str) -> str:
        return value

    def as_source(self, value: str) -> Source:
        return Source(quoted(value))

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


@dataclass(frozen=True)
class Exact:
    """A `Decimal`: all digits count, those of 1.10 too. YAML and JSON write it in quotes."""

    hint: str = "Decimal"

    def read(self, raw: object) -> Decimal:
        if isinstance(raw, float):
            raise ValueError(f"{raw!r} has lost its digits as a float; write it in quotes")
        if isinstance(raw, bool) or not isinstance(raw, (str, int, Decimal)):
            raise ValueError(f"{raw!r} is no decimal number")
        try:
            value = Decimal(raw)
        except InvalidOperation:
            raise ValueError(f"{raw!r} is no decimal number") from None
        if not value.is_finite():
            raise ValueError(f"{raw!r} is no finite number; take a float for that")
        return value

    def as_json(self, value: Decimal) -> str:
        return str(value)

    def parse(self, text: str) -> Decimal:
        return self.read(text.strip())

    def as_text(self, value: Decimal) -> str:
        return str(value)

    def as_source(self, value: Decimal) -> Source:
        return Source(f'_Decimal("{value}")', frozenset({"from decimal import Decimal as _Decimal"}))

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "decimal", "pattern": r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"}


@dataclass(frozen=True)
class Secret:
    """A reference. What is no reference may be a secret itself: no message shows it."""

    hint: str = "secret"

    def read(self, raw: object) -> SecretReference:
        if isinstance(raw, SecretReference):
            return raw
        return SecretReference.parse(raw if isinstance(raw, str) else "")

    def as_json(self, value: SecretReference) -> str:
        return str(value)

    def parse(self, text: str) -> SecretReference:
        return self.read(text)

    def as_text(self, value: SecretReference) -> str:
        return str(value)

    def as_source(self, value: SecretReference) -> Source:
        # What the expression would make does not belong into a notebook.
        raise ValueError("a secret is never written into a cell")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "secret-reference", "pattern": f"^({REFERENCE.pattern})$"}


def quoted(text: str) -> str:
    """A literal of Python in double quotes, as black writes it."""
    plain = repr(text)
    if plain.startswith('"') or '"' in text:
        return plain
    return f'"{plain[1:-1]}"'


def from_json_text(text: str) -> Any:
    """What JSON says; what it is not is a ValueError that shows the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{text[:80]!r} is no JSON") from None
