"""Reads a file of policies; all that is wrong with it is told at once, each with its line."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from workbench.documents import Document, DocumentProblem, Place, Problem, read_document
from workbench.errors import PoliciesRefused
from workbench.security.policies.encrypting import encryption_contradictions, with_tagged
from workbench.security.policies.model import ATTRIBUTE, GIVEN_BY_HUB, ROLE, TABLE, PoliciesFile
from workbench.security.policies.parsing import parse
from workbench.security.policies.predicates import Attribute, named_in

FORM = "with `version:` and `roles:`; docs/policies.md has the format"
WORDS = {
    "missing": "is missing; write it",
    "int_type": "is {value}, which is no whole number",
    "string_type": "is {value}, which is no text; write it in quotes",
    "tuple_type": "is {value}, which is no list; write [{value}]",
    "dict_type": "is {value}, which is no mapping",
    "mapping_type": "is {value}, which is no mapping",
    "model_type": "is {value}, which is no mapping",
    "model_attributes_type": "is {value}, which is no mapping",
    "string_too_short": "is empty; write a name",
    "literal_error": "is {value}; write {expected}",
}
FIELDS = {
    "": ("version", "roles", "bindings", "tags", "users", "data", "services"),
    "roles": ("description", "inherits", "tables"),
    "tables": ("columns", "rows", "masks", "deny"),
    "deny": ("columns", "rows"),
    "tags": ("columns", "roles", "others", "encrypt"),
    "data": ("keep", "subjects", "erase", "encrypt"),
    "keep": ("days", "by"),
}
NAMES = {
    TABLE: "{value} is no table; write schema.table",
    ROLE: "{value} is no name of a role or tag; write at most 40 of the characters a-z 0-9 _, a letter first",
    ATTRIBUTE: "{value} is no name of an attribute; write letters, digits and _, no digit first",
}
SYSTEM = ("pg_", "information_schema")
MASKS = "null, hash, {partial: 4} or {constant: text}"
ALTERNATIVES = {
    "Partial",
    "Constant",
    "tuple[constrained-str, ...]",
    "literal['*']",
    "literal['deny']",
    "literal['rows']",
}


@dataclass(frozen=True)
class Policies:
    """A file of policies that is right by itself; whether tables are there is another question."""

    document: Document
    file: PoliciesFile

    def problem(self, place: Place, message: str) -> Problem:
        """Something about a field of the file."""
        return self.document.problem(place, message)

    def chain(self, role: str) -> tuple[str, ...]:
        """A role and all that it inherits from, each once, itself first."""
        found = [role]
        for each in found:
            found += [above for above in self.file.roles[each].inherits if above not in found]
        return tuple(found)


def read_policies(path: Path) -> Policies:
    """The policies of a file.

    Raises:
        PoliciesRefused: naming file, line and field of everything that is wrong.
    """
    try:
        document = read_document(path, FORM)
    except DocumentProblem as error:
        raise PoliciesRefused([error.problem]) from None
    try:
        # Lists of YAML are tuples here; all else is taken as it is.
        file = PoliciesFile.model_validate(_tuples(document.value))
    except ValidationError as error:
        told = dict.fromkeys(_told(each) for each in error.errors(include_url=False))
        raise PoliciesRefused(_by_line(document.problem(*each) for each in told)) from None
    if problems := _by_line(document.problem(*each) for each in _contradictions(file)):
        raise PoliciesRefused(problems)
    return Policies(document, with_tagged(file))


def _by_line(problems: Iterator[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda each: each.line)


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


def _told(error: Mapping[str, Any]) -> tuple[Place, str]:
    place: Place = tuple(
        each for each in error["loc"] if each != "[key]" and each not in ALTERNATIVES and "[" not in str(each)
    )
    kind, context = str(error["type"]), error.get("ctx") or {}
    if "masks" in place or place[-1:] == ("others",):
        depth = place.index("masks") + 2 if "masks" in place else len(place)
        also = "deny, " if "others" in place else ""
        return place[:depth], f"write {also}{MASKS}."
    if kind == "extra_forbidden":
        return place, _unknown(place)
    if kind == "value_error":
        return place, f"{context['error']}."
    told = NAMES.get(context.get("pattern", ""), WORDS.get(kind, "is {value}: " + str(error["msg"])))
    if place[-1:] == ("columns",) and kind in {"literal_error", "tuple_type"}:
        told = 'is {value}; write "*" or a list of columns'
    if place[:1] == ("data",) and place[-1:] == ("erase",):
        told = "is {value}; write rows or a list of columns"
    if place[:1] == ("users",) and kind in {"tuple_type", "string_type"}:
        told = "is {value}; write text in quotes, or a list of such"
    given = error["input"]
    value = reprlib.repr(list(given) if isinstance(given, tuple) else given)
    return place, f"{told.format(value=value, expected=context.get('expected'))}."


def _unknown(place: Place) -> str:
    around = next((each for each in reversed(place[:-1]) if each in FIELDS), "")
    known = FIELDS[str(around)]
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    return f"there is no such field{f'; did you mean {near[0]}?' if near else '.'} Known are {', '.join(known)}."


def _contradictions(file: PoliciesFile) -> Iterator[tuple[Place, str]]:
    known = ", ".join(sorted(file.roles))
    named: dict[Place, tuple[str, ...]] = {
        **{("roles", name, "inherits"): role.inherits for name, role in file.roles.items()},
        **{("bindings", group): roles for group, roles in file.bindings.items()},
        **{("tags", name, "roles"): tag.roles for name, tag in file.tags.items()},
    }
    for place, roles in named.items():
        for role in roles:
            if role not in file.roles:
                yield place, f"there is no role {role!r}; write one of {known}."
    for name in file.roles:
        if name in _above(file, name):
            yield ("roles", name, "inherits"), f"{name} inherits from itself; take one role out of the circle."
    yield from _table_contradictions(file)
    yield from _data_contradictions(file)
    for user, attributes in file.users.items():
        for attribute in attributes:
            if attribute in GIVEN_BY_HUB:
                yield ("users", user, attribute), f"user.{attribute} is what the hub says; choose another name."


def _data_contradictions(file: PoliciesFile) -> Iterator[tuple[Place, str]]:
    for table, data in file.data.items():
        place = ("data", table)
        if table.partition(".")[0].startswith((*SYSTEM, "workbench")):
            yield place, f"{table} belongs to the system; name a table of your data."
        if data.keep is None and not data.subjects:
            yield place, "nothing would be removed; write `keep` or `subjects`."
        if data.erase != "rows" and not data.subjects:
            yield (*place, "erase"), "nobody's rows are known; write `subjects`."
        if data.erase == ():
            yield (*place, "erase"), "no column is named; write rows or a list of columns."
    yield from encryption_contradictions(file)


def _table_contradictions(file: PoliciesFile) -> Iterator[tuple[Place, str]]:
    attributes = {*GIVEN_BY_HUB, *(name for each in file.users.values() for name in each)}
    for role, declared in file.roles.items():
        for table, grant in declared.tables.items():
            place = ("roles", role, "tables", table)
            if table.partition(".")[0].startswith((*SYSTEM, "workbench_policies")):
                yield place, f"{table} belongs to the system; name a table of your data."
            for column in sorted(set(grant.masks) & set(grant.columns)):
                yield (*place, "masks", column), f"{column} is in clear in `columns`; take it out of one of both."
            for column in sorted(set(grant.deny.columns) & {*grant.columns, *grant.masks} - {"*"}):
                yield (*place, "deny", "columns"), f"the same role shows {column}; take it out of one of both."
            for inner, condition in ((("rows",), grant.rows), (("deny", "rows"), grant.deny.rows)):
                for each in named_in(parse(condition)) if condition is not None else ():
                    if isinstance(each, Attribute) and each.name not in attributes:
                        known = ", ".join(sorted(attributes))
                        yield (*place, *inner), f"nobody has user.{each.name}; give it in `users`. Known are {known}."


def _above(file: PoliciesFile, role: str) -> set[str]:
    """All that a role inherits from, itself among them when it does so in a circle."""
    found: set[str] = set()
    ahead = list(file.roles[role].inherits)
    while ahead:
        each = ahead.pop()
        if each not in found and each in file.roles:
            found.add(each)
            ahead += file.roles[each].inherits
    return found
