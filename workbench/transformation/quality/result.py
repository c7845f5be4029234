"""What a check has found: a row for each expectation, for people, for metrics and for the table of results."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from workbench.errors import ExpectationFailed
from workbench.transformation.quality.expectations import KINDS, Freshness, Severity

if TYPE_CHECKING:
    import pandas as pd

STYLE = "text-align:left;padding:2px 12px 2px 0"
NUMBER = "text-align:right;padding:2px 12px 2px 0"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one expectation came to."""

    name: str
    kind: str
    columns: tuple[str, ...]
    severity: Severity
    checked: int  #: rows that it speaks of: with a value, unless it is about missing values or the whole table
    failed: int  #: rows that break it; 0 for what is about the whole table
    observed: float | None  #: share of `failed`; the number of rows for row_count; seconds for freshness
    passed: bool
    explanation: str = ""  #: in words, when it did not pass
    examples: tuple[Mapping[str, Any], ...] = ()  #: keys of rows that break it, for the severity stop


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one check of one table has found."""

    table: str
    at: datetime
    rows: int
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether every expectation was met."""
        return all(each.passed for each in self.outcomes)

    @property
    def broken(self) -> tuple[Outcome, ...]:
        """The expectations that were not met."""
        return tuple(each for each in self.outcomes if not each.passed)

    def counts(self) -> Mapping[tuple[str, str], int]:
        """How many expectations there are by severity and by `passed` or `failed`, zeros included: for metrics."""
        return {
            (severity.value, word): sum(each.severity == severity and each.passed == is_met for each in self.outcomes)
            for severity in Severity
            for word, is_met in (("passed", True), ("failed", False))
        }

    def records(self) -> list[dict[str, Any]]:
        """The outcomes as plain values, columns as one text; without examples."""
        names = [field.name for field in fields(Outcome) if field.name != "examples"]
        return [
            {name: getattr(each, name) for name in names}
            | {"columns": ", ".join(each.columns), "severity": str(each.severity)}
            for each in self.outcomes
        ]

    def to_pandas(self) -> pd.DataFrame:
        """A row for each expectation."""
        import pandas as pd

        names = [field.name for field in fields(Outcome) if field.name != "examples"]
        return pd.DataFrame(self.records(), columns=names)

    def raise_for_stop(self) -> None:
        """Go on only when every expectation of the severity `stop` was met.

        Raises:
            ExpectationFailed: naming each that was not, with the rows that fail and up to five of their keys.
        """
        stopping = [each for each in self.broken if each.severity == Severity.STOP]
        if stopping:
            raise ExpectationFailed(
                f"{self.table} does not meet {'; '.join(map(_sentence, stopping))}",
                remedy="Correct the rows or their source and check again; "
                "if the rows are right, change the expectation in pipelines/quality.",
            )

    def __str__(self) -> str:
        lines = [self._title()]
        for each in self.outcomes:
            word = "ok    " if each.passed else "FAILED"
            lines.append(f"  {word}  {each.name} ({each.severity}): {each.explanation or _calm(each)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th style="{STYLE}">{name}</th>' for name in ("", "expectation", "severity", "rows", "failed", "observed")
        )
        body = "".join(f"<tr>{_cells(each)}</tr>" for each in self.outcomes)
        return (
            f"<div><strong>{html.escape(self._title())}</strong>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _title(self) -> str:
        met = len(self.outcomes) - len(self.broken)
        return f"{self.table}: {met} of {len(self.outcomes)} expectations met by {self.rows:,} rows"


def _cells(outcome: Outcome) -> str:
    observed = "" if outcome.observed is None else f"{outcome.observed:,.6g}"
    name = outcome.name if outcome.passed else f"{outcome.name}: {outcome.explanation}"
    texts = ("✓" if outcome.passed else "✗", name, str(outcome.severity))
    numbers = (f"{outcome.checked:,}", f"{outcome.failed:,}", observed)
    return "".join(f'<td style="{STYLE}">{html.escape(text)}</td>' for text in texts) + "".join(
        f'<td style="{NUMBER}">{text}</td>' for text in numbers
    )


def _calm(outcome: Outcome) -> str:
    if KINDS[outcome.kind].counts_rows:
        return f"{outcome.failed:,} of {outcome.checked:,} rows fail"
    return f"{outcome.observed:,.6g}{' s old' if outcome.kind == Freshness.kind else ''}"


def _sentence(outcome: Outcome) -> str:
    keys = ", ".join(
        "(" + ", ".join(f"{name}={value}" for name, value in each.items()) + ")" for each in outcome.examples
    )
    return f"{outcome.name!r}: {outcome.explanation}" + (f", for example {keys}" if keys else "")
