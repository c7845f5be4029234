"""From which checkpoint an execution goes on, if from any; and what it does at checkpoints of its own."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.engine.checkpoints import in_kernel
from pipelines.engine.checkpoints.declared import carried_cells, declared_checkpoints, identity
from pipelines.engine.checkpoints.passing import Passing, check
from pipelines.engine.checkpoints.passing import restoring as passing_to_kernel
from pipelines.engine.checkpoints.passing import saving as passing_from_kernel
from pipelines.engine.checkpoints.saved import (
    FOLDER,
    Saved,
    context_of,
    drop_new,
    new_folder,
    publish,
    read_saved,
)
from pipelines.engine.job import Checkpoints, Earlier
from pipelines.engine.record.events import Event, Kind
from pipelines.engine.record.keeping import ENCRYPTED, is_encrypted, needed
from pipelines.engine.record.notebook import read_notebook
from pipelines.engine.source import Source
from pipelines.states import State
from workbench.errors import EncryptionError, KeysetError
from workbench.security.keyset.opening import Keys

OUTPUT = "output.ipynb"
# Of a log without an end: the cell that it stops at may be the checkpoint, which has succeeded by then.
CUT_OFF = Event(at=0, kind=Kind.ENDED, cell=None, content={"state": State.LOST})


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """Where an execution goes on."""

    saved: Saved
    earlier: Earlier
    carried: Mapping[int, Mapping[str, Any]]  #: cells that are not executed, as the log tells of them


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """The checkpoints of one execution."""

    declared: Mapping[int, tuple[str, ...]]  #: what each carries, by its cell
    resumption: Resumption | None
    why_not: str  #: why there is none, when there might have been one
    checkpoints: Checkpoints
    source: Source
    keys: Keys | None = field(default=None, repr=False)
    encrypts: bool = False  #: what it keeps

    @property
    def resumes_at(self) -> int | None:
        """The cell in whose place its values are read; None when all cells are executed."""
        return None if self.resumption is None else self.resumption.saved.cell

    @property
    def carried(self) -> Mapping[int, Mapping[str, Any]]:
        """The cells that are not executed."""
        return {} if self.resumption is None else self.resumption.carried

    def restoring(self) -> tuple[str, Passing | None]:
        """The expression that gives the kernel what the checkpoint carries, and what passes it there, when it is encrypted.

        Raises:
            OSError: when there is no room.
        """
        assert self.resumption is not None, "there is a checkpoint"
        saved, passing = self.resumption.saved, None
        if saved.state is not None:
            keys = needed(self.keys, saved.state)
            passing = passing_to_kernel(self.checkpoints.folder / FOLDER, keys, saved.state, saved.context)
        place = saved.folder if passing is None else passing.place
        return _expression("restore", f"{str(place)!r}, globals()"), passing

    def saving(self, cell: int) -> tuple[str, Passing | None]:
        """The expression that has the kernel write what the checkpoint *cell* carries, and what encrypts it.

        Raises:
            OSError: when there is no room.
        """
        folder, passing = new_folder(self.checkpoints.folder), None
        if self.encrypts:
            same = _identity(self.source, cell, self.checkpoints)
            context = context_of(self.checkpoints.folder, cell, same)
            passing = passing_from_kernel(folder, needed(self.keys, folder), context)
        place = folder if passing is None else passing.place
        return _expression("save", f"{self.declared[cell]!r}, {str(place)!r}, globals()"), passing

    def publish(self, cell: int) -> None:
        """Keep what the kernel has written.

        Raises:
            OSError: when there is no room.
            KeysetError: when the inventory of keys cannot be written.
        """
        same = _identity(self.source, cell, self.checkpoints)
        publish(self.checkpoints.folder, cell, same, self.keys if self.encrypts else None)

    def drop(self) -> None:
        """Take away what the kernel has written."""
        drop_new(self.checkpoints.folder, self.keys if self.encrypts else None)


def make_keeper(
    checkpoints: Checkpoints, source: Source, keys: Keys | None = None, *, encrypts: bool = False
) -> Keeper:
    """What is done about the checkpoints of the notebook *source*.

    Args:
        checkpoints: of the attempts before, and where new ones are kept.
        source: the notebook.
        keys: that decrypt the logs and checkpoints of the attempts before.
        encrypts: whether new checkpoints are encrypted with them.

    Raises:
        WorkbenchError: when a checkpoint does not say what it carries.
    """
    declared = declared_checkpoints(source.notebook["cells"], checkpoints.marks)
    found, why_not = _find(checkpoints, source, declared, keys) if declared else (None, "")
    return Keeper(
        declared=declared,
        resumption=found,
        why_not=why_not,
        checkpoints=checkpoints,
        source=source,
        keys=keys,
        encrypts=encrypts,
    )


def _find(
    checkpoints: Checkpoints, source: Source, declared: Mapping[int, Sequence[str]], keys: Keys | None
) -> tuple[Resumption | None, str]:
    """The newest checkpoint that is good, or why there is none."""
    reasons = []
    for earlier in checkpoints.earlier:
        try:
            saved = read_saved(earlier.folder)
            if saved is None:
                continue
            reason = _stale(saved, source, checkpoints, declared)
            if not reason:
                _prove(saved, earlier, keys)
                before = read_notebook(earlier.log, end=CUT_OFF, keys=keys)
                carried = _carried(before["cells"], earlier, saved, source, checkpoints)
                return Resumption(saved=saved, earlier=earlier, carried=carried), ""
        except (OSError, ValueError, KeysetError, EncryptionError) as error:
            reason = f"its files cannot be used: {error}"
        reasons.append(f"the checkpoint of attempt {earlier.number}: {reason}")
    return None, reasons[0] if reasons else _nothing(checkpoints)


def _prove(saved: Saved, earlier: Earlier, keys: Keys | None) -> None:
    """Make sure that what *saved* carries is as it was written.

    Raises:
        ValueError: when it is in clear, and the attempt was encrypted: somebody else may have put it there.
        OSError, KeysetError, EncryptionError: when it cannot be decrypted, or was changed.
    """
    if saved.state is not None:
        check(needed(keys, saved.state), saved.state, saved.context)
    elif is_encrypted(earlier.log):
        raise ValueError("they are not encrypted, and that attempt was")


def _nothing(checkpoints: Checkpoints) -> str:
    if not checkpoints.earlier:
        return ""
    if not any(each.folder.is_dir() for each in checkpoints.earlier):
        return "the files of earlier attempts are not on this machine"
    return "no earlier attempt has come to a checkpoint"


def _stale(saved: Saved, source: Source, checkpoints: Checkpoints, declared: Mapping[int, Sequence[str]]) -> str:
    """What has changed since *saved* was made."""
    if saved.cell not in declared:
        return f"cell {saved.cell + 1} is no checkpoint any more"
    now = _identity(source, saved.cell, checkpoints)
    changed = [name for name in {**now, **saved.same} if now.get(name) != saved.same.get(name)]
    return f"{' and '.join(changed)} changed since" if changed else ""


def _carried(
    before: Sequence[Mapping[str, Any]], earlier: Earlier, saved: Saved, source: Source, checkpoints: Checkpoints
) -> dict[int, Mapping[str, Any]]:
    """What the cells that are not executed put out when they were, of the cells *before* of that attempt."""
    name = OUTPUT + ENCRYPTED if is_encrypted(earlier.log) else OUTPUT
    notebook = os.path.relpath(earlier.log.with_name(name), checkpoints.folder)
    found: dict[int, Mapping[str, Any]] = {}
    for index in carried_cells(source.notebook["cells"], saved.cell):
        outputs, where = before[index]["outputs"], {"attempt": earlier.number, "notebook": notebook}
        if "executed_in" in before[index]["metadata"].get("workbench", {}):
            # That attempt had carried it already; its first output says so.
            outputs, where = outputs[1:], before[index]["metadata"]["workbench"]["executed_in"]
        found[index] = {**where, "outputs": outputs, "execution_count": before[index]["execution_count"]}
    return found


def _identity(source: Source, cell: int, checkpoints: Checkpoints) -> dict[str, str]:
    return identity(source.notebook["cells"], cell, source.kernel, checkpoints.given)


def _expression(call: str, arguments: str) -> str:
    """A call of the module `in_kernel`, in a kernel that does not have it; no name is left behind there."""
    module = f"exec({inspect.getsource(in_kernel)!r}, kept)"
    return f"(lambda kept: ({module}, kept[{call!r}]({arguments}))[1])({{'__name__': 'checkpoint'}})"
