"""What `workbench sql` prints of an answer, and the frame that holds it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner

from workbench.cli.data import frame_as_json
from workbench.cli.main import make_application
from workbench.errors import WarehouseError
from workbench.warehouse import engine
from workbench.warehouse.frames import exact_frame

LARGE = 2**53 + 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1e-12, 1e-12),
        (float("nan"), None),
        (float("inf"), "inf"),
        (LARGE, LARGE),
        (True, True),
        (Decimal("0.10000000000000000000000001"), "0.10000000000000000000000001"),
        (Decimal("1E+3"), "1000"),
        (Decimal("NaN"), None),
        (date(2013, 1, 2), "2013-01-02"),
        (time(1, 2, 3, 4), "01:02:03.000004"),
        (datetime(2013, 1, 2, 3, 4, 5, 678901, UTC), "2013-01-02T03:04:05.678901+00:00"),
        (datetime(9013, 1, 2, 3, 4, 5, tzinfo=UTC), "9013-01-02T03:04:05+00:00"),
        (timedelta(days=1, seconds=2), "1 days 00:00:02"),
        (b"\x00\xff", "00ff"),
        (UUID(int=7), str(UUID(int=7))),
        ({"a": [1, None]}, {"a": [1, None]}),
        ([LARGE, None], [LARGE, None]),
        ("Zürich", "Zürich"),
    ],
)
def test_json_has_the_value_itself_beside_a_null_too(value, expected):
    assert json.loads(frame_as_json(exact_frame([(value,)], ["v"]))) == [{"v": expected}]
    assert json.loads(frame_as_json(exact_frame([(value,), (None,)], ["v"]))) == [{"v": expected}, {"v": None}]


def test_two_columns_of_one_name_are_refused_as_json():
    with pytest.raises(WarehouseError, match="two columns of the answer are called 'n'"):
        frame_as_json(exact_frame([(1, 2)], ["n", "n"]))


def test_whole_numbers_beside_a_null_stay_whole_in_columns_of_one_name_too():
    frame = exact_frame([(LARGE, 1.5, 1), (None, None, 2)], ["n", "n", "k"])

    assert list(map(str, frame.dtypes)) == ["Int64", "float64", "int64"]
    assert frame.iloc[0, 0] == LARGE


@pytest.mark.parametrize("value", [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1])
def test_whole_numbers_beside_a_null_may_be_larger_than_a_bigint(value):
    frame = exact_frame([(value,), (None,)], ["n"])

    assert frame.iloc[0, 0] == value
    assert frame["n"].isna().tolist() == [False, True]
    assert json.loads(frame_as_json(frame)) == [{"n": value}, {"n": None}]


def test_in_a_pipe_a_value_is_printed_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    monkeypatch.setattr(engine, "read_frame", lambda *_: exact_frame([("x" * 200, None)], ["text", "n"]))

    printed = CliRunner().invoke(make_application(), ["sql", "SELECT 1"]).stdout

    assert "x" * 200 in printed
    assert "…" not in printed
