"""From a file and values to a run as the store takes it, without a store."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.definition import Definition, Project, read_pipeline
from pipelines.parameters import Parameter, SecretReference, parse_hint
from pipelines.planning.bindings import read_bindings, write_bindings
from pipelines.planning.partitions import partition_runs
from pipelines.planning.pins import Pins, installed_hash, read_pins
from pipelines.planning.run_as import RunAsRule, run_as_problems
from pipelines.planning.runs import Plan, Start, partition_name
from pipelines.planning.unsupported import unsupported
from pipelines.states import State
from pipelines.store.records import Retries, Trigger
from workbench.errors import ParametersRefused, WorkbenchError
from workbench.settings import Settings

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
VALUES = {
    "int": st.integers(-(10**20), 10**20),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "str": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    "date": st.dates(),
    "Decimal": st.decimals(allow_nan=False, allow_infinity=False),
    "list[int | None]": st.lists(st.none() | st.integers(-9, 9)),
    "dict[str, float]": st.dictionaries(st.text("ab"), st.floats(allow_nan=False, allow_infinity=False)),
    "Literal['a', 'b']": st.sampled_from("ab"),
    "partition[month]": st.sampled_from(["2013-01", "2026-12"]),
    "secret": st.builds(SecretReference, st.just("env"), st.sampled_from(["TOKEN", "PASSWORD"])),
}


def plan(tmp_path, **fields) -> Plan:
    jobs = tmp_path / "pipelines" / "jobs"
    jobs.mkdir(parents=True, exist_ok=True)
    (tmp_path / "steps_of_plan.py").write_text("def tell(day: 'date', n: int = 1) -> None:\n    pass\n")
    fields = {"steps": {"a": {"function": "steps_of_plan:tell", "parameters": {"day": "${day}"}}}, **fields}
    (jobs / "p.yaml").write_text(yaml.safe_dump({"parameters": {"day": "date"}, **fields}))
    return Plan(read_pipeline(jobs / "p.yaml", Project((tmp_path,))), Pins("commit", "lock"))


def manual() -> Start:
    return Start(trigger=Trigger.MANUAL, instant=NOON, event_id="1")


@pytest.mark.parametrize("hint", VALUES)
@given(data=st.data())
def test_values_of_steps_survive_the_store(hint, data):
    value = data.draw(VALUES[hint])
    parameter = Parameter("x", parse_hint(hint))

    kept = json.loads(json.dumps(write_bindings([parameter], {"x": value})))

    assert read_bindings(kept).values == {"x": value}
    assert read_bindings(kept).parameters[0].kind == parameter.kind


def test_a_run_pins_what_it_is_made_of(tmp_path):
    run = plan(tmp_path, timeout="90s", priority=5).run(manual(), {"day": "2013-01-31"})

    assert run.parameters == {"run": {"day": "2013-01-31"}, "steps": {"a": {"day": ["date", "2013-01-31"]}}}
    assert (run.git_commit, run.lock_hash, run.timeout_seconds, run.priority) == ("commit", "lock", 90, 5)
    assert set(run.notebook_hashes) == {"a"}
    assert run.instant is None, "a run by hand is of no logical instant"


def test_a_run_of_the_schedule_has_the_day_of_its_zone(tmp_path):
    schedule = {"cron": "30 0 * * *", "zone": "Asia/Tokyo", "parameters": {"day": "${run.day_before}"}}
    instant = datetime(2026, 1, 31, 0, 30, tzinfo=ZoneInfo("Asia/Tokyo"))

    run = plan(tmp_path, schedule=schedule).by_schedule(instant.astimezone(UTC))

    assert run.parameters["run"] == {"day": "2026-01-30"}
    assert run.instant == instant


def test_values_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ParametersRefused, match="day"):
        plan(tmp_path).run(manual(), {"day": "31.1.2013"})


@pytest.mark.parametrize(
    ("rule", "limits"),
    [
        (None, {State.LOST: 2, State.INFRASTRUCTURE_ERROR: 2}),
        ({"times": 0}, {State.LOST: 0, State.INFRASTRUCTURE_ERROR: 0, State.KERNEL_DIED: 0}),
        ({"times": 3, "on": ["failed"]}, {State.FAILED: 3}),
    ],
    ids=["not said", "never", "after failures"],
)
def test_retries_are_those_of_the_file(tmp_path, rule, limits):
    step = {"function": "steps_of_plan:tell", "parameters": {"day": "${day}"}}
    made = plan(tmp_path, steps={"a": step if rule is None else {**step, "retries": rule}})

    (step,) = made.run(manual(), {"day": date(2013, 1, 1)}).steps

    assert isinstance(step.retries, Retries)
    assert step.retries.limits == limits


def test_a_backfill_has_a_run_for_each_partition_in_order(tmp_path):
    made = plan(tmp_path, partitions={"by": "day", "from": "2013-01-01", "until": "2013-03-01", "parameter": "day"})

    runs = partition_runs(made, since="2013-01-30", until="2013-02-01", given={}, requested_by="me")

    assert [each.partition for each in runs] == ["2013-01-30", "2013-01-31", "2013-02-01"]
    assert [each.parameters["steps"]["a"]["day"][1] for each in runs] == [each.partition for each in runs]
    assert len(partition_runs(made, given={}, requested_by="me")) == 60


def test_partitions_without_an_end_end_with_the_last_that_is_complete(tmp_path):
    made = plan(tmp_path, partitions={"by": "day", "from": "2026-01-01", "parameter": "day"})

    last = partition_runs(made, given={}, requested_by="me")[-1]

    assert date.fromisoformat(str(last.partition)) < datetime.now(UTC).date()


def test_a_pipeline_without_partitions_has_no_backfill(tmp_path):
    with pytest.raises(WorkbenchError, match="p has no partitions"):
        partition_runs(plan(tmp_path), given={}, requested_by="me")


def test_a_flow_as_somebody_who_only_reads_is_refused(tmp_path):
    pipeline = plan(tmp_path, run_as="somebody").pipeline
    assert not [*unsupported(pipeline)]
    steps = {"load": {"flow": "flights"}}
    definition = Definition.model_validate({"name": "p", "run_as": "somebody", "steps": steps})

    ((place, text, remedy),) = unsupported(replace(pipeline, definition=definition))

    assert (place, remedy) == ("run_as", "Leave run_as out, or give the flow a pipeline of its own.")
    assert "run_as is somebody, who only reads, but step load is a flow" in text


@pytest.mark.parametrize(
    ("pipeline", "identity", "rule", "told"),
    [
        ("p", "ann", RunAsRule(), "WORKBENCH_POLICIES_OWN_ROLES"),
        ("p", "ann", RunAsRule(own_roles=False, allowed=frozenset({("*", "ann")})), "WORKBENCH_POLICIES_OWN_ROLES"),
        ("p", "ann", RunAsRule(own_roles=True), "p=ann to WORKBENCH_PIPELINES_RUN_AS"),
        ("p", "ann", RunAsRule(own_roles=True, allowed=frozenset({("q", "ann"), ("p", "bob")})), "p=ann to"),
        ("p", "*", RunAsRule(own_roles=True, allowed=frozenset({("*", "ann")})), "p=* to"),
        ("p", "ann", RunAsRule(own_roles=True, dialect="redshift", allowed=frozenset({("*", "ann")})), "redshift"),
    ],
)
def test_nobody_runs_as_somebody_without_being_named(pipeline, identity, rule, told):
    with pytest.raises(WorkbenchError, match=f"{pipeline}: run_as is {re.escape(identity)}") as refused:
        rule.demand(pipeline, identity)

    assert told in f"{refused.value.message} {refused.value.remedy}"


@pytest.mark.parametrize("allowed", [("p", "ann"), ("*", "ann")])
def test_who_is_named_for_a_pipeline_or_for_all_may(allowed):
    RunAsRule(own_roles=True, allowed=frozenset({allowed})).demand("p", "ann")


def test_run_as_is_required_where_the_deployment_says_so(tmp_path, monkeypatch):
    found = plan(tmp_path).pipeline
    file = tmp_path / "pipelines" / "jobs" / "p.yaml"
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    assert not [*run_as_problems([found], [file])]

    monkeypatch.setenv("WORKBENCH_PIPELINES_REQUIRE_RUN_AS", "true")
    (problem,) = run_as_problems([found], [file])
    assert "it has no run_as, and would connect to the warehouse as DW_USER. Add run_as, or p to" in str(problem)
    rule = RunAsRule.of(Settings.load())
    with pytest.raises(WorkbenchError, match="p: it has no run_as"):
        rule.demand_some(found.definition)

    monkeypatch.setenv("WORKBENCH_PIPELINES_WITHOUT_RUN_AS", "load, p")
    assert not [*run_as_problems([found], [file])]
    rule = RunAsRule.of(Settings.load())
    rule.demand_some(found.definition)
    with pytest.raises(WorkbenchError, match="nobody has a role of their own"):
        rule.demand("p", "ann")


def test_check_names_who_may_not_with_the_file_and_a_remedy(tmp_path, monkeypatch):
    pipeline = plan(tmp_path, run_as="ann").pipeline
    file = tmp_path / "pipelines" / "jobs" / "p.yaml"
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WORKBENCH_POLICIES_OWN_ROLES", "true")
    (problem,) = run_as_problems([pipeline], [file])
    monkeypatch.setenv("WORKBENCH_PIPELINES_RUN_AS", "other=bob, p = ann")

    assert "run_as is ann, as whom p may not run. Add p=ann to WORKBENCH_PIPELINES_RUN_AS" in str(problem)
    assert str(problem).startswith(str(file))
    assert not [*run_as_problems([pipeline], [file])]


def test_the_lock_is_that_of_the_project_or_what_is_installed(tmp_path):
    without = read_pins(Project((tmp_path,)))
    (tmp_path / "requirements.lock").write_text("a==1\n")

    assert read_pins(Project((tmp_path,))).lock_hash != without.lock_hash
    assert without.git_commit is None


def test_a_package_that_says_nothing_readable_of_itself_counts_by_its_name(tmp_path, monkeypatch):
    odd = tmp_path / "site" / "old-1.0.dist-info"
    odd.mkdir(parents=True)
    (odd / "METADATA").write_bytes(b"Name: old\nVersion: 1.0\nAuthor: J\xf6rg\n")
    monkeypatch.syspath_prepend(str(odd.parent))
    before = installed_hash()

    odd.rename(odd.with_name("old-1.1.dist-info"))

    assert installed_hash() != before


def test_decimals_keep_their_digits():
    kept = write_bindings([Parameter("x", parse_hint("Decimal"))], {"x": Decimal("1.10")})

    assert kept == {"x": ["Decimal", "1.10"]}


def test_a_time_has_the_name_of_its_partition_in_the_zone_of_the_rule():
    instant = datetime(2013, 1, 1, 4, tzinfo=UTC)

    assert partition_name("hour", instant, ZoneInfo("America/New_York")) == "2012-12-31T23-0500"
