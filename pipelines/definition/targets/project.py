"""Where the files of pipelines are, and which kernels there are."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from workbench.resources import resource

JOBS = PurePosixPath("pipelines/jobs")  #: where definitions are, from the project's folder on


@dataclass(frozen=True)
class Project:
    """Folders that paths of pipelines are relative to; the first one that has a file gives it."""

    roots: tuple[Path, ...]
    imports: bool = False  #: whether to try to import the modules of functions, each in a process of its own

    @classmethod
    def installed(cls, *, imports: bool = False) -> Project:
        """The checkout, or what the installed package has of it."""
        return cls(tuple(dict.fromkeys(resource(each).parent for each in ("pipelines", "notebooks"))), imports)

    @classmethod
    def around(cls, path: Path, *, within: Path | None = None, imports: bool = False) -> Project | None:
        """The project that a file is in: the nearest folder above it that has pipelines/jobs; None when there is none.

        Args:
            path: of the file, which need not be there.
            within: the folder above which nobody looks.
            imports: as of the class.
        """
        for folder in path.absolute().parents:
            if within is not None and not folder.is_relative_to(within):
                return None
            if _is_folder(folder / JOBS):
                installed = cls.installed(imports=imports)
                return installed if folder in installed.roots else cls((folder,), imports)
        return None

    @property
    def jobs(self) -> Path:
        """The folder of definitions."""
        return self.roots[0] / JOBS

    @property
    def alerts(self) -> Path:
        """The file of channels and of rules of alerts; it need not be there."""
        return self.roots[0] / "pipelines" / "alerts.yaml"

    def find(self, path: str) -> Path:
        """The file at *path*.

        Raises:
            ValueError: when no root has it, it cannot be looked for, or the path leads out of the project.
        """
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{path} is no path within the project; write it from the project's folder on")
        try:
            found = next((root / path for root in self.roots if (root / path).is_file()), None)
        except OSError as error:
            # A name that is too long, or a folder of somebody else.
            raise ValueError(f"{reprlib.repr(path)} cannot be looked for: {error.strerror}") from None
        if found is not None:
            return found
        raise ValueError(f"there is no file {path} in {' or '.join(map(str, self.roots))}")

    @property
    def import_folders(self) -> tuple[str, ...]:
        """Where modules of functions are looked for: the project first."""
        return (*map(str, self.roots), *filter(None, sys.path))

    @property
    def flows(self) -> tuple[str, ...]:
        """The names of all flows."""
        return tuple(sorted({each.stem for root in self.roots for each in (root / "pipelines/flows").glob("*.yaml")}))

    @cached_property
    def kernels(self) -> Mapping[str, str]:
        """The language of every kernel that Jupyter finds here, ours among them."""
        from jupyter_client.kernelspec import KernelSpecManager

        from workbench.runtime.kernels import jupyter_folders

        manager = KernelSpecManager()
        manager.kernel_dirs = [str(Path(jupyter_folders()["JUPYTER_PATH"]) / "kernels"), *manager.kernel_dirs]
        return {name: str(each["spec"].get("language", "")).lower() for name, each in manager.get_all_specs().items()}


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # of somebody else, who lets nobody look
