"""Random policies, and what a person sees by them, worked out row by row in plain Python.

Nothing of the compiler is used: conditions are trees of our own, which are written as the text that a
file has, and evaluated with three values.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

COLUMNS = {"id": "integer", "n": "integer", "d": "numeric", "t": "text", "u": "text", "b": "boolean"}
TEXTS = ("", "a", "B", "it's", 'say "x"', "%_", "\\", "ü", "NULL", "a' OR 'x'='x")
NUMBERS = (Decimal(-5), Decimal(0), Decimal(1), Decimal("1.5"), Decimal(7))
SIGNS = ("=", "!=", "<", "<=", ">", ">=")
ATTRIBUTES = ("city", "rank", "none")
MASKS: tuple[Any, ...] = ("null", {"partial": 2}, {"constant": "it's hidden"})
CLEAR = "clear"

Row = Mapping[str, Any]
Person = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Table:
    """One table with a policy for each role."""

    name: str
    rows: tuple[Row, ...]
    grants: Mapping[str, Grant]  #: by role


@dataclass(frozen=True)
class Grant:
    """What a role says of a table."""

    levels: Mapping[str, Any]  #: CLEAR or a mask
    rows: Any  #: a condition; None is all
    denied: Any = None


def random_table(chance: random.Random, name: str, roles: Sequence[str], denying: str, count: int) -> Table:
    """A table with a grant for each of *roles*; *denying* shows nothing, and takes rows away."""
    grants = {role: _grant(chance) for role in roles}
    grants[denying] = Grant({}, None, random_condition(chance, 2))
    return Table(name, tuple(_row(chance, number) for number in range(count)), grants)


def as_file(
    tables: Sequence[Table], bindings: Mapping[str, Sequence[str]], people: Mapping[str, Person]
) -> dict[str, Any]:
    """The policies as YAML has them."""
    roles = {role: {"tables": {}} for role in tables[0].grants}
    for table in tables:
        for role, grant in table.grants.items():
            entry: dict[str, Any] = {
                "columns": [column for column, level in grant.levels.items() if level == CLEAR],
                "masks": {column: level for column, level in grant.levels.items() if level != CLEAR},
            }
            if grant.rows is not None:
                entry["rows"] = written(grant.rows)
            if grant.denied is not None:
                entry["deny"] = {"rows": written(grant.denied)}
            roles[role]["tables"][f"raw.{table.name}"] = entry
    users = {name: {key: list(values) for key, values in person.items() if values} for name, person in people.items()}
    # An attribute that somebody has is known, though most have none.
    users["nobody"] = {attribute: ["3"] for attribute in ATTRIBUTES}
    return {
        "version": 1,
        "roles": roles,
        "bindings": {key: list(each) for key, each in bindings.items()},
        "users": users,
    }


def seen(table: Table, roles: Sequence[str], person: Person, *, masks: bool) -> list[tuple[Any, ...]]:
    """What the person reads: columns in clear of the table, or all columns of the view with masks."""
    grants = [table.grants[role] for role in roles]
    found = []
    for row in table.rows:
        showing = [each for each in grants if each.levels and (masks or CLEAR in each.levels.values())]
        shown = any(each.rows is None or evaluate(each.rows, row, person) is True for each in showing)
        denied = any(each.denied is not None and evaluate(each.denied, row, person) is not False for each in grants)
        if shown and not denied:
            found.append(tuple(_cell(row, column, grants, masks=masks) for column in COLUMNS))
    return sorted(found, key=lambda each: each[0])


def visible_columns(table: Table, roles: Sequence[str]) -> list[str]:
    """Columns that are in clear in the table itself."""
    return [each for each in COLUMNS if any(table.grants[role].levels.get(each) == CLEAR for role in roles)]


def evaluate(condition: Any, row: Row, person: Person) -> bool | None:  # noqa: PLR0911 - one for each kind
    """True, False, or None for unknown."""
    kind, *parts = condition
    if kind == "and":
        values = [evaluate(each, row, person) for each in parts]
        return False if False in values else None if None in values else True
    if kind == "or":
        values = [evaluate(each, row, person) for each in parts]
        return True if True in values else None if None in values else False
    if kind == "not":
        value = evaluate(parts[0], row, person)
        return None if value is None else not value
    if kind == "always":
        return bool(parts[0])
    if kind == "null":
        return row[parts[0]] is None
    if kind == "in":
        value = row[parts[0]]
        return None if value is None else value in parts[1]
    if kind == "user":
        return _with_attribute(parts, row, person)
    column, sign, value = parts
    left, right = row[column], row[value[1]] if isinstance(value, tuple) else value
    if left is None or right is None:
        return None
    return {
        "=": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[sign]


def written(condition: Any) -> str:  # noqa: PLR0911 - one for each kind
    """The condition as a file has it."""
    kind, *parts = condition
    if kind in {"and", "or"}:
        return "(" + f" {kind.upper()} ".join(map(written, parts)) + ")"
    if kind == "not":
        return f"NOT {written(parts[0])}"
    if kind == "always":
        return str(parts[0]).upper()
    if kind == "null":
        return f'"{parts[0]}" IS NULL'
    if kind == "in":
        return f"{parts[0]} IN ({', '.join(map(_literal, parts[1]))})"
    if kind == "user":
        attribute, sign, other = parts
        if isinstance(other, list):
            return f"user.{attribute} IN ({', '.join(map(_literal, other))})"
        return (
            f"{other[1]} {sign} user.{attribute}"
            if isinstance(other, tuple)
            else f"user.{attribute} {sign} {_literal(other)}"
        )
    column, sign, value = parts
    return f"{column} {sign} {value[1] if isinstance(value, tuple) else _literal(value)}"


def random_condition(chance: random.Random, depth: int = 3) -> Any:  # noqa: PLR0911 - one for each kind
    if depth and chance.random() < 0.6:
        kind = chance.choice(["and", "or", "not"])
        return (
            kind,
            *(random_condition(chance, depth - 1) for _ in range(1 if kind == "not" else chance.randint(2, 3))),
        )
    kind = chance.choice(["always", "null", "in", "user", "user", "compare", "compare", "compare", "columns"])
    column = chance.choice(["n", "d", "t", "u"])
    numbers = column in {"n", "d"}
    if kind == "always":
        return (kind, chance.random() < 0.7)
    if kind == "null":
        return (kind, chance.choice(["n", "t", "b"]))
    if kind == "in":
        return (kind, column, chance.sample(NUMBERS if numbers else TEXTS, chance.randint(1, 3)))
    if kind == "user":
        return _user_condition(chance, column, is_number=numbers)
    if kind == "columns":
        return (
            ("compare", "n", chance.choice(SIGNS), ("column", "d"))
            if numbers
            else ("compare", "t", chance.choice(SIGNS), ("column", "u"))
        )
    if chance.random() < 0.2:
        return ("compare", "b", chance.choice(["=", "!="]), chance.random() < 0.5)
    return ("compare", column, chance.choice(SIGNS), chance.choice(NUMBERS if numbers else TEXTS))


def random_person(chance: random.Random) -> Person:
    return {
        "city": tuple(chance.sample(TEXTS, chance.randint(0, 2))),
        "rank": tuple(chance.sample(["-5", "0", "1", "1.5"], chance.randint(0, 2))),
    }


def masked(value: Any, mask: Any) -> Any:
    """A value as a mask shows it."""
    if mask == "null":
        return None
    if "constant" in mask:
        return mask["constant"]
    if value is None:
        return None
    text = as_text(value)
    return "***" + (text[-mask["partial"] :] if len(text) > mask["partial"] else "")


def as_text(value: Any) -> str:
    """As PostgreSQL writes a value."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _user_condition(chance: random.Random, column: str, *, is_number: bool) -> Any:
    if is_number:
        return ("user", "rank", chance.choice(["=", "!="]), ("column", column))
    attribute = chance.choice(["city", "city", "none"])
    shape = chance.randint(0, 2)
    if shape == 0:
        return ("user", attribute, "=", chance.sample(TEXTS, chance.randint(1, 3)))
    return ("user", attribute, chance.choice(["=", "!="]), ("column", column) if shape == 1 else chance.choice(TEXTS))


def _with_attribute(parts: list[Any], row: Row, person: Person) -> bool | None:
    attribute, sign, other = parts
    mine: tuple[Any, ...] = person.get(attribute, ())
    if attribute == "rank":
        mine = tuple(map(Decimal, mine))
    value = row[other[1]] if isinstance(other, tuple) else other
    if not mine or value is None:
        return None
    equal = any(each in mine for each in value) if isinstance(value, list) else value in mine
    return not equal if sign == "!=" else equal


def _row(chance: random.Random, number: int) -> Row:
    values = {
        "n": chance.choice([None, -5, 0, 1, 7]),
        "d": chance.choice([None, *NUMBERS]),
        "t": chance.choice([None, *TEXTS]),
        "u": chance.choice([None, *TEXTS]),
        "b": chance.choice([None, True, False]),
    }
    return {"id": number, **values}


def _grant(chance: random.Random) -> Grant:
    levels: dict[str, Any] = {"id": CLEAR}
    for column in list(COLUMNS)[1:]:
        level = chance.choice([None, CLEAR, CLEAR, *MASKS])
        if level is not None:
            levels[column] = level
    rows = None if chance.random() < 0.1 else random_condition(chance)
    return Grant(levels, rows, random_condition(chance, 1) if chance.random() < 0.3 else None)


def _cell(row: Row, column: str, grants: Sequence[Grant], *, masks: bool) -> Any:
    levels = [each.levels[column] for each in grants if column in each.levels]
    if CLEAR in levels:
        return row[column]
    # One role with a mask at most: see who holds what in the test.
    return masked(row[column], levels[0]) if masks and levels else None


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    return str(value) if isinstance(value, Decimal) else "'" + value.replace("'", "''") + "'"
