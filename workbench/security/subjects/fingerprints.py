"""Subjects as the workbench remembers them: a keyed hash (HMAC-SHA-256, RFC 2104), so that no list names people."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from workbench.security.secrets import ensure_token

KEY = "erasure-key"  #: of the folder of keys


@dataclass(frozen=True)
class Fingerprints:
    """Gives the fingerprints of one workbench."""

    key: str = field(repr=False)

    @classmethod
    def of_home(cls, home: Path) -> Self:
        """Those of the workbench whose WORKBENCH_HOME is *home*; their key is made when there is none."""
        return cls(ensure_token(home / "keys" / KEY))

    def of(self, kind: str, value: str) -> str:
        """64 hexadecimal digits."""
        return hmac.new(self.key.encode(), f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()
