"""The notebook that an attempt has left, as a page of HTML that nobody trusts, and as a file."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.engine.record.keeping import read_file
from pipelines.engine.record.notebook import read_notebook
from pipelines.engine.record.publishing import notebook_bytes
from pipelines.runner.folders import is_notebook, log_beside
from pipelines.service.site.site import Site
from pipelines.service.site.tails import TERMINAL
from workbench.errors import NoSuchRun, WorkbenchError
from workbench.security.keyset.opening import Keys

LARGEST_BYTES = 64 * 1024 * 1024  #: of a notebook that is shown; a larger one can be fetched
KEPT = 8  # pages of HTML
MOST_COLOURED = (
    100_000  # characters of an output; the time that nbconvert takes for colours grows with the square of them
)
STYLE = """
:root { color-scheme: light }
body { margin: 0; padding: .75rem; font: 14px/1.5 system-ui, sans-serif; background: #fff; color: #1c2733 }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, monospace }
.input .highlight, .jp-InputArea { background: #f4f5f7; padding: .5rem; border-radius: 6px; margin-top: 1rem }
.prompt { color: #52606d; font: 12px ui-monospace, monospace } .output_subarea, .output_area { padding: .25rem 0; overflow-x: auto }
.output_stderr { background: #fdf1f1 } .anchor-link { display: none }
table { border-collapse: collapse; font-size: 13px } th, td { border: 1px solid #d9dee4; padding: .2rem .5rem; text-align: right }
img { max-width: 100% }
"""


def output_path(site: Site, run: dict[str, Any], attempt: int) -> Path:
    """Where an attempt's notebook is, or its log as long as there is no notebook.

    Args:
        site: where.
        run: as `reading.run` has it.
        attempt: the id of one of its attempts.

    Raises:
        NoSuchRun: when the run has no such attempt, or it has put out nothing.
        WorkbenchError: when its files are on another machine.
    """
    found = next((each for each in run["attempts"] if each["id"] == attempt), None)
    if found is None or not found["output_path"]:
        raise NoSuchRun(
            f"run {run['run']['id']} has no output of attempt {attempt}", remedy="Wait until the step has begun."
        )
    path = safe_path(site, found["output_path"])
    if path is None:
        raise WorkbenchError(
            f"the output of attempt {attempt} is not on this machine: {found['output_path']}",
            remedy=f"Open it where worker {found['worker']} runs.",
        )
    return path


def safe_path(site: Site, text: str) -> Path | None:
    """The path, when a run of this machine wrote there; None for any other, whatever the store says."""
    path = Path(text).resolve()
    return path if path.is_relative_to(site.outputs.resolve()) and path.parent.is_dir() else None


def read_output(path: Path, keys: Keys | None) -> bytes:
    """The notebook, decrypted; built from the log of one that runs or was cut off.

    Raises:
        WorkbenchError: when there is none, since what ran was no notebook, or has only begun.
        KeysetError, EncryptionError: when it is encrypted and cannot be decrypted.
    """
    try:
        if is_notebook(path):
            return read_file(path, keys)
        return notebook_bytes(read_notebook(log_beside(path), keys=keys))
    except (OSError, ValueError) as error:
        raise WorkbenchError(
            f"there is no notebook yet: {error}", remedy="Its lines are on the page of the run."
        ) from None


def render(path: Path, keys: Keys | None) -> str:
    """The notebook as HTML; it may hold whatever a cell has put out.

    Raises:
        WorkbenchError: when there is none, or it is too large.
        KeysetError, EncryptionError: when it is encrypted and cannot be decrypted.
    """
    if not is_notebook(path):
        return _as_html(read_output(path, keys))
    try:
        stamp = path.stat()
    except OSError as error:
        raise WorkbenchError(
            f"the notebook is gone: {error}", remedy="The pipeline's retention may have removed it."
        ) from None
    _demand_room(stamp.st_size)
    return _rendered(path, stamp.st_mtime_ns, keys)


@lru_cache(maxsize=KEPT)
def _rendered(path: Path, changed: int, keys: Keys | None) -> str:
    return _as_html(read_output(path, keys))


def _as_html(content: bytes) -> str:
    import nbformat
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    _demand_room(len(content))
    notebook = nbformat.from_dict(_with_few_colours(json.loads(content)))
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    style = f"{STYLE}\n{HtmlFormatter(style='default').get_style_defs('.highlight')}"
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Output</title><style>{style}</style><body>{body}</body></html>'


def _demand_room(size_bytes: int) -> None:
    if size_bytes > LARGEST_BYTES:
        raise WorkbenchError(
            f"the notebook has {size_bytes:,} bytes, more than a page can show", remedy="Fetch it as a file."
        )


def _with_few_colours(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with long outputs in one colour."""
    for cell in notebook.get("cells", ()):
        for output in cell.get("outputs", ()):
            for texts in (output, output.get("data", {})):
                for name in ("text", "text/plain", "traceback"):
                    if name in texts:
                        texts[name] = _in_one_colour(texts[name])
    return notebook


def _in_one_colour(text: str | list[str]) -> str | list[str]:
    whole = text if isinstance(text, str) else "".join(text)
    if len(whole) <= MOST_COLOURED or "\x1b" not in whole:
        return text
    # What a traceback has is lines, which only together may be long.
    return _plain(text) if isinstance(text, str) else [_plain(line) for line in text]


def _plain(text: str) -> str:
    # nbconvert takes sequences for colours that are none, such as one that goes on in the next line.
    return TERMINAL.sub("", text).replace("\x1b", "")
