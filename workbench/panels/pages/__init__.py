"""An extension of JupyterLab's server: each panel as a page of its own, without a notebook.

It runs in the user's own server, as that user. Pages are made by Voilà, which is loaded when the first is asked
for. They show notebooks of ours alone: Voilà itself would run any notebook of the user's home that a link names.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "workbench.panels.pages"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by jupyter-server when it starts."""
    from workbench.panels.pages.handlers import add_handlers

    add_handlers(server)
