"""What is in the hash under which the result of a step with `cache` is found again."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.definition import Project
from pipelines.engine import JobLimits
from pipelines.planning.bindings import Bindings
from pipelines.runner.assignment import Assignment, Result
from pipelines.states import State
from pipelines.worker import modules
from pipelines.worker.assigning import code_hash, content_hash
from pipelines.worker.attempts import Attempt, _Prepared
from pipelines.worker.modules import TooMuch, modules_hash
from workbench.errors import WorkbenchError

STEP = "from mine.helping import factor\n\n\ndef work() -> int:\n    return factor\n"
TICKS = itertools.count(1)
WITHOUT_EFFECT = [
    ".venv/lib/mine.py",
    "lib/site-packages/mine.py",
    "mine/__pycache__/helping.py",
    "venv/mine.py",
    "data.csv",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for path, text in {"steps.py": STEP, "mine/__init__.py": "", "mine/helping.py": "factor = 1\n"}.items():
        written(root / path, text)
    written(root / "venv/pyvenv.cfg", "")
    return root


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def installed(root: Path, version: str) -> None:
    folder = root.parent / "packages"
    for before in folder.glob("*"):
        before.joinpath("METADATA").unlink()
        before.rmdir()
    written(folder / f"helping-{version}.dist-info/METADATA", f"Name: helping\nVersion: {version}\n")
    # Times of files have ticks, in one of which a test does all of it.
    os.utime(folder, ns=(next(TICKS),) * 2)


def assignment_of(root: Path, kind: str = "function") -> Assignment:
    return Assignment(
        kind=kind, target="steps:work", roots=(root,), file=None, folder=root / "attempt",
        bindings=Bindings((), {}), limits=JobLimits(),
    )  # fmt: skip


def hash_of(root: Path, kind: str = "function") -> str | None:
    assignment = assignment_of(root, kind)
    return code_hash(assignment, content_hash(assignment, Project((root,))))


@pytest.mark.parametrize("path", ["mine/helping.py", "mine/new.py", "steps.py"])
def test_a_module_that_a_step_may_import_is_in_its_hash(root, path):
    before = hash_of(root)

    written(root / path, STEP + "# other\n")

    assert hash_of(root) != before


def test_a_module_that_is_moved_or_gone_is_another_hash(root):
    hashes = [hash_of(root)]
    (root / "mine/helping.py").rename(root / "mine/aiding.py")
    hashes.append(hash_of(root))
    (root / "mine/aiding.py").unlink()
    hashes.append(hash_of(root))

    assert len({*hashes}) == 3


@pytest.mark.parametrize("kind", ["function", "sql"])
def test_a_package_that_is_upgraded_while_a_worker_runs_is_another_hash(root, monkeypatch, kind):
    installed(root, "1.0")
    monkeypatch.syspath_prepend(root.parent / "packages")
    hashes = [hash_of(root, kind)]
    for version in ("2.0", "1.0"):
        installed(root, version)
        hashes.append(hash_of(root, kind))

    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize("path", WITHOUT_EFFECT)
def test_packages_caches_and_data_are_not_in_it(root, path):
    before = hash_of(root)

    written(root / path, "factor = 2\n")

    assert hash_of(root) == before


def test_it_is_the_same_wherever_the_project_is(root, tmp_path):
    before = modules_hash([root])

    assert modules_hash([root.rename(tmp_path / "elsewhere")]) == before


def test_sql_imports_nothing(root):
    before = hash_of(root, "sql")

    written(root / "mine/helping.py", "factor = 2\n")

    assert hash_of(root, "sql") == before


def test_a_pipe_and_what_nobody_may_read_keep_nobody_waiting(root):
    before = hash_of(root)

    os.mkfifo(root / "pipe.py")
    (root / "nowhere.py").symlink_to(root / "is-not-there.py")

    assert hash_of(root) == before


@pytest.mark.parametrize(("bound", "most"), [("MOST_FILES", 2), ("MOST_FOLDERS", 1), ("MOST_BYTES", 20)])
def test_a_project_that_is_too_large_is_not_cached(root, monkeypatch, bound, most):
    monkeypatch.setattr(modules, bound, most)

    with pytest.raises(TooMuch):
        modules_hash([root])
    assert hash_of(root) is None


@pytest.mark.parametrize(
    ("change", "known"),
    [
        (lambda root: None, "h"),
        (lambda root: written(root / "steps.py", STEP.replace("return", "return 2 *")), None),
        (lambda root: written(root / "mine/helping.py", "factor = 2\n"), None),
        (lambda root: (root / "steps.py").unlink(), None),
        (lambda root: installed(root, "2.0"), None),
    ],
)
def test_a_result_is_found_again_only_when_its_code_was_the_same_to_the_end(root, monkeypatch, change, known):
    installed(root, "1.0")
    monkeypatch.syspath_prepend(root.parent / "packages")
    prepared = _Prepared(assignment_of(root), code=hash_of(root), hash="h")
    attempt = Attempt(None, None, SimpleNamespace(project=Project((root,))))
    result = Result(state=State.SUCCEEDED)

    change(root)

    assert attempt._known(prepared, result) == known
    assert attempt._known(prepared, replace(result, state=State.FAILED)) is None
    assert attempt._known(prepared, replace(result, resumed_from=1)) is None
    assert attempt._known(replace(prepared, code=None, hash=None), result) is None


def test_a_step_whose_file_is_gone_at_its_end_has_succeeded_and_is_not_cached(root):
    written(root / "a.sql", "SELECT 1")
    prepared = _Prepared(replace(assignment_of(root, "sql"), file=root / "a.sql"), code="c", hash="h")
    attempt = Attempt(None, None, SimpleNamespace(project=Project((root,))))
    (root / "a.sql").unlink()

    assert attempt._known(prepared, Result(state=State.SUCCEEDED)) is None
    with pytest.raises(WorkbenchError, match=r"a\.sql"):
        content_hash(prepared.assignment, Project((root,)))
