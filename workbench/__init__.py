"""The analytics workbench: Kafka to a SQL warehouse exactly once, Spark in every notebook.

Importing this package loads none of the drivers; each name below brings its own when it
is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.embedded.own_spark import spark
    from workbench.errors import WorkbenchError
    from workbench.notebook import decrypt, ingest, load_table, produce, save_table, sql
    from workbench.settings import Settings

__version__ = "0.1.0"

_HOMES = {
    "Settings": "workbench.settings",
    "WorkbenchError": "workbench.errors",
    "decrypt": "workbench.notebook",
    "ingest": "workbench.notebook",
    "load_table": "workbench.notebook",
    "produce": "workbench.notebook",
    "save_table": "workbench.notebook",
    "spark": "workbench.embedded.own_spark",
    "sql": "workbench.notebook",
}

__all__ = [
    "Settings",
    "WorkbenchError",
    "__version__",
    "decrypt",
    "ingest",
    "load_table",
    "produce",
    "save_table",
    "spark",
    "sql",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
