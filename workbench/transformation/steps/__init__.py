"""Steps: plain functions from DataFrame to DataFrame, for `DataFrame.transform`.

Each takes the frame first and everything else by name, runs no query of its own, works on Spark
Connect and on classic PySpark, and says in one error what it cannot do. `docs/transformations.md`
has an example and the contract of each.

>>> frame.transform(dedupe, key=["order_id"], by="event_time")
"""

from workbench.errors import StepRefused
from workbench.transformation.steps.columns import conform
from workbench.transformation.steps.duplicates import dedupe, dedupe_stream
from workbench.transformation.steps.history import update_history
from workbench.transformation.steps.joins import enrich, join_as_of
from workbench.transformation.steps.masking import Hashed, LastCharacters, Removed, Truncated, mask, pseudonym
from workbench.transformation.steps.sessions import sessionize
from workbench.transformation.steps.windows import aggregate_sessions, aggregate_windows

__all__ = [
    "Hashed",
    "LastCharacters",
    "Removed",
    "StepRefused",
    "Truncated",
    "aggregate_sessions",
    "aggregate_windows",
    "conform",
    "dedupe",
    "dedupe_stream",
    "enrich",
    "join_as_of",
    "mask",
    "pseudonym",
    "sessionize",
    "update_history",
]
