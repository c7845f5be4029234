"""The metrics that this process has declared, with a value or without."""

from __future__ import annotations

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from workbench.observability import metrics


def declared_metrics() -> dict[str, str]:
    """Kind by name, as they are documented. Not by what is collected: what was never set is not told."""
    assert metrics.INGESTED_ROWS
    ours = [each for each in REGISTRY._collector_to_names if isinstance(each, MetricWrapperBase)]
    return {
        f"{each._name}_total" if each._type == "counter" else each._name: each._type
        for each in ours
        if each._name.startswith("workbench_")
    }
