"""Virtual environments of the peers that are Python packages: their dependencies are not ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from workbench.resources import resource

PEERS = Path(__file__).parent
INSTALL_SECONDS = 600


def ensure_environment(name: str) -> Path:
    """The interpreter of the environment of requirements-*name*.txt, made by uv when it is not there.

    Raises:
        RuntimeError: when there is no uv.
    """
    root = resource("pyproject.toml").parent
    requirements = PEERS / f"requirements-{name}.txt"
    folder = root / ".workbench" / "cache" / "peers" / f"{name}-venv"
    python, installed = folder / "bin" / "python", folder / "requirements.txt"
    if installed.is_file() and installed.read_bytes() == requirements.read_bytes():
        return python
    uv = shutil.which(root / ".venv-uv" / "bin" / "uv") or shutil.which("uv")
    if uv is None:
        raise RuntimeError("there is no uv; `make setup` fetches one")
    for command in (
        ("venv", "--quiet", "--clear", "--python", sys.executable, str(folder)),
        ("pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)),
    ):
        subprocess.run([uv, *command], check=True, timeout=INSTALL_SECONDS)
    shutil.copy(requirements, installed)
    return python


def pinned_version(name: str, package: str) -> str:
    """The version of *package* that requirements-*name*.txt asks for."""
    lines = (PEERS / f"requirements-{name}.txt").read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.partition("==")[0] == package)
