"""The pipelines that are in force: files are read again when they change, and a broken one leaves its last good form."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.definition import Pipeline, Problem, Project, check_files
from pipelines.definition.targets.function import read_function

logger = logging.getLogger(__name__)

Stamp = tuple[int, int] | None  #: time of the last change and size; None when there is no such file


@dataclass(frozen=True)
class Changes:
    """What is new since the last look."""

    changed: Mapping[str, Pipeline] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()  #: of files that have changed and are wrong now


class Catalog:
    """All pipelines of a project, by name."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._stamps: dict[Path, dict[Path, Stamp]] = {}  # of each file, and of what its steps run
        self.pipelines: dict[str, Pipeline] = {}

    def refresh(self) -> Changes:
        """Read what has changed; until then all stays in force that was."""
        files = sorted(self._project.jobs.glob("*.yaml"))
        changed: dict[str, Pipeline] = {}
        problems: list[Problem] = []
        for path in files:
            if path in self._stamps and all(_stamp(each) == stamp for each, stamp in self._stamps[path].items()):
                continue
            # Before it is read: what changes meanwhile is read again. What the form in force runs is looked at for as
            # long as it is: a notebook that was broken for a moment is read again once it is whole.
            self._stamps[path] = {each: _stamp(each) for each in {path, *self._stamps.get(path, ())}}
            try:
                checked = check_files([path], self._project)
                stamps = {each: _stamp(each) for found in checked.pipelines for each in self._files(found)}
            except Exception as error:
                # What nobody has thought of in one file keeps no other pipeline from its schedule.
                logger.exception("%s cannot be checked", path)
                told = f"it cannot be checked: {type(error).__name__}. This is a defect; report it."
                problems.append(Problem(path, 1, "", told))
                continue
            problems += checked.problems
            if checked.pipelines:
                self._stamps[path] = {path: self._stamps[path][path], **stamps}
                changed |= {each.name: each for each in checked.pipelines}
        there = set(files)
        gone = frozenset(path.stem for path in self._stamps if path not in there)
        self._stamps = {path: stamps for path, stamps in self._stamps.items() if path in there}
        self.pipelines = {name: each for name, each in (self.pipelines | changed).items() if name not in gone}
        return Changes(changed, gone, tuple(problems))

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
