"""`workbench pipelines exec` on the project of a site, as another scheduler calls it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.services.pipelines_project import Site
from tests.services.workbench import ROOT, environment

SECONDS = 90
PROGRAM = """\
#!{python}
import sys
from pathlib import Path

sys.path[:0] = [{root!r}]
from pipelines.definition import Project

Project.installed = classmethod(lambda cls, *, imports=False: cls((Path({project!r}),)))
from workbench.cli.main import main

main()
"""


def program(site: Site) -> Path:
    """A `workbench` whose project is that of the site, for a PATH."""
    path = site.folder / "bin" / "workbench"
    if not path.exists():
        path.parent.mkdir()
        project = str(site.folder / "project")
        path.write_text(PROGRAM.format(python=sys.executable, root=str(ROOT), project=project))
        path.chmod(0o700)
    return path


def begin(
    site: Site, name: str, run_key: str, variables: Mapping[str, str] = {}, **options: object
) -> subprocess.Popen[str]:
    """Start it."""
    given = [each for key, value in options.items() for each in (f"--{key.replace('_', '-')}", str(value))]
    given = [each for each in given if each != "True"]
    process = subprocess.Popen(
        [str(program(site)), "pipelines", "exec", name, "--run-key", run_key, *given],
        env=environment(site.home, **site.settings(), **variables),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=site.folder / "project",
    )  # fmt: skip
    site.processes.append(process)
    return process


def execute(
    site: Site, name: str, run_key: str, variables: Mapping[str, str] = {}, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    process = begin(site, name, run_key, variables, **options)
    out, err = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
