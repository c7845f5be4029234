"""The same pictures for Grafana, as dashboards that it provisions or imports.

Source: grafana.com, "Dashboard JSON model"; panels of type `timeseries`, `stat` and `gauge`. A dashboard that is
imported asks which Prometheus it is about: `${datasource}` is a variable of that kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from workbench.observability.dashboards.history import KEEP_DAYS
from workbench.observability.dashboards.objectives import OBJECTIVES, Objective
from workbench.observability.dashboards.pictures import PICTURES, Curve, Picture

SCHEMA = 39  #: of Grafana 11, which later ones read
COLUMNS, WIDTH, HEIGHT = 24, 12, 8  #: of Grafana's grid
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
Json = dict[str, Any]


def dashboards() -> dict[str, str]:
    """Each file of `deploy/grafana/` by its name."""
    found = {
        "workbench.json": _dashboard("workbench", "Workbench", "now-24h", map(_panel, range(len(PICTURES)), PICTURES)),
        "workbench-objectives.json": _dashboard(
            "workbench-objectives", "Workbench: objectives", f"now-{KEEP_DAYS}d", _objective_panels()
        ),
    }
    return {name: json.dumps(each, indent=2, ensure_ascii=False) + "\n" for name, each in found.items()}


def _dashboard(uid: str, title: str, since: str, panels: Iterable[Json]) -> Json:
    variable = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": uid,
        "title": title,
        "tags": ["workbench"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "timezone": "utc",
        "refresh": "1m",
        "time": {"from": since, "to": "now"},
        "templating": {"list": [variable]},
        "annotations": {"list": []},
        "panels": list(panels),
    }


def _panel(number: int, picture: Picture) -> Json:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": picture.title,
        "description": picture.empty,
        "datasource": DATASOURCE,
        "gridPos": _place(number),
        "fieldConfig": {
            "defaults": {"unit": picture.unit.value, "min": 0, "custom": {"spanNulls": False}},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "min", "max"]}},
        "targets": [_target(each, curve) for each, curve in enumerate(picture.curves)],
    }


def _target(number: int, curve: Curve) -> Json:
    target = {"refId": chr(ord("A") + number), "datasource": DATASOURCE, "expr": curve.expression.promql()}
    # Without one Grafana writes the labels, which is what a line is called here too.
    return {**target, "legendFormat": curve.legend} if curve.legend and "by (" not in target["expr"] else target


def _objective_panels() -> Iterable[Json]:
    for number, objective in enumerate(OBJECTIVES):
        share, left = _expressions(objective)
        for column, (title, expression) in enumerate(
            ((f"{objective.title}: {objective.good}", share), (f"{objective.title}: error budget left", left))
        ):
            yield _stat(2 * number + column, title, expression, objective.target if column == 0 else 0.0)


def _expressions(objective: Objective) -> tuple[str, str]:
    good, events = (
        f'sum (increase(workbench_objective_{name}_total{{objective="{objective.name}"}}[{KEEP_DAYS}d]))'
        for name in ("good", "events")
    )
    share = f"{good} / {events}"
    return share, f"1 - (1 - {share}) / {1 - objective.target:.4g}"


def _stat(number: int, title: str, expression: str, least: float) -> Json:
    steps = [{"color": "red", "value": None}, {"color": "green", "value": least}]
    return {
        "id": number + 1,
        "type": "stat",
        "title": title,
        "datasource": DATASOURCE,
        "gridPos": _place(number),
        "fieldConfig": {
            "defaults": {"unit": "percentunit", "decimals": 3, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}},
        "targets": [{"refId": "A", "datasource": DATASOURCE, "expr": expression, "instant": True}],
    }


def _place(number: int) -> Json:
    row, column = divmod(number, COLUMNS // WIDTH)
    return {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT}
