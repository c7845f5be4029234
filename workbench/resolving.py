"""Reads the secrets that references lead to: variables and files here, what else there is by `workbench.security.references`."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from workbench.errors import SecretUnavailable
from workbench.masking import remember
from workbench.references import SecretReference

MOST_BYTES = 1 << 20  #: of a file

Reader = Callable[[str], SecretStr]  #: given what stands behind the colon; raises SecretUnavailable


@dataclass(frozen=True)
class References:
    """Reads secrets where and when they are needed; what was read is masked in the logs of this process from then on.

    Args:
        environment: where those of `env:` are.
        readers: of the schemes that need more than this module has.
        own: a folder with keys of the workbench itself, of which no reference gives anything away.
    """

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    readers: Mapping[str, Reader] = field(default_factory=dict, repr=False)
    own: Path | None = None

    def read(self, reference: SecretReference, *, remedy: str = "", is_private: bool = False) -> SecretStr:
        """The secret that is meant.

        Args:
            reference: where it is.
            remedy: what to do when it is not there; of a scheme of its own, the reader knows better.
            is_private: whether a file that other users may read is refused.

        Raises:
            SecretUnavailable: when it is not there, is empty, or may not be read. No secret is in the message.
        """
        if reference.scheme == "env":
            found = SecretStr(self.environment.get(reference.name, ""))
            reason = "is not set"
        elif reference.scheme == "file":
            # A loop of links is what opening it tells.
            self._refuse(reference, Path(os.path.realpath(reference.name)))
            found = self._from_file(reference, is_private=is_private, remedy=remedy)
            reason = "is empty"
        elif reader := self.readers.get(reference.scheme):
            found = reader(reference.name)
            reason = "is empty"
        else:
            raise SecretUnavailable(
                f"{reference}",
                "cannot be read here",
                remedy=f"Use one of env: and file: instead of {reference.scheme}:.",
            )
        if not found.get_secret_value().strip():
            raise SecretUnavailable(f"{reference}", reason, remedy=remedy)
        remember(found.get_secret_value())
        return found

    def _from_file(self, reference: SecretReference, *, is_private: bool, remedy: str) -> SecretStr:
        path = Path(reference.name)
        try:
            # A pipe would have its reader wait for as long as somebody likes.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                # Of the opened file: another one may stand at the path by now.
                self._refuse(reference, _path_of(file.fileno(), reference))
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise SecretUnavailable(f"{reference}", "is no file", remedy=remedy)
                mode = stat.S_IMODE(status.st_mode)
                content = file.read(MOST_BYTES)
        except OSError as error:
            raise SecretUnavailable(f"{reference}", f"cannot be read: {error.strerror}", remedy=remedy) from None
        if is_private and mode & 0o077:
            raise SecretUnavailable(
                f"{reference}",
                f"has mode {mode:04o}, and other users may read it",
                remedy=f"Run `chmod 600 {path}`, and get a new one if others use this machine.",
            )
        try:
            return SecretStr(content.decode("utf-8").rstrip("\r\n"))
        except UnicodeDecodeError:
            raise SecretUnavailable(f"{reference}", "is no text in UTF-8", remedy=remedy) from None

    def _refuse(self, reference: SecretReference, path: Path) -> None:
        if self.own is not None and path.is_relative_to(self.own.resolve()):
            raise SecretUnavailable(
                f"{reference}", "is a key of the workbench itself", remedy="Keep secrets of your own elsewhere."
            )
        if path.is_relative_to("/proc"):
            # The variables of processes, among which env: gives only those that are meant for it.
            raise SecretUnavailable(f"{reference}", "is of a process", remedy="Name a file on a disk.")


def _path_of(descriptor: int, reference: SecretReference) -> Path:
    """Where the opened file is, without links; by its name where the system does not tell."""
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        return Path(reference.name).resolve()
