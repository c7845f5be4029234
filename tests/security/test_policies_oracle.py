"""Ten thousand random cases of policy, row and person: PostgreSQL shows what plain Python says, and nothing else."""

from __future__ import annotations

import random
from typing import Any

import psycopg
import pytest
import yaml

from tests.services import policy_oracle as oracle
from tests.services.policies import governed_warehouse
from workbench.security.policies.compile.writing import RedshiftWriter
from workbench.security.policies.names import user_role
from workbench.security.policies.parsing import parse

SEED = 20261127
TABLES, ROWS = 25, 40
BINDINGS = {"viewers": ("a",), "analysts": ("b",), "engineers": ("c",), "admins": ("a", "denying")}
PEOPLE = 10
CASES = TABLES * ROWS * PEOPLE


class World:
    """The tables in a warehouse, and people with attributes in one group each."""

    def __init__(self, warehouse: Any) -> None:
        chance = random.Random(SEED)
        self.warehouse = warehouse
        self.tables = [
            oracle.random_table(chance, f"t{number}", ["a", "b", "c"], "denying", ROWS) for number in range(TABLES)
        ]
        self.people = {f"gh-{number}": oracle.random_person(chance) for number in range(PEOPLE)}
        self.groups = {name: list(BINDINGS)[number % 4] for number, name in enumerate(self.people)}
        self.text = yaml.safe_dump(oracle.as_file(self.tables, BINDINGS, self.people), allow_unicode=True)
        warehouse.own("CREATE SCHEMA raw; " + "; ".join(map(self._made, self.tables)))
        with (
            warehouse.connect(warehouse.server.server.user, warehouse.server.server.password) as owner,
            owner.cursor() as cursor,
        ):
            for table in self.tables:
                rows = [tuple(row[column] for column in oracle.COLUMNS) for row in table.rows]
                cursor.executemany(f"INSERT INTO raw.{table.name} VALUES (%s, %s, %s, %s, %s, %s)", rows)
        warehouse.apply(self.text)

    def roles(self, name: str) -> tuple[str, ...]:
        return BINDINGS[self.groups[name]]

    @staticmethod
    def _made(table: oracle.Table) -> str:
        columns = ", ".join(f"{name} {kind}" for name, kind in oracle.COLUMNS.items())
        return f"CREATE TABLE raw.{table.name} ({columns})"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with governed_warehouse(tmp_path_factory.mktemp("policies")) as warehouse:
        yield World(warehouse)


def test_rows_columns_and_masks_are_those_of_the_oracle(world):
    compared, shown = 0, 0
    for name, person in world.people.items():
        with world.warehouse.person(world.text, name, [world.groups[name]]) as connection:
            for table in world.tables:
                roles = world.roles(name)
                columns = oracle.visible_columns(table, roles)
                expected = oracle.seen(table, roles, person, masks=False)
                places = [list(oracle.COLUMNS).index(column) for column in columns]

                found = connection.execute(f"SELECT {', '.join(columns)} FROM raw.{table.name} ORDER BY id").fetchall()

                assert found == [tuple(row[place] for place in places) for row in expected], (name, table.name)
                compared, shown = compared + len(table.rows), shown + len(found)
    assert compared == CASES >= 10_000
    # Neither nothing nor everything: the cases tell something.
    assert 0.2 < shown / compared < 0.8


def test_views_show_what_the_oracle_says(world):
    for name, person in world.people.items():
        with world.warehouse.person(world.text, name, [world.groups[name]]) as connection:
            for table in world.tables:
                roles = world.roles(name)
                with connection.cursor() as cursor:
                    cursor.execute(f"SELECT * FROM raw_masked.{table.name} ORDER BY id")
                    names = [column.name for column in cursor.description]
                    found = [dict(zip(names, row, strict=True)) for row in cursor]

                expected = [
                    dict(zip(oracle.COLUMNS, row, strict=True)) for row in oracle.seen(table, roles, person, masks=True)
                ]
                texts = _text_columns(table)
                for row in expected:
                    row.update({key: None if row[key] is None else oracle.as_text(row[key]) for key in texts})
                assert found == [{key: row[key] for key in names} for row in expected], (name, table.name)


def test_columns_that_are_not_in_clear_cannot_be_asked_for(world):
    refused = 0
    for name in list(world.people)[:4]:
        with world.warehouse.person(world.text, name, [world.groups[name]]) as connection:
            for table in world.tables:
                for column in set(oracle.COLUMNS) - set(oracle.visible_columns(table, world.roles(name))):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(f"SELECT {column} FROM raw.{table.name}")
                    refused += 1
    assert refused > 100


def test_conditions_written_for_redshift_mean_the_same(world):
    # As far as PostgreSQL tells: it evaluates them, with all rights, for one person after the other.
    conditions = [
        (table, grant.rows) for table in world.tables for grant in table.grants.values() if grant.rows is not None
    ]
    with world.warehouse.superuser() as connection:
        for name, person in list(world.people.items())[:4]:
            for table, rows in conditions:
                condition = RedshiftWriter(oracle.COLUMNS).condition(parse(oracle.written(rows)))
                mine = condition.replace("current_user", f"'{user_role(name)}'")
                found = connection.execute(f"SELECT id FROM raw.{table.name} WHERE {mine} ORDER BY id").fetchall()

                assert found == [(row["id"],) for row in table.rows if oracle.evaluate(rows, row, person) is True]


def _text_columns(table: oracle.Table) -> list[str]:
    """Columns that some role sees as a mask of text, and are text in the view for everybody."""
    levels = {column: [grant.levels.get(column) for grant in table.grants.values()] for column in oracle.COLUMNS}
    return [column for column, each in levels.items() if any(isinstance(level, dict) for level in each)]
