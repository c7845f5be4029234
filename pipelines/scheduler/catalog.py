"""The pipelines that are in force: files are read again when they change, and a broken one leaves its last good form."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.definition import Pipeline, Problem, Project, check_files
from pipelines.definition.targets.function import read_function

logger = logging.getLogger(__name__)

JUST_NOW_NS = 2_000_000_000  # the coarsest time of change that file systems keep

Stamp = tuple[int, int] | None  #: time of the last change and size; None when there is no such file


@dataclass(frozen=True)
class Changes:
    """What is new since the last look."""

    changed: Mapping[str, Pipeline] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()  #: of files that have changed and are wrong now


@dataclass(frozen=True)
class _Looked:
    """The last look at a file."""

    stamps: Mapping[Path, Stamp]  #: of it, and of what its steps run
    problems: tuple[Problem, ...]

    @property
    def holds(self) -> bool:
        """Whether another look would find the same. What is wrong may be of a file that is not there yet."""
        return not self.problems and all(_stamp(each) == stamp for each, stamp in self.stamps.items())


class Catalog:
    """All pipelines of a project, by name."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._looked: dict[Path, _Looked] = {}
        self.pipelines: dict[str, Pipeline] = {}

    def refresh(self) -> Changes:
        """Read what has changed, and what was wrong; until then all stays in force that was."""
        files = sorted(self._project.jobs.glob("*.yaml"))
        changed: dict[str, Pipeline] = {}
        problems: list[Problem] = []
        for path in files:
            before = self._looked.get(path)
            if before is not None and before.holds:
                continue
            looked, pipelines = self._look(path)
            self._looked[path] = looked
            # Of what is wrong for long, it is said once.
            problems += looked.problems if before is None or before.problems != looked.problems else ()
            changed |= {each.name: each for each in pipelines if self.pipelines.get(each.name) != each}
        there = set(files)
        gone = frozenset(path.stem for path in self._looked if path not in there)
        self._looked = {path: looked for path, looked in self._looked.items() if path in there}
        self.pipelines = {name: each for name, each in (self.pipelines | changed).items() if name not in gone}
        return Changes(changed, gone, tuple(problems))

    def _look(self, path: Path) -> tuple[_Looked, Sequence[Pipeline]]:
        # Before it is read: what changes meanwhile is read again.
        began, own = time.time_ns(), _stamp(path)
        try:
            checked = check_files([path], self._project)
            stamps = {each: _stamp(each) for found in checked.pipelines for each in self._files(found)}
        except Exception as error:
            # What nobody has thought of in one file keeps no other pipeline from its schedule.
            problems = (Problem(path, 1, "", f"it cannot be checked: {type(error).__name__}: {error}"),)
            if path not in self._looked or self._looked[path].problems != problems:
                logger.exception("%s cannot be checked", path)
            return _Looked({path: own}, problems), ()
        # Which files steps run is known only now: one that was changed just now may have been read before that.
        settled = {each: stamp if stamp and stamp[0] < began - JUST_NOW_NS else None for each, stamp in stamps.items()}
        return _Looked({path: own, **settled}, tuple(checked.problems)), checked.pipelines

    def _files(self, pipeline: Pipeline) -> Iterator[Path]:
        """What of a pipeline may change beside its own file."""
        for step in pipeline.steps.values():
            target = step.target
            # One that has gone this moment is missed at the next look.
            with suppress(ValueError):
                if target.kind == "function":
                    yield read_function(target.where, self._project.import_folders).path
                elif target.kind == "flow":
                    yield self._project.find(f"pipelines/flows/{target.where}.yaml")
                else:
                    yield Path(target.where)


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
