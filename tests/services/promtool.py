"""promtool, which comes with Prometheus: the one on PATH, else that of the Debian package, fetched once into a cache."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.conftest import needs

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "workbench-tests"
FETCH_SECONDS = 60


@functools.cache
def promtool() -> str:
    """Its path; where it cannot be had, the test is skipped with the reason, or has failed in CI."""
    if found := shutil.which("promtool"):
        return found
    cached = CACHE / "promtool"
    if not cached.is_file():
        try:
            _fetch(cached)
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", None) or b""
            needs(False, f"promtool, whose package prometheus cannot be fetched ({error} {output[-300:]!r}),")
    return str(cached)


def major(tool: str) -> int:
    """Of its version; promtool 3 comes with Prometheus 3, also where it was built as 0.300 and later."""
    told = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d+)\.", told.stdout + told.stderr)
    return int(found[1]) if found else 3  # built from source


def _fetch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        _run("apt-get", "download", "prometheus", folder=folder, checks=False)
        if not [*Path(folder).glob("*.deb")]:
            _run("apt-get", "update", folder=folder)
            _run("apt-get", "download", "prometheus", folder=folder)
        (package,) = Path(folder).glob("prometheus_*.deb")
        _run("dpkg-deb", "--extract", str(package), folder, folder=folder)
        (Path(folder) / "usr" / "bin" / "promtool").replace(path)


def _run(*command: str, folder: str, checks: bool = True) -> None:
    subprocess.run(command, cwd=folder, capture_output=True, timeout=FETCH_SECONDS, check=checks)
