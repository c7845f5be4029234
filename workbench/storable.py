"""Which text can be stored: that of PostgreSQL has no NUL, and that of UTF-8 no half of a surrogate pair."""

from __future__ import annotations

import re

UNSTORABLE = "a character that cannot be stored: NUL, or half of a surrogate pair"  #: what other text has
_CHARACTERS = r"\u0000\ud800-\udfff"
_FOUND = re.compile(f"[{_CHARACTERS}]")
STORABLE = f"^[^{_CHARACTERS}]*$"  #: what such text fits, as JSON Schema has it


def is_storable(text: str) -> bool:
    """Whether it has no such character."""
    return _FOUND.search(text) is None
