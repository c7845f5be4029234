"""An extension of JupyterLab's server: a notebook becomes the file of a pipeline, for review in its project.

It runs in the user's own server, as that user. Nothing of the notebook is executed, and nothing is scheduled:
a file is written, and what runs is what the project is given through its reviews. The page that asks is
workbench/jupyter/share/labextensions/workbench-schedule.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "pipelines.jupyter"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by jupyter-server when it starts."""
    from pipelines.jupyter.handlers import add_handlers

    add_handlers(server.web_app, server.contents_manager.root_dir)
