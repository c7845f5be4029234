"""What a checkpoint carries, what it refuses, and when it is good, without a kernel."""

from __future__ import annotations

import json
import stat
import sys
import types
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engine.checkpoints.declared import carried_cells, declared_checkpoints, identity
from pipelines.engine.checkpoints.in_kernel import VALUES, CheckpointRefused, restore, save
from pipelines.engine.checkpoints.passing import check, restoring, saving
from pipelines.engine.checkpoints.resuming import make_keeper
from pipelines.engine.checkpoints.saved import (
    FOLDER,
    context_of,
    drop_new,
    forget,
    new_folder,
    publish,
    read_saved,
)
from pipelines.engine.job import Checkpoints, Earlier
from pipelines.engine.record.events import Event, Kind
from pipelines.engine.source import Source
from pipelines.parameters.carried import read_carried
from tests.services.canaries import files_with, new_canary
from tests.services.keysets import make_keys, turn
from workbench.errors import EncryptionError, WorkbenchError
from workbench.masking import secret_forms
from workbench.security.secrets import private_folder

SECRET = "s3cret-käse/1"
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def back(folder, **values):
    """What a kernel has after a checkpoint that carried *values*."""
    namespace = {}
    save(tuple(values), str(folder), values)
    restore(str(folder), namespace)
    return namespace


@pytest.fixture
def secret(monkeypatch):
    module = types.ModuleType("workbench_run")
    module.forms = tuple(each.encode() for each in secret_forms(SECRET))
    monkeypatch.setitem(sys.modules, "workbench_run", module)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("# checkpoint: a, b\na = 1", ("a", "b")),
        ("\n#checkpoint :ünder_1", ("ünder_1",)),
        ("# checkpoint:\nwrite()", ()),
        ("# checkpoint: a, a", ("a",)),
    ],
)
def test_a_checkpoint_says_what_it_carries(source, names):
    assert read_carried(source) == names


@pytest.mark.parametrize("source", ["", "a = 1\n# checkpoint: a", "# checkpoint", "# checkpoint: a.b", "# checkpoint: a,", "# checkpoint: class"])  # fmt: skip
def test_one_that_does_not_is_refused(source):
    with pytest.raises(ValueError, match="checkpoint"):
        read_carried(source)


@given(VALUE)
def test_values_come_back_as_they_were(value):
    with TemporaryDirectory() as folder:
        found = back(folder, value=value)

    assert (found["value"], repr(found["value"])) == (value, repr(value))


def test_tables_come_back_as_they_were_in_private_files_and_can_be_written_to(tmp_path):
    frame = pd.DataFrame(
        {"n": [1, 2], "text": ["a", None], "at": pd.to_datetime(["2013-01-01", "2013-01-02"]).tz_localize("UTC")},
        index=pd.Index(["x", "y"], name="key"),
    ).astype({"text": "category"})
    frame.columns.name, frame.attrs["from"] = "what", "here"
    one = pd.DataFrame({"only": [1.0, float("nan")]})

    found = back(tmp_path, frame=frame, one=one, table=pa.table({"n": [1]}), empty=pd.DataFrame())

    pd.testing.assert_frame_equal(found["frame"], frame)
    assert found["frame"].attrs == {"from": "here"}
    assert found["table"].equals(pa.table({"n": [1]}))
    assert found["empty"].equals(pd.DataFrame())
    found["one"].loc[0, "only"] = 2.0
    found["one"]["only"].to_numpy()[1] = 3.0
    assert list(found["one"]["only"]) == [2.0, 3.0]
    assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}


def holding_itself():
    found = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ((1, 2), "is a tuple"),
        ({"a": [{1}]}, "a value of it[0], which is a set"),
        ({1: 2}, "keys that are no text"),
        (pd.Series([1]), "is a pandas"),
        (pd.Series([1.5])[0], "is a numpy.float64"),
        (holding_itself(), "holds itself"),
        (10**5000, "too many digits"),
        (pd.DataFrame({"a": [1, "x"]}), "a DataFrame that Arrow cannot hold"),
        (pd.DataFrame({"a": pd.Series([1, None], dtype=object)}), "would not come back as it is"),
    ],
    ids=range(9),
)
def test_what_would_not_come_back_is_refused_by_its_name(tmp_path, value, part):
    with pytest.raises(CheckpointRefused) as caught:
        back(tmp_path, it=value)

    assert "carries" in str(caught.value)
    assert "it" in str(caught.value)
    assert part in str(caught.value)


def test_a_variable_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CheckpointRefused, match="carries missing, and there is no such variable"):
        save(("missing",), str(tmp_path), {})


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        {"url": [f"https://me:{SECRET}@host"]},
        {SECRET: 1},
        [repr(SECRET)],
        [json.dumps(SECRET)],
        pd.DataFrame({"n": range(3), "text": ["", f"x{SECRET}y", "z"]}),
        pd.DataFrame({"text": ["a", SECRET]}).astype("category"),
        pa.table({"deep": [[{"a": SECRET}]]}),
        pa.table({SECRET: [1]}),
    ],
    ids=range(9),
)
def test_a_secret_is_never_written_and_the_variable_is_named_without_it(tmp_path, secret, value):
    with pytest.raises(CheckpointRefused) as caught:
        back(tmp_path, public="fine", it=value)

    assert str(caught.value) == "the checkpoint carries it, which holds a secret; leave it out"
    written = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    assert SECRET.encode() not in written


def test_a_checkpoint_appears_whole_replaces_the_one_before_and_is_not_believed_when_it_has_changed(tmp_path):
    for cell, number in ((2, 1), (11, 2)):
        save(("n",), str(new_folder(tmp_path)), {"n": number})
        assert read_saved(tmp_path) is None or read_saved(tmp_path).cell == 2, "not before it is published"
        publish(tmp_path, cell, {"what": "same"})

    saved = read_saved(tmp_path)
    assert (saved.cell, saved.same, [each.name for each in (tmp_path / FOLDER).iterdir()]) == (
        11,
        {"what": "same"},
        ["11"],
    )
    assert json.loads((saved.folder / VALUES).read_text())["values"] == {"n": 2}
    assert {stat.S_IMODE(each.stat().st_mode) for each in saved.folder.iterdir()} == {0o600}

    (saved.folder / VALUES).write_text("{}")
    with pytest.raises(ValueError, match=r"values\.json has changed"):
        read_saved(tmp_path)
    forget(tmp_path)
    assert read_saved(tmp_path) is None


def cell(source, *tags, kind="code"):
    return {"cell_type": kind, "source": source, "metadata": {"tags": list(tags)}, "id": source[:3]}


CELLS = [
    cell("text", kind="markdown"), cell("a = 1", "parameters"), cell("a = 2", "injected-parameters"),
    cell("import x", "setup"), cell("heavy()"), cell("# checkpoint: a", "checkpoint"), cell("after()"),
]  # fmt: skip


def test_cells_before_a_checkpoint_are_not_executed_again_but_parameters_and_setup():
    assert declared_checkpoints(CELLS, ["checkpoint"]) == {5: ("a",)}
    assert carried_cells(CELLS, 5) == [4, 5]
    with pytest.raises(WorkbenchError, match="cell 5 of the notebook: a checkpoint says what it carries"):
        declared_checkpoints(CELLS, ["hea"])


@pytest.mark.parametrize(
    ("index", "changed"),
    [
        (4, cell("lighter()")), (2, cell("a = 3", "injected-parameters")), (3, cell("import x")), (6, None), (0, None),
    ],
)  # fmt: skip
def test_a_checkpoint_is_good_as_long_as_what_stands_before_it_is_the_same(index, changed):
    cells = [*CELLS]
    cells[index] = changed or cell("else", kind=CELLS[index]["cell_type"])

    is_same = identity(cells, 5, "python3", {}) == identity(CELLS, 5, "python3", {})

    assert is_same is (changed is None)


def why_not(place, *, kept=CELLS, number=1, damage=False, folder=None):
    """Why an attempt begins with its first cell, when the one before has kept a checkpoint of the notebook *kept*."""
    earlier = place / "load.1"
    save(("a",), str(new_folder(earlier)), {"a": 1})
    publish(earlier, 5, identity(kept, 5, "python3", {"what came before": str(number)}))
    if damage:
        (earlier / FOLDER / "5" / VALUES).write_text("{}")
    before = Earlier(number=1, folder=folder or earlier, log=earlier / "log.jsonl")
    given = {"what came before": "1"}
    checkpoints = Checkpoints(folder=place / "load.2", marks=("checkpoint",), given=given, earlier=(before,))
    keeper = make_keeper(checkpoints, Source(notebook={"cells": CELLS}, kernel="python3", language="python"))
    assert (keeper.resumes_at, keeper.carried) == (None, {})
    return keeper.why_not


def test_a_checkpoint_in_clear_of_an_encrypted_attempt_is_not_believed(tmp_path, keys):
    earlier = tmp_path / "load.1"
    save(("a",), str(new_folder(earlier)), {"a": 1})
    publish(earlier, 5, identity(CELLS, 5, "python3", {}))
    before = Earlier(number=1, folder=earlier, log=earlier / "log.jsonl.enc")
    checkpoints = Checkpoints(folder=tmp_path / "load.2", marks=("checkpoint",), earlier=(before,))

    keeper = make_keeper(checkpoints, Source(notebook={"cells": CELLS}, kernel="python3", language="python"), keys)

    assert keeper.resumption is None
    assert keeper.why_not.endswith("its files cannot be used: they are not encrypted, and that attempt was")


def test_why_a_checkpoint_is_not_used_is_told(tmp_path):
    private_folder(tmp_path / "load.3")
    found = [
        why_not(tmp_path / "1", kept=[*CELLS[:4], cell("lighter()"), *CELLS[5:]]),
        why_not(tmp_path / "2", number=2),
        why_not(tmp_path / "3", damage=True),
        why_not(tmp_path / "4", folder=tmp_path / "load.3"),
        why_not(tmp_path / "5", folder=tmp_path / "elsewhere"),
        why_not(tmp_path / "6"),
    ]

    assert found[:5] == [
        "the checkpoint of attempt 1: a cell up to the checkpoint changed since",
        "the checkpoint of attempt 1: what came before changed since",
        "the checkpoint of attempt 1: its files cannot be used: values.json has changed",
        "no earlier attempt has come to a checkpoint",
        "the files of earlier attempts are not on this machine",
    ]
    assert "log.jsonl" in found[5], "without its log nobody knows what the cells have put out"


def test_a_log_that_is_cut_off_behind_its_checkpoint_still_tells_what_cells_put_out(tmp_path):
    earlier = tmp_path / "load.1"
    save(("a",), str(new_folder(earlier)), {"a": 1})
    publish(earlier, 5, identity(CELLS, 5, "python3", {}))
    printed = {"output_type": "stream", "name": "stdout", "text": "worked\n"}
    events = [
        Event(at=1, kind=Kind.STARTED, cell=None, content={"notebook": {"metadata": {}, "cells": CELLS}}),
        Event(at=2, kind=Kind.CELL_STARTED, cell=5, content={}),
        Event(at=3, kind=Kind.OUTPUT, cell=5, content=printed),
    ]
    (earlier / "log.jsonl").write_bytes(b"".join(each.as_line() for each in events))
    before = Earlier(number=1, folder=earlier, log=earlier / "log.jsonl")
    checkpoints = Checkpoints(folder=tmp_path / "load.2", marks=("checkpoint",), earlier=(before,))

    keeper = make_keeper(checkpoints, Source(notebook={"cells": CELLS}, kernel="python3", language="python"))

    assert (keeper.resumes_at, keeper.why_not, sorted(keeper.carried)) == (5, "", [4, 5])
    assert keeper.carried[5]["outputs"] == [printed], "and not that it was lost: the checkpoint had succeeded"
    assert keeper.carried[5]["notebook"] == "../load.1/output.ipynb"


@pytest.fixture
def keys(tmp_path):
    return make_keys(tmp_path / "home")


def keep_encrypted(attempt, keys, cell, **values):
    """What `Keeper` and a kernel do at a checkpoint."""
    same = {"what": "same"}
    passing = saving(new_folder(attempt), keys, context_of(attempt, cell, same))
    try:
        save(tuple(values), str(passing.place), values)
    finally:
        passing.finish()
    publish(attempt, cell, same, keys)


def restored(attempt, keys):
    saved, namespace = read_saved(attempt), {}
    check(keys, saved.state, saved.context)
    passing = restoring(attempt / FOLDER, keys, saved.state, saved.context)
    restore(str(passing.place), namespace)
    passing.finish()
    return namespace


def test_what_is_encrypted_comes_back_as_it_was_and_is_nowhere_in_clear(tmp_path, keys):
    attempt, canary = tmp_path / "load.1", new_canary()
    frame = pd.DataFrame({"text": [canary, "b"] * 50_000, "n": range(100_000)})
    one = pd.DataFrame({"only": [1.0, float("nan")]})
    keep_encrypted(attempt, keys, 2, text=canary, before=1)
    keep_encrypted(attempt, keys, 11, text=[canary], frame=frame, one=one, table=pa.table({"n": [1]}))

    assert files_with(tmp_path, canary) == []
    assert sorted(each.name for each in (attempt / FOLDER / "11").iterdir()) == ["about.json", "state.enc"]
    assert [each.name for each in (attempt / FOLDER).iterdir()] == ["11"]
    assert [each.name for each in keys.inventory.entries()] == [str(attempt / FOLDER / "11" / "state.enc")]
    turn(keys)
    found = restored(attempt, keys)
    assert found["text"] == [canary]
    pd.testing.assert_frame_equal(found["frame"], frame)
    assert found["table"].equals(pa.table({"n": [1]}))
    found["one"].loc[0, "only"] = 2.0
    found["one"]["only"].to_numpy()[1] = 3.0
    assert list(found["one"]["only"]) == [2.0, 3.0]
    forget(attempt, keys)
    assert keys.inventory.entries() == []


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [(b'"what": "same"', b'"what": "else"', "OtherContext"), (b'"cell": 2', b'"cell": 3', "OtherContext")],
)
def test_what_is_said_of_an_encrypted_checkpoint_cannot_be_changed(tmp_path, keys, old, new, error):
    attempt = tmp_path / "load.1"
    keep_encrypted(attempt, keys, 2, n=1)
    about = attempt / FOLDER / "2" / "about.json"
    assert old in about.read_bytes()
    about.write_bytes(about.read_bytes().replace(old, new))

    with pytest.raises(EncryptionError) as caught:
        restored(attempt, keys)

    assert type(caught.value).__name__ == error


def test_a_kernel_that_refuses_dies_or_hangs_leaves_nothing_and_is_not_waited_for(tmp_path, keys, secret):
    attempt = tmp_path / "load.1"
    with pytest.raises(CheckpointRefused, match="holds a secret"):
        keep_encrypted(attempt, keys, 2, table=pa.table({"n": range(100_000)}), it=SECRET)
    assert files_with(tmp_path, SECRET) == []

    nobody = saving(new_folder(attempt), keys, "never opened")
    nobody.finish()
    hanging = saving(new_folder(attempt), keys, "never closed")
    with hanging.place.open("wb") as pipe:
        pipe.write(b"x")
        pipe.flush()
        hanging.finish()
    drop_new(attempt, keys)
    assert read_saved(attempt) is None
    assert keys.inventory.entries() == []

    keep_encrypted(attempt, keys, 2, text="x" * 1_000_000)
    saved = read_saved(attempt)
    restoring(attempt / FOLDER, keys, saved.state, saved.context).finish()
    stalled = restoring(attempt / FOLDER, keys, saved.state, saved.context)
    with stalled.place.open("rb") as pipe:
        assert pipe.read(10)
        stalled.finish()
