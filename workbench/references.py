"""References to secrets: files and databases hold where a secret is, and never what it is.

    env:NAME                 a variable of the process that needs it
    file:/PATH               a file on its machine
    keyset:NAME              kept by `workbench secrets set NAME`, encrypted with the keyset
    vault:MOUNT/PATH#FIELD   a field of a secret in version 2 of Vault's key-value engine

`workbench.resolving` reads what they lead to. Every step of a pipeline imports this module before it begins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?"  #: of a secret in the keyset
REFERENCE = re.compile(
    rf"env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\x00]*|keyset:{NAME}|vault:[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+#[A-Za-z0-9_.-]+"
)
HOW = "env:NAME, file:/PATH, keyset:NAME or vault:MOUNT/PATH#FIELD"


@dataclass(frozen=True)
class SecretReference:
    """Where a secret is."""

    scheme: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The reference that *text* is.

        Raises:
            ValueError: when it is none. The text may be a secret itself: no message shows it.
        """
        if not REFERENCE.fullmatch(text):
            raise ValueError(f"the value is no reference; write {HOW}, never the secret itself")
        scheme, name = text.split(":", 1)
        return cls(scheme, name)

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}"
