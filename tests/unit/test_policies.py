"""Policies without a server: the grammar, the file, what goes together, and the statements for Redshift."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hub import warehouse_roles
from hub.spawning.local import OsUserSpawner, SameUserSpawner
from hub.spawning.systemd import UnitSpawner
from tests.services import policy_oracle as oracle
from workbench.cli.doctor import examine
from workbench.errors import PoliciesRefused, SettingsError, WarehouseError
from workbench.resources import resource
from workbench.security.policies.compile.postgresql import Surroundings, compile_policies
from workbench.security.policies.compile.redshift import compile_redshift
from workbench.security.policies.compile.writing import PostgresqlWriter
from workbench.security.policies.explaining import explain
from workbench.security.policies.grants import LiveTable, Resolved
from workbench.security.policies.model import file_schema
from workbench.security.policies.names import is_ours, user_role
from workbench.security.policies.parsing import PredicateRefused, parse
from workbench.security.policies.predicates import (
    Always,
    And,
    Attribute,
    Column,
    Comparison,
    IsNull,
    Not,
    OneOf,
    Or,
    named_in,
)
from workbench.security.policies.reading import read_policies
from workbench.security.policies.resolving import EXCLUSIVE_GROUPS, resolve, roles_of
from workbench.settings import Settings
from workbench.warehouse.policies.administration import Administration

FLIGHTS = LiveTable(
    "raw.flights",
    "flows",
    {
        **dict.fromkeys(("year", "month", "day"), "smallint"),
        "carrier": "text",
        "flight": "integer",
        **dict.fromkeys(("origin", "dest", "tailnum"), "text"),
        **dict.fromkeys(("dep_delay", "arr_delay", "distance"), "smallint"),
        "time_hour": "timestamp with time zone",
    },
)
PEOPLE = LiveTable(
    "raw.people", "flows", {"id": "integer", "region": "text", "name": "text", "born": "date", "ok": "boolean"}
)
TABLES = {each.name: each for each in (FLIGHTS, PEOPLE)}
EXAMPLE = resource("pipelines") / "policies.yaml"
AROUND = Surroundings("analytics", "flows")


def read(folder: Path, text: str) -> Any:
    path = folder / "policies.yaml"
    path.write_text(text)
    return read_policies(path)


def resolved(folder: Path, text: str) -> Resolved:
    return resolve(read(folder, text), TABLES)


def told(folder: Path, text: str) -> list[str]:
    """Everything that is wrong, without the path of the file."""
    with pytest.raises(PoliciesRefused) as caught:
        resolved(folder, text)
    return [str(each).partition("policies.yaml:")[2] for each in caught.value.problems]


# --- the grammar


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1 OR b = 'x' AND NOT c IS NULL", "a=1 or (b and not null)"),
        ("TRUE", Always(True)),
        ("TRUE = ok", Comparison(Column("ok"), "=", True)),
        ('\'x\' != "odd ""name"', None),
        ("5 < n", None),
        ("n NOT IN (1, -2.5)", None),
        ("user.name = 'gh-octo'", Comparison(Attribute("name"), "=", "gh-octo")),
        ("'a' IN user.groups", Comparison(Attribute("groups"), "=", "a")),
        ("carrier NOT IN user.carrier", Not(Comparison(Column("carrier"), "=", Attribute("carrier")))),
        ("user.x in ('a', 'it''s')", OneOf(Attribute("x"), ("a", "it's"))),
        ("a<>b", Comparison(Column("a"), "!=", Column("b"))),
        ("a IS NOT NULL", Not(IsNull(Column("a")))),
    ],
)
def test_conditions_are_read(text, expected):
    found = parse(text)

    if isinstance(expected, str):
        assert isinstance(found, Or)
        assert isinstance(found.parts[1], And)
    elif expected is not None:
        assert found == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a = 1; DROP TABLE x", "a = (SELECT 1)", "lower(a) = 'x'", "a = NULL", "a == 1", "a = $1", "a -- x", "a = 1 /* x */",
        "a::text = 'b'", "a = 'x", 'a = "b', "1 = 1", "user.x < 'a'", "user.x = user.y", "user.x = 5", "user.x IN (5)", "a LIKE 'x'",
        "a = E'\\x'", "a = $$x$$", "a = U&'x'", "((a = 1)", "a = 1)", "a = 1 b = 2", "NOT", "a IN ()", "a IN (1", "a IN (b)", "1 IN (1)",
        "a BETWEEN 1 AND 2", "a = current_user()", "a.b = 1", "raw.people.a = 1", "a = 'x' || 'y'", "a = 1 + 1", "user.x IS NULL", "a = 'x\x00'",
        "(" * 60 + "a = 1" + ")" * 60, "NOT " * 60 + "a = 1", "a = '" + "x" * 5000 + "'",
    ],
)  # fmt: skip
def test_what_is_not_of_the_grammar_is_refused(text):
    with pytest.raises(PredicateRefused):
        parse(text)


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text):
    with contextlib.suppress(PredicateRefused):
        named_in(parse(text))


@given(st.integers())
def test_a_condition_that_is_written_is_read_back_the_same(seed):
    text = oracle.written(oracle.random_condition(random.Random(seed)))

    # Spaces and capitals mean nothing outside of quotes.
    assert parse(text) == parse(f"  {text}\n") == parse(f"(({text}))")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40))
def test_a_text_is_one_literal_whatever_is_in_it(text):
    condition = PostgresqlWriter({"a": "text"}).condition(parse("a = '" + text.replace("'", "''") + "'"))

    inside = condition.removeprefix('("a" = \'').removesuffix("')")
    assert inside.replace("''", "'") == text
    assert inside.replace("''", "").count("'") == 0


# --- the file


def test_what_was_applied_is_told_by_the_bytes_that_were_read(tmp_path):
    found = read(tmp_path, "version: 1\r\nroles: {}\r\n")
    path = tmp_path / "policies.yaml"
    content = path.read_bytes()
    path.write_text("version: 1\nroles: {a: {}}\n")

    assert found.document.sha256 == hashlib.sha256(content).hexdigest()


def test_the_example_fits_the_flights(tmp_path):
    found = resolve(read_policies(EXAMPLE), TABLES)

    by_role = {each.role: each for each in found.grants}
    assert by_role["viewer"].clear[-1] == "distance"
    assert by_role["analyst"].levels["tailnum"] == "hash"
    assert by_role["steward"].levels["tailnum"] == "clear"
    assert set(read_policies(EXAMPLE).file.bindings) == EXCLUSIVE_GROUPS


def test_the_example_of_the_documentation_is_right(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    text = page.partition("```yaml\n")[2].partition("```")[0]
    found = {each.role: each for each in resolved(tmp_path, text).grants}

    assert found["analyst"].levels["tailnum"] == "hash"
    assert found["steward"].levels["tailnum"] == "clear"
    assert found["analyst"].denied_rows == (parse("origin = 'TEST'"),)


def test_the_published_schema_is_that_of_the_code():
    published = json.loads((resource("pipelines") / "policies.schema.json").read_text())

    jsonschema.Draft202012Validator.check_schema(published)
    assert published == file_schema()
    jsonschema.validate(yaml.safe_load(EXAMPLE.read_text()), published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"version": 1, "roles": {}, "role": {}}, published)


def test_everything_that_is_wrong_is_told_with_its_line(tmp_path):
    found = told(
        tmp_path,
        """\
version: 2
roles:
  Viewer: {}
  a:
    inherits: [b]
    tables:
      flights: {}
      raw.flights:
        columns: year
        rows: lower(origin) = 'x'
        row: x
        masks:
          tailnum: md5
          dest: {partial: 0}
tags: {pii: {columns: [flights.x], others: nope}}
users: {gh-octo: {carrier: 5}}
bindings: [a]
""",
    )

    assert found == [
        "1: version: is 2; write 1.",
        "3: roles.Viewer: 'Viewer' is no name of a role or tag; write at most 40 of the characters a-z 0-9 _, a letter first.",
        "7: roles.a.tables.flights: 'flights' is no table; write schema.table.",
        "9: roles.a.tables.raw.flights.columns: is 'year'; write \"*\" or a list of columns.",
        "10: roles.a.tables.raw.flights.rows: there is '(' at character 6 where a comparison should be; write = != < <= > >= IN or IS NULL.",
        "11: roles.a.tables.raw.flights.row: there is no such field; did you mean rows? Known are columns, rows, masks, deny.",
        "13: roles.a.tables.raw.flights.masks.tailnum: write null, hash, {partial: 4} or {constant: text}.",
        "14: roles.a.tables.raw.flights.masks.dest: write null, hash, {partial: 4} or {constant: text}.",
        "15: tags.pii.columns[0]: 'flights.x' is no column; write schema.table.column.",
        "15: tags.pii.others: write deny, null, hash, {partial: 4} or {constant: text}.",
        "16: users.gh-octo.carrier: is 5; write text in quotes, or a list of such.",
        "17: bindings: is ['a'], which is no mapping.",
    ]


def test_what_is_wrong_with_retention_and_erasure_is_told_with_its_line(tmp_path):
    found = told(
        tmp_path,
        """\
version: 1
roles: {}
data:
  raw.a: {keep: {days: 0, by: at}}
  raw.b: {keep: {days: 1, day: 1}}
  raw.c: {subjects: {customer: id}, erase: all}
""",
    )

    assert found == [
        "4: data.raw.a.keep.days: is 0: Input should be greater than or equal to 1.",
        "5: data.raw.b.keep.by: is missing; write it.",
        "5: data.raw.b.keep.day: there is no such field; did you mean days? Known are days, by.",
        "6: data.raw.c.erase: is 'all'; write rows or a list of columns.",
    ]


def test_retention_and_erasure_that_would_remove_nothing_or_too_much_are_refused(tmp_path):
    found = told(
        tmp_path,
        """\
version: 1
roles: {}
data:
  workbench.offsets: {keep: {days: 1, by: updated_at}}
  raw.b: {}
  raw.c: {keep: {days: 1, by: at}, erase: [name]}
  raw.d: {subjects: {customer: id}, erase: []}
""",
    )

    assert found == [
        "4: data.workbench.offsets: workbench.offsets belongs to the system; name a table of your data.",
        "5: data.raw.b: nothing would be removed; write `keep` or `subjects`.",
        "6: data.raw.c.erase: nobody's rows are known; write `subjects`.",
        "7: data.raw.d.erase: no column is named; write rows or a list of columns.",
    ]


def test_contradictions_are_told_with_their_line(tmp_path):
    found = told(
        tmp_path,
        """\
version: 1
roles:
  a:
    inherits: [b, zz]
    tables:
      raw.people:
        columns: [id, name]
        rows: region = user.what
        masks: {name: hash}
        deny: {columns: [id]}
      pg_catalog.pg_authid: {columns: "*"}
  b: {inherits: [a]}
users: {gh-octo: {name: [x]}}
bindings: {viewers: [c]}
""",
    )

    assert [each.partition(" ")[0] for each in found] == ["4:", "4:", "8:", "9:", "10:", "11:", "12:", "13:", "14:"]
    assert "nobody has user.what; give it in `users`. Known are groups, name." in found[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no mapping with `version:` and `roles:`"),
        ("- a", "is no mapping"),
        ("version: 1", "roles: is missing"),
        ("version: 1\nroles: {a: {}, a: {}}", "'a' stands twice"),
        ("version: 1\nroles: {a: [", "policies.yaml:2:"),
        ("version: 1\nroles: {a: *x}", "in quotes"),
    ],
)
def test_no_policies_are_told_too(tmp_path, text, message):
    with pytest.raises(PoliciesRefused, match="1 problem in policies") as caught:
        read(tmp_path, text)

    assert message in str(caught.value)


def people(rows: str = "", columns: str = "[id]", more: str = "") -> str:
    lines = [f"columns: {columns}", *([f"rows: {rows}"] if rows else []), *([more] if more else [])]
    body = "".join(f"        {line}\n" for line in lines)
    return f"version: 1\nroles:\n  a:\n    tables:\n      raw.people:\n{body}users: {{gh-x: {{city: [a], rank: ['1', two]}}}}\n"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("idd = 1", "raw.people has no column idd; did you mean id?"),
        ("id = 'x'", "id is integer, and x is not of that type"),
        ("id = TRUE", "id is integer, and True is not of that type"),
        ("name IN ('a', 5)", "name is text, and 5 is not of that type"),
        ("name = id", "name is text and id is integer; compare columns of one type"),
        ("born = user.city", "born is date, and user.city is text"),
        ("ok = user.city", "ok is boolean, and user.city is text"),
        ("id = user.rank", "id is a number, and user.rank of gh-x is 'two'"),
        ("id IN user.groups", "id is a number, and user.groups is none"),
        ("ok < 5", "ok is boolean, and 5 is not of that type"),
    ],
)
def test_conditions_have_to_fit_their_columns(tmp_path, rows, message):
    assert any(message in each for each in told(tmp_path, people(rows)))


def test_literals_of_time_are_text(tmp_path):
    assert resolved(tmp_path, people("born >= '1990-01-01' AND ok = TRUE")).grants[0].rows == parse(
        "born >= '1990-01-01' AND ok = TRUE"
    )


# --- what goes together


def two(first: str, second: str, bindings: str, more: str = "") -> str:
    return f"version: 1\nroles:\n  a: {{tables: {{raw.people: {first}}}}}\n  b: {{tables: {{raw.people: {second}}}}}\nbindings: {bindings}\n{more}"


TOGETHER = "{analysts: [a, b]}"
CLASH = "together they would show columns of one in rows of the other"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('{columns: [id], rows: "id = 1"}', '{columns: [id, name], rows: "id = 1"}'),  # the same rows
        ('{columns: [id], rows: "id = 1"}', '{columns: [id], rows: "id = 2"}'),  # the same columns
        ('{columns: [id], rows: "id = 1"}', '{columns: "*"}'),  # one shows all that the other does
        ("{masks: {name: hash}}", "{columns: [name]}"),
        ('{columns: [id], rows: "id = 1"}', '{deny: {rows: "id = 2"}}'),
    ],
)
def test_roles_that_add_up_may_be_held_together(tmp_path, first, second):
    assert len(resolved(tmp_path, two(first, second, TOGETHER)).grants) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('{columns: [id], rows: "id = 1"}', '{columns: [name], rows: "id = 2"}'),
        ('{columns: [id, name], rows: "id = 1"}', "{columns: [id]}"),
        ('{columns: [id, name], rows: "id = 1"}', "{columns: [id], masks: {name: hash}}"),
    ],
)
@pytest.mark.parametrize("bindings", [TOGETHER, "{analysts: [a], 'github:org:team': [b]}", "{x: [a], y: [b]}"])
def test_roles_that_would_show_more_together_are_refused(tmp_path, first, second, bindings):
    assert CLASH in told(tmp_path, two(first, second, bindings))[0]


def test_groups_of_which_everybody_is_in_one_are_no_matter(tmp_path):
    text = two('{columns: [id, name], rows: "id = 1"}', "{columns: [id]}", "{analysts: [a], viewers: [b]}")

    assert len(resolved(tmp_path, text).grants) == 2


def test_a_role_that_inherits_is_held_together_with_what_it_inherits(tmp_path):
    text = """\
version: 1
roles:
  a: {tables: {raw.people: {columns: [id], rows: id = 1}}}
  b: {inherits: [a], tables: {raw.people: {columns: [name], rows: id = 2}}}
"""

    assert "b and a role that it inherits show different columns" in told(tmp_path, text)[0]


def test_denials_win_over_what_is_inherited(tmp_path):
    text = """\
version: 1
roles:
  a: {tables: {raw.people: {columns: [id, name, region], rows: id > 1}}}
  b: {inherits: [a], tables: {raw.people: {deny: {columns: [name], rows: region = 'x'}}}}
"""
    by_role = {each.role: each for each in resolved(tmp_path, text).grants}

    assert by_role["a"].clear == ("id", "region", "name")
    assert by_role["b"].clear == ("id", "region")
    assert by_role["b"].rows == parse("id > 1")
    assert by_role["b"].denied_rows == (parse("region = 'x'"),)


def test_a_column_that_one_role_denies_is_shown_by_no_role_that_is_held_with_it(tmp_path):
    text = two("{columns: [id, name]}", "{deny: {columns: [name]}}", TOGETHER)

    assert "b denies name of raw.people, which a shows" in told(tmp_path, text)[0]


@pytest.mark.parametrize(("others", "level"), [("deny", None), ("hash", "hash"), ("null", "null")])
def test_tags_are_stronger_than_what_a_role_says(tmp_path, others, level):
    tags = f"tags: {{pii: {{columns: [raw.people.name], roles: [b], others: {others}}}}}\n"
    found = {each.role: each for each in resolved(tmp_path, two('{columns: "*"}', '{columns: "*"}', "{}", tags)).grants}

    assert found["a"].levels.get("name") == level
    assert found["b"].levels["name"] == "clear"


def test_a_tag_of_a_table_that_is_not_there_hides_nothing_and_is_told(tmp_path):
    tags = "tags: {pii: {columns: [raw.people.name, raw.poeple.name], others: deny}}\n"

    found = told(tmp_path, two('{columns: "*"}', '{columns: "*"}', "{}", tags))

    assert len(found) == 1
    assert "tags.pii.columns[1]: the warehouse has no table raw.poeple" in found[0]


@pytest.mark.parametrize("mask", ["hash", "{partial: 4}"])
def test_masks_of_a_text_that_the_reader_chooses_are_refused(tmp_path, mask):
    tags = f"tags: {{pii: {{columns: [raw.people.born], others: {mask}}}}}\n"
    masks = f"{{masks: {{born: {mask}, id: {mask}, name: {mask}, ok: {mask}}}}}"

    found = told(tmp_path, two(masks, "{masks: {born: null}}", "{}", tags))

    why = (
        "raw.people.born is date, whose text may depend on settings of the reader; write null or constant as its mask."
    )
    assert [each.partition(" ")[2] for each in found] == [
        f"roles.a.tables.raw.people.masks.born: {why}", f"tags.pii.columns[0]: {why}"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "written_as", "is_steady"),
    [
        ("raw.mood", "text", True),
        ("raw.postcode", "character varying", True),
        ("raw.day", "date", False),
        ("raw.pair", "raw.pair", False),
        ("raw.uuid", "raw.uuid", False),  # somebody's own, of that name
        *((kind, kind, True) for kind in ("jsonb", "inet", "macaddr", "text[]", "character varying(9)[]", "bit(3)", '"char"', "public.citext")),
        *((kind, kind, False) for kind in ("real", "bytea", "money", "interval", "xml", "date[]", "int4range", "timestamp(3) with time zone")),
    ],
)  # fmt: skip
def test_a_mask_of_text_is_refused_for_what_may_be_written_otherwise(tmp_path, kind, written_as, is_steady):
    columns = {**PEOPLE.columns, "name": kind}
    people = replace(PEOPLE, columns=columns, written_as={"name": written_as})
    policies = read(tmp_path, two("{masks: {name: hash}}", "{masks: {name: null}}", "{}"))

    if is_steady:
        assert resolve(policies, {people.name: people}).grants[0].levels["name"] == "hash"
        return
    with pytest.raises(PoliciesRefused, match="whose text may depend on settings of the reader"):
        resolve(policies, {people.name: people})


def test_a_tag_never_shows_more(tmp_path):
    tags = "tags: {pii: {columns: [raw.people.name], others: hash}}\n"
    found = resolved(tmp_path, two("{columns: [id], masks: {name: null}}", "{columns: [id]}", "{}", tags)).grants

    assert found[0].levels == {"id": "clear", "name": "null"}
    assert found[1].levels == {"id": "clear"}


# --- what comes of it


def test_what_is_not_said_is_denied(tmp_path):
    desired = compile_policies(
        resolved(tmp_path, "version: 1\nroles: {a: {}, b: {tables: {raw.people: {}}}}\n"), AROUND
    )

    granted = [each for each in desired.facts if "raw" in each.on and "privileges" not in each.on]
    assert {each.on for each in granted} == {"owner of raw.people", "row security of raw.people"}
    assert desired.row_policies == ()
    assert desired.views == ()


def test_who_holds_what_does_not_go_together_gets_none_of_it(tmp_path):
    text = two('{columns: [id, name], rows: "id = 1"}', "{columns: [id]}", "{analysts: [a], viewers: [b]}")
    around = Surroundings("analytics", "flows", {"wb_u_x": ("analysts", "viewers"), "wb_u_y": ("viewers",)})
    desired = compile_policies(resolved(tmp_path, text), around)

    members = [(each.on, each.value) for each in desired.facts if each.value.startswith("member")]
    assert members == [
        ("role wb_u_x", "member of wb_users (INHERIT)"),
        ("role wb_u_y", "member of wb_users (INHERIT)"),
        ("role wb_u_y", "member of wb_p_b (INHERIT)"),
    ]


def test_a_denial_and_a_role_that_is_called_so_have_policies_of_their_own(tmp_path):
    text = two("{columns: [id], deny: {rows: id = 1}}", "{columns: [id]}", "{}").replace("  b:", "  a_deny:")

    names = [each.name for each in compile_policies(resolved(tmp_path, text), AROUND).row_policies]

    assert sorted(names) == ["wb_p_a", "wb_p_a_deny", "wb_p_a~deny"]


def test_views_have_the_conditions_of_every_role(tmp_path):
    text = two('{columns: [id], rows: "id = 1"}', "{masks: {name: {partial: 4}}, deny: {rows: ok = FALSE}}", "{}")
    view = compile_policies(resolved(tmp_path, text), AROUND).views[0]

    assert view.name == "raw_masked.people"
    where = view.select.partition(" WHERE ")[2]
    held = {each: f"((SELECT pg_has_role(current_user, 'wb_p_{each}', 'USAGE')))" for each in "ab"}
    shown = f'(({held["a"]} AND ("id" = 1)) OR ({held["b"]} AND (TRUE)))'
    assert where == f'{shown} AND (NOT ({held["b"]} AND ("ok" = FALSE)))'
    assert "security_barrier=true" in view.statement


def test_somebody_is_told_what_they_see_and_why(tmp_path):
    policies = read_policies(EXAMPLE)
    found = explain(resolve(policies, TABLES), "gh-octo", roles_of(policies, ("analysts",)), "raw.flights")

    shown = {each.name: (each.shown, each.because) for each in found.columns}
    assert (found.role, found.roles, found.rows) == ("wb_u_gh-octo", ("analyst",), "all")
    assert found.reads == ("raw.flights", "raw_masked.flights")
    assert shown["tailnum"] == ("masked: hash", "role analyst, tag pii")
    assert shown["year"] == ("clear", "role analyst")

    nobody = explain(resolve(policies, TABLES), "gh-x", (), "raw.flights")
    assert (nobody.reads, nobody.rows, nobody.columns[0].shown) == ((), "none", "denied")


def test_statements_for_redshift_are_as_they_were(tmp_path):
    text = """\
version: 1
roles:
  viewer:
    tables:
      raw.people:
        columns: [id, region]
        rows: region = user.region AND NOT (id = 5 OR name IN ('it''s'))
        masks: {name: {partial: 4}}
  blocked:
    tables:
      raw.people: {deny: {rows: user.groups = 'blocked'}}
  steward: {tables: {raw.people: {columns: "*"}, raw.flights: {columns: [year]}}}
bindings: {viewers: [viewer], 'github:org': [blocked]}
users: {gh-octo: {region: [eu, it's]}}
services: [loader]
"""
    found = "".join(f"{each};\n" for each in compile_redshift(resolved(tmp_path, text), AROUND))

    assert found == (Path(__file__).parent / "compiled" / "policies.redshift.sql").read_text()


@pytest.mark.parametrize("mask", ["{name: hash}", "{id: {constant: x}}"])
def test_masks_that_redshift_cannot_have_are_refused(tmp_path, mask):
    with pytest.raises(PoliciesRefused, match=r"policies.yaml:5: roles.a.tables.raw.people: raw.people"):
        compile_redshift(resolved(tmp_path, people(columns="[region]", more=f"masks: {mask}")), AROUND)


@given(st.text(max_size=90), st.text(max_size=90))
def test_roles_of_people_are_names_that_a_server_takes_and_no_two_share(one, other):
    assert len(user_role(one).encode()) <= 63
    assert is_ours(user_role(one))
    assert (user_role(one) == user_role(other)) == (one == other)


# --- around it


@pytest.mark.parametrize(
    ("dialect", "message"), [("duckdb", "DuckDB cannot enforce policies"), ("redshift", "does not apply policies")]
)
def test_what_cannot_enforce_says_so(monkeypatch, dialect, message):
    more = {"WORKBENCH_WAREHOUSE_STAGING_URL": "s3://bucket/x", "WORKBENCH_WAREHOUSE_IAM_ROLE": "default"}
    reach = {"DW_HOST": "localhost", "DW_USER": "x", "DW_PASSWORD": "y", **more} if dialect == "redshift" else {}
    for name, value in {"WORKBENCH_WAREHOUSE_DIALECT": dialect, **reach}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(WarehouseError, match=message):
        Administration.of(Settings.load(), is_embedded=False)


def test_somebody_has_to_be_named_who_may_make_roles(monkeypatch):
    for name, value in {"DW_HOST": "warehouse.example.com", "DW_USER": "x", "DW_PASSWORD": "y"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WarehouseError, match="nobody is named"):
        Administration.of(Settings.load(), is_embedded=False)

    monkeypatch.setenv("WORKBENCH_POLICIES_ADMIN_USER", "admin")
    with pytest.raises(SettingsError, match="ADMIN_PASSWORD is not"):
        Settings.load()
    monkeypatch.setenv("WORKBENCH_POLICIES_ADMIN_PASSWORD", "secret")
    found = Administration.of(Settings.load(), is_embedded=False)
    assert found.user == "admin"
    assert "secret" not in repr(found)


def test_pods_get_no_passwords_in_their_description(monkeypatch):
    monkeypatch.setenv("WORKBENCH_POLICIES_OWN_ROLES", "true")
    monkeypatch.setenv("WORKBENCH_HUB_SPAWNER", "kubernetes")
    monkeypatch.setenv("WORKBENCH_HUB_KUBERNETES_IMAGE", "registry.example.com/workbench:1")
    settings = Settings.load()

    with pytest.raises(SettingsError, match="WORKBENCH_HUB_SPAWNER is kubernetes"):
        warehouse_roles.check(settings)


@pytest.mark.parametrize("spawner_class", [SameUserSpawner, OsUserSpawner, UnitSpawner])
def test_a_password_ends_when_a_hub_that_was_killed_starts_anew(monkeypatch, spawner_class):
    asked = []

    async def ask(settings: Settings, request: dict[str, object]) -> dict[str, object]:
        asked.append(request)
        return {"closed": True}

    monkeypatch.setattr(warehouse_roles, "ask", ask)
    monkeypatch.setattr(UnitSpawner, "home", Path("/nowhere"))
    user = SimpleNamespace(id=1, name="gh-ada")
    killed = spawner_class(user=user)
    killed.warehouse_valid_until = "2026-01-31T08:00:00+00:00"

    spawner = spawner_class(user=user)
    spawner.load_state(json.loads(json.dumps(killed.get_state())))
    spawner.clear_state()  # as its `poll` does when the process is gone
    for _ in range(2):
        asyncio.run(warehouse_roles.close_role(Settings.load(), spawner))

    assert asked == [{"do": "close", "name": "gh-ada", "valid_until": "2026-01-31T08:00:00+00:00"}]
    assert "warehouse_valid_until" not in spawner.get_state()


@pytest.mark.parametrize(
    ("own_roles", "spawner", "ok"), [("false", "simple", True), ("true", "simple", False), ("true", "local", True)]
)
def test_the_doctor_says_when_policies_are_no_wall(monkeypatch, tmp_path, own_roles, spawner, ok):
    monkeypatch.setenv("WORKBENCH_POLICIES_OWN_ROLES", own_roles)
    monkeypatch.setenv("WORKBENCH_HUB_SPAWNER", spawner)

    found = {each.subject: each for each in examine(tmp_path)}["policies"]

    assert found.ok is ok


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORKBENCH_WAREHOUSE_DIALECT": "duckdb"}, "is duckdb, where people have no roles"),
        ({"DW_HOST": "localhost", "DW_USER": "x", "DW_PASSWORD": "y"}, "nobody is named who may make roles"),
    ],
)
def test_the_hub_does_not_start_where_nobody_can_have_a_role(monkeypatch, variables, message):
    for name, value in {"WORKBENCH_POLICIES_OWN_ROLES": "true", **variables}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=message):
        warehouse_roles.check(Settings.load())
