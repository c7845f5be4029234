"""Where a notebook lies among the files of a JupyterLab: in which project, and at which path there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.definition import Project
from workbench.errors import WorkbenchError

NOTEBOOK = ".ipynb"


@dataclass(frozen=True)
class Place:
    """A notebook and its project."""

    root: Path  #: the folder that JupyterLab shows, without links
    folder: Path  #: of the project
    path: Path  #: of the notebook
    is_project: bool  #: whether the folder is one already, or would have to be made one

    @property
    def notebook(self) -> str:
        """Its path as definitions have it: from the project's folder on."""
        return self.path.relative_to(self.folder).as_posix()

    @property
    def shown_folder(self) -> str:
        """The project's folder as JupyterLab has it; empty for the uppermost."""
        shown = self.folder.relative_to(self.root).as_posix()
        return "" if shown == "." else shown

    @property
    def project(self) -> Project:
        """For the checks."""
        return Project((self.folder,))


def find_place(root: Path, path: str) -> Place:
    """The place of the notebook at *path* below *root*, which is without links.

    Its project is the nearest folder above it that has pipelines/jobs. Where there is none, the work tree of
    git around it may be made one, and without git the uppermost folder. No link leads out of *root*.

    Raises:
        WorkbenchError: when no notebook is there, or it lies outside.
    """
    try:
        found = (root / path.lstrip("/")).resolve()
        is_notebook = found.is_relative_to(root) and found.suffix == NOTEBOOK and found.is_file()
    except (OSError, ValueError, RuntimeError):  # NUL, a name that is too long, links in a circle
        is_notebook = False
    if not is_notebook:
        raise WorkbenchError(
            f"{path!r} is no notebook in the folders of this server", remedy="Open one in JupyterLab, and save it."
        )
    project = Project.around(found, within=root)
    if project is not None:
        return Place(root, project.jobs.parents[1], found, is_project=True)
    return Place(root, _offered(root, found), found, is_project=False)


def _offered(root: Path, notebook: Path) -> Path:
    """The folder that may be made a project."""
    above = [each for each in notebook.parents if each.is_relative_to(root)]
    # In a second work tree of one repository, .git is a file.
    return next((each for each in above if (each / ".git").exists()), root)
