"""What flows may declare as steps, and what a file's arguments become."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import SettingsError, StepRefused
from workbench.flows import refuse_steps
from workbench.ingestion.definition import make_flow
from workbench.ingestion.steps import ROW_WISE, STATEFUL_STREAMS, TABLES_ONLY
from workbench.loading import ORIGIN, Target
from workbench.spark_lane.stepped import PIECE, PIECE_SCHEMA, _met
from workbench.transformation import steps
from workbench.transformation.composition import bind_step
from workbench.warehouse.filtered import COLUMNS, forget_filtered, pack, read_filtered

FIELDS = {"topic": "t", "into": "s.t", "columns": {"n": "int64"}, "engine": "spark"}


def flow(**fields: object):
    return make_flow("f", {**FIELDS, **fields})


def test_every_step_of_the_library_is_known_to_flows():
    functions = {name for name in steps.__all__ if callable(getattr(steps, name)) and name.islower()} - {"pseudonym"}

    assert functions == {*ROW_WISE, *STATEFUL_STREAMS, *TABLES_ONLY}


def test_steps_are_names_mappings_and_functions():
    found = flow(steps=["acme.cleaning:trim", {"conform": {"schema": {"n": "int"}}}, len]).steps

    assert [(each.name, each.arguments) for each in found[:2]] == [
        ("acme.cleaning:trim", {}),
        ("conform", {"schema": {"n": "int"}}),
    ]
    assert found[2].function is len


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"steps": "conform"}, "which is no list"),
        ({"steps": ["unheard_of"]}, "Known are conform, enrich, mask"),
        ({"steps": [{"mask": 3}]}, "Write a name"),
        ({"steps": ["conform"], "engine": "arrow"}, "steps need engine spark"),
        ({"steps": ["conform"], "columns": None}, "steps needs columns"),
        ({"steps": ["conform"], "contract": "evolve"}, "do not go together"),
        ({"steps": ["aggregate_windows"]}, "use engine: stream"),
        ({"steps": ["dedupe"]}, "which needs all rows"),
        ({"engine": "stream", "mode": "merge", "key": ["n"]}, "engine stream appends"),
        ({"engine": "stream", "start": "fail"}, "its checkpoint says where it is"),
    ],
)
def test_what_does_not_go_together_is_told_with_the_remedy(fields, part):
    with pytest.raises(SettingsError) as caught:
        flow(**fields)

    assert part in str(caught.value)


def test_what_goes_past_the_steps_is_refused():
    refuse_steps(flow(), "replay")
    with pytest.raises(SettingsError, match="replay does not go through the steps"):
        refuse_steps(flow(steps=["conform"]), "replay")


def test_functions_are_found_by_their_name(monkeypatch):
    module = ModuleType("acme_steps")
    module.add = lambda frame, number: frame + number
    monkeypatch.setitem(sys.modules, "acme_steps", module)
    arguments = {"origin": {}, "load_table": lambda *_: None}

    assert bind_step("acme_steps:add", {"number": 2}, **arguments)(1) == 3
    for name in ("acme_steps:nothing", "no_such_module:f"):
        with pytest.raises(SettingsError, match=r"Name package\.module:function"):
            bind_step(name, {}, **arguments)


coordinates = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5_000_000)), unique=True)


@given(coordinates)
def test_what_was_left_out_is_kept_in_bits_and_read_again(found):
    target = Target(table="s.t", topic="t")
    arrays = [pa.array([each[index] for each in found], field.type) for index, field in enumerate(ORIGIN)]

    packed = pack(target, pa.Table.from_arrays(arrays, schema=pa.schema(list(ORIGIN))))

    assert packed.schema == COLUMNS
    assert sorted(unpacked(packed)) == sorted(found)


@settings(max_examples=20)
@given(coordinates, st.dictionaries(st.integers(0, 3), st.integers(0, 5_000_000)))
def test_what_a_replay_has_read_again_is_not_left_out_any_more(found, since):
    target = Target(table="s.t", topic="t")
    arrays = [pa.array([each[index] for each in found], field.type) for index, field in enumerate(ORIGIN)]
    packed = pack(target, pa.Table.from_arrays(arrays, schema=pa.schema(list(ORIGIN))))

    kept = unpacked(packed, lambda connection: forget_filtered(connection, target, since))

    assert sorted(kept) == sorted(each for each in found if each[0] not in since or each[1] < since[each[0]])


def test_of_one_flow_everything_is_forgotten_and_nothing_of_others():
    target, other = Target(table="s.t", topic="t"), Target(table="s.other", topic="t")
    packed = pack(target, pa.table({"_partition": pa.array([0], pa.int32()), "_offset": [7]}))

    assert unpacked(packed, lambda connection: forget_filtered(connection, target)) == []
    assert unpacked(packed, lambda connection: forget_filtered(connection, other)) == [(0, 7)]


def unpacked(packed: pa.Table, change: Callable[[Any], None] = lambda _: None) -> list[tuple[int, int]]:
    """What a database would give back, by SQLite: its tables have no schema, so one is attached."""
    import sqlalchemy as sa

    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.execute(sa.text("ATTACH ':memory:' AS workbench"))
        connection.execute(sa.text(f"CREATE TABLE workbench.filtered ({', '.join(packed.schema.names)})"))
        names = ", ".join(f":{name}" for name in packed.schema.names)
        if rows := packed.to_pylist():
            connection.execute(sa.text(f"INSERT INTO workbench.filtered VALUES ({names})"), rows)
        change(connection)
        batches = list(read_filtered(connection, Target(table="s.t", topic="t")))
    engine.dispose()
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def test_rows_without_a_piece_are_no_records():
    rows = pa.RecordBatch.from_arrays(
        [pa.array([1], pa.int32()), pa.array([7]), pa.array([None], pa.binary())], schema=PIECE_SCHEMA
    )

    with pytest.raises(StepRefused, match="offset 7 of partition 1, which is no record"):
        list(_met(iter([rows])))
    assert PIECE in rows.schema.names
