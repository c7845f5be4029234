"""How Jupyter finds the kernel that has Spark, and where kernels keep their sockets."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from workbench.resources import resource

SHORT = "/tmp"  # noqa: S108 - mkdtemp makes a folder of mode 0700 with a random name


def jupyter_folders() -> Mapping[str, str]:
    """Environment that makes Jupyter use our kernel specification, server extension and settings."""
    jupyter = resource("workbench") / "jupyter"
    return {"JUPYTER_PATH": str(jupyter / "share"), "JUPYTER_CONFIG_PATH": str(jupyter / "etc")}


def new_runtime_folder() -> Path:
    """A private folder with a short path for JUPYTER_RUNTIME_DIR; the caller removes it.

    Kernels listen on Unix sockets there: over TCP, every user of the machine could read their
    output. A socket's path may have 107 characters (unix(7); 103 on macOS), which a home folder
    or the temporary folder of macOS can exceed.
    """
    return Path(tempfile.mkdtemp(prefix="wb-", dir=SHORT))
