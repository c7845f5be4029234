"""Names of columns as Spark reads them."""

from __future__ import annotations


def quoted(name: str) -> str:
    """*name* for SQL, and for functions of Spark that would read a dot in it as a path."""
    return "`" + name.replace("`", "``") + "`"
