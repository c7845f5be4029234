"""Series of samples for alerts, made at random from a seed: what counters, gauges and histograms do, and what goes wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from workbench.observability.alerts.samples import Labels, Samples, Semantics, labels_of

STEP_MS = 60_000
STEPS = 40
STALE, GAP = "stale", "_"
PROMETHEUS_2 = Semantics(is_left_open=False, caps_first=True)  # of promtool in many distributions
Point = float | str


@dataclass(frozen=True)
class Series:
    """One series: a value a minute, `_` for none, `stale` for its end."""

    metric: str
    labels: Labels
    points: tuple[Point, ...]

    def as_promtool(self) -> dict[str, str]:
        labels = ",".join(f'{name}="{value}"' for name, value in self.labels)
        return {"series": f"{self.metric}{{{labels}}}", "values": " ".join(map(_text, self.points))}

    def add_to(self, samples: Samples) -> None:
        for number, each in enumerate(self.points):
            if each != GAP:
                samples.add(self.metric, self.labels, number * STEP_MS, None if each == STALE else float(each))


def _text(point: Point) -> str:
    if isinstance(point, str):
        return point
    return "NaN" if math.isnan(point) else repr(point) if point % 1 else str(int(point))


def made(seed: int) -> list[Series]:
    """The series of one scenario."""
    chance = random.Random(seed)
    kinds = (_errors, _latency, _gauges, _logins, _timestamps)
    return list(kinds[seed % len(kinds)](chance))


def _errors(chance: random.Random) -> Iterator[Series]:
    for table in ("raw.a", "raw.b")[: chance.randint(1, 2)]:
        labels = {"topic": "t", "table": table}
        rows = _counter(chance, lambda: chance.choice((0, 0, 10, 60, 600)))
        dead = _counter(chance, lambda: chance.choice((0, 0, 0, 1, 5, 40, 100)))
        yield _series("workbench_ingestion_rows_total", labels, _broken(chance, rows))
        yield _series("workbench_ingestion_dead_letters_total", labels, _broken(chance, dead))


def _latency(chance: random.Random) -> Iterator[Series]:
    bounds = (1, 10, 30, 60, 300)
    slow = _phases(chance)
    counts = dict.fromkeys((*bounds, math.inf), 0)
    columns: dict[float, list[Point]] = {bound: [] for bound in counts}
    for is_slow in slow:
        for _ in range(chance.choice((0, 3, 20))):
            age = chance.uniform(20, 400) if is_slow else chance.uniform(0, 35)
            for bound in counts:
                counts[bound] += age <= bound
        for bound, count in counts.items():
            columns[bound].append(float(count))
    gaps = {number for number in range(STEPS) if chance.random() < 0.05}
    for bound, column in columns.items():
        le = "+Inf" if bound == math.inf else f"{bound}.0"
        points = [GAP if number in gaps else each for number, each in enumerate(column)]
        labels = {"topic": "t", "table": "raw.a", "le": le}
        yield _series("workbench_ingestion_freshness_seconds_bucket", labels, points)


def _gauges(chance: random.Random) -> Iterator[Series]:
    for table in ("raw.a", "raw.b", "raw.c")[: chance.randint(1, 3)]:
        points: list[Point] = [
            float(chance.randint(5000, 20000) if bad else chance.randint(0, 1000)) for bad in _phases(chance)
        ]
        yield _series("workbench_ingestion_waiting_records", {"topic": "t", "table": table}, _broken(chance, points))
    free: list[Point] = [chance.choice((0.03, 0.099, 0.1, math.nan)) if bad else 0.5 for bad in _phases(chance)]
    yield _series("workbench_disk_free_ratio", {}, _broken(chance, free))
    for job in ("hub", "flow"):
        yield _series("up", {"job": job, "instance": "1"}, [float(not bad) for bad in _phases(chance)])


def _logins(chance: random.Random) -> Iterator[Series]:
    for action, outcome in (("login.failed", "failed"), ("login.refused", "refused"), ("login.succeeded", "success")):
        points = _counter(chance, lambda: chance.choice((0, 0, 0, 0, 1, 2, 5, 11)))
        yield _series(
            "workbench_security_events_total", {"action": action, "outcome": outcome}, _broken(chance, points)
        )


def _timestamps(chance: random.Random) -> Iterator[Series]:
    for pipeline in ("daily", "weekly"):
        at, points = 0.0, list[Point]()
        for number, is_late in enumerate(_phases(chance)):
            at = at if is_late else number * STEP_MS / 1000
            points.append(at)
        yield _series("workbench_run_success_timestamp_seconds", {"pipeline": pipeline}, _broken(chance, points))
    yield _series(
        "workbench_certificate_expiry_timestamp_seconds",
        {"certificate": "hub"},
        [float(chance.randint(0, 3000))] * STEPS,
    )
    yield _series(
        "workbench_queue_waiting_steps", {}, _broken(chance, [float(chance.randint(0, 40)) for _ in range(STEPS)])
    )


def _phases(chance: random.Random) -> list[bool]:
    """Good and bad times, of lengths about those of durations."""
    bad, found = chance.random() < 0.5, list[bool]()
    while len(found) < STEPS:
        found += [bad] * chance.choice((1, 2, 3, 4, 5, 6, 7, 12))
        bad = not bad
    return found[:STEPS]


def _counter(chance: random.Random, step) -> list[Point]:
    total, found = float(chance.choice((0, 0, 7, 1000))), list[Point]()
    for bad in _phases(chance):
        if chance.random() < 0.03:
            total = 0.0
        total += step() if bad else chance.choice((0, 10))
        found.append(total)
    return found


def _broken(chance: random.Random, points: list[Point]) -> list[Point]:
    """The same, with gaps, ends, a late beginning and values that are no numbers."""
    broken = list(points)
    if chance.random() < 0.3:
        late = chance.randint(1, 10)
        broken[:late] = [GAP] * late
    for number in range(len(broken)):
        draw = chance.random()
        if draw < 0.04:
            broken[number] = GAP
        elif draw < 0.05:
            broken[number] = STALE
    if chance.random() < 0.3:
        start = chance.randint(5, 30)
        length = chance.randint(2, 9)
        broken[start : start + length] = [
            chance.choice((GAP, STALE)),
            *[GAP] * (len(broken[start : start + length]) - 1),
        ]
    return broken


def _series(metric: str, labels: dict[str, str], points: list[Point]) -> Series:
    return Series(metric, labels_of(labels), tuple(points))
