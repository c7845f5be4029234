"""What a file of policies says, field by field; `file_schema` is the same as JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from workbench.security.policies.parsing import PredicateRefused, parse

IDENTIFIER_BYTES = 63  #: NAMEDATALEN - 1 of PostgreSQL
MASKED = "_masked"  #: what the name of a schema of views ends in
ROLE = r"^[a-z][a-z0-9_]{0,39}$"
ATTRIBUTE = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
TABLE = r"^[^.\x00-\x1f]+\.[^.\x00-\x1f]+$"
GIVEN_BY_HUB = ("name", "groups")  #: attributes that everybody has


def _short(name: str, most: int = IDENTIFIER_BYTES) -> str:
    if len(name.encode()) > most:
        raise ValueError(f"{name!r} has {len(name.encode())} bytes; such a name has at most {most}")
    return name


def _table(name: str) -> str:
    schema, _, table = name.partition(".")
    # The schema of its views has a longer name.
    _short(schema, IDENTIFIER_BYTES - len(MASKED))
    _short(table)
    return name


def _column(name: str) -> str:
    table, dot, column = name.rpartition(".")
    if not dot or table.count(".") != 1 or not column:
        raise ValueError(f"{name!r} is no column; write schema.table.column")
    return name


def _condition(text: str) -> str:
    try:
        parse(text)
    except PredicateRefused as error:
        raise ValueError(str(error)) from None
    return text


def _null(value: object) -> object:
    # Without quotes it is YAML's null.
    return "null" if value is None else value


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


RoleName = Annotated[str, StringConstraints(pattern=ROLE)]
TableName = Annotated[str, StringConstraints(pattern=TABLE), AfterValidator(_table)]
ColumnName = Annotated[str, StringConstraints(min_length=1), AfterValidator(_short)]
Condition = Annotated[str, AfterValidator(_condition)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | list[str])]
AttributeName = Annotated[str, StringConstraints(pattern=ATTRIBUTE)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Partial(_Part):
    """The last characters in clear, of values that are longer."""

    partial: int = Field(ge=1, le=64, description="how many of the last characters stay")


class Constant(_Part):
    """The same text for every value."""

    constant: str = Field(max_length=200, description="what stands for every value")


Mask = Annotated[Literal["null", "hash"] | Partial | Constant, BeforeValidator(_null)]


class Denial(_Part):
    """What a role never shows, whatever else a person holds."""

    columns: tuple[ColumnName, ...] = Field(default=(), description="columns that this role takes away")
    rows: Condition | None = Field(
        default=None, description="rows that this role takes away; also those for which it is unknown"
    )


class TableGrant(_Part):
    """What a role shows of a table."""

    columns: Literal["*"] | tuple[ColumnName, ...] = Field(
        default=(), description="columns in clear; `*` is those that the table has when policies are applied"
    )
    rows: Condition | None = Field(default=None, description="which rows; left out means all")
    masks: Mapping[ColumnName, Mask] = Field(
        default={}, description="columns that are shown masked, in the table's view"
    )
    deny: Denial = Field(default=Denial(), description="what is taken away")


class Role(_Part):
    """What its holders may read."""

    description: str = Field(default="", description="for people")
    inherits: tuple[RoleName, ...] = Field(default=(), description="roles whose tables this one shows too")
    tables: Mapping[TableName, TableGrant] = Field(default={}, description="by schema.table")


class Tag(_Part):
    """Columns that are alike, and what roles get of them that are not named."""

    columns: tuple[Annotated[str, AfterValidator(_column)], ...] = Field(description="schema.table.column")
    roles: tuple[RoleName, ...] = Field(default=(), description="roles that get them as they say")
    others: Literal["deny"] | Mask = Field(default="deny", description="what every other role gets instead")
    encrypt: RoleName | None = Field(
        default=None,
        description="kind of subject, such as customer, with whose keys flows encrypt these columns; to erase destroys the key",
    )


class Keep(_Part):
    """How long rows stay."""

    days: int = Field(ge=1, le=36_500, description="of 24 hours, by the clock of the warehouse")
    by: ColumnName = Field(
        description="the column, a time or a date, that says how old a row is; without it a row stays"
    )


class TableData(_Part):
    """What is removed from a table and when, and what is encrypted in it."""

    keep: Keep | None = Field(default=None, description="left out means for ever")
    subjects: Mapping[RoleName, ColumnName] = Field(
        default={}, description="the column that says whose row it is, by kind of subject, such as customer"
    )
    erase: Literal["rows"] | tuple[ColumnName, ...] = Field(
        default="rows", description="what goes when a subject is erased: its rows, or the values of these columns"
    )
    encrypt: Mapping[RoleName, tuple[ColumnName, ...]] = Field(
        default={},
        description="columns of text that flows encrypt with a key of the row's subject, by kind of subject; to erase destroys the key",
    )


class PoliciesFile(_Part):
    """Who may read what. What is not allowed is denied."""

    version: Literal[1] = Field(description="of this format")
    roles: Mapping[RoleName, Role] = Field(description="by name")
    bindings: Mapping[str, tuple[RoleName, ...]] = Field(default={}, description="roles by group of the hub")
    tags: Mapping[RoleName, Tag] = Field(default={}, description="by name, such as pii")
    users: Mapping[str, Mapping[AttributeName, Texts]] = Field(
        default={}, description="what conditions find as user.NAME, by hub name"
    )
    data: Mapping[TableName, TableData] = Field(default={}, description="retention and erasure, by schema.table")
    services: tuple[ColumnName, ...] = Field(
        default=(), description="database roles beside DW_USER that read and write all rows, and may own tables"
    )


def file_schema() -> Mapping[str, Any]:
    """JSON Schema of pipelines/policies.yaml, for editors."""
    schema = PoliciesFile.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Policies"}
