"""docs/metrics.md and docs/alerts.md have exactly what the code has."""

from __future__ import annotations

import re

from tests.services.declared_metrics import declared_metrics
from workbench.observability.alerts.quantities import QUANTITIES
from workbench.resources import resource

DOCS = resource("docs")
ROW = re.compile(r"^\| `(workbench_[a-z_]+)` \| (\w+) \|", re.MULTILINE)


def test_every_metric_is_documented_with_its_kind_and_nothing_else_is():
    assert dict(ROW.findall((DOCS / "metrics.md").read_text(encoding="utf-8"))) == declared_metrics()


def test_every_quantity_is_documented_as_it_means():
    text = (DOCS / "alerts.md").read_text(encoding="utf-8")
    for each in QUANTITIES.values():
        labels = ", ".join(f"`{label}`" for label in each.by)
        assert f"| `{each.name}`{' ¹' if each.is_count else ''} | {labels} | {each.meaning} |" in text
    assert len(
        re.findall(
            r"^\| `[a-z_]+`( ¹)? \| (`|\|| \|)", text.partition("### Quantities")[2].partition("###")[0], re.MULTILINE
        )
    ) == len(QUANTITIES)
