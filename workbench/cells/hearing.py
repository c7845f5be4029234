"""Lets widgets be heard while a cell runs."""

from __future__ import annotations

from typing import Any


def answer_anywhere(widget: Any) -> None:
    """Let what *widget*, and all that is in it, is told be handled beside the cell that runs.

    JupyterLab sends it to a subshell of the kernel, a thread of its own. ipykernel 7.4 hands it to the thread that
    last sent something through the comm instead, which is the cell's; here it goes where the front-end wants it.
    Where front-ends know no subshells, a press is heard when the cell has ended.
    """
    if (comm := widget.comm) is not None:
        vars(comm)["_reply_subshell_for"] = _as_asked
    for each in getattr(widget, "children", ()):
        answer_anywhere(each)


def _as_asked(_: object, subshell: str | None) -> str | None:
    return subshell
