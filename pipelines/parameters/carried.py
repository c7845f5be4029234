"""What a checkpoint carries: the names in the comment that its cell begins with, `# checkpoint: delays, threshold`."""

from __future__ import annotations

import keyword
import re

CHECKPOINT = "checkpoint"  #: the tag of cells that are checkpoints when a step names no others
COMMENT = re.compile(r"#\s*checkpoint\s*:(?P<names>.*)")


def read_carried(source: str) -> tuple[str, ...]:
    """The names of the variables that the cell of this *source* carries; none is allowed.

    Raises:
        ValueError: when its first line does not say them, or says what is no name.
    """
    first = source.lstrip("\n").split("\n", 1)[0].strip()
    found = COMMENT.fullmatch(first)
    if found is None:
        raise ValueError("a checkpoint says what it carries: begin its cell with `# checkpoint: NAME, NAME`")
    names = tuple(each.strip() for each in found["names"].split(",")) if found["names"].strip() else ()
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise ValueError(f"the checkpoint carries {name!r}, which is no name of a variable")
    return tuple(dict.fromkeys(names))
