from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from textwrap import dedent
from typing import get_args
from zoneinfo import ZoneInfo

import jsonschema
import nbformat
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.definition import Definition, Project, check_files, file_schema, find_pipeline, read_pipeline, run_scope
from pipelines.definition.document import parse_document, read_document
from pipelines.definition.rules import Cause, End, parse_seconds
from pipelines.definition.targets.notebook import read_notebook
from pipelines.definition.writing import AS_TARGET, write_document
from pipelines.parameters import REQUIRED, SecretReference, cell_source
from pipelines.states import State
from workbench.errors import DefinitionError, WorkbenchError
from workbench.resources import resource

PARAMETERS = "from datetime import date\n\nday: date = date(2013, 1, 1)  # of 2013\nlimit: float = 1.0\n"


def write_notebook(path: Path, *cells: str, kernel: str = "python3", parameters: str | None = PARAMETERS) -> Path:
    book = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": kernel, "display_name": kernel}} if kernel else {})
    if parameters is not None:
        book.cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    tags = {each: {"tags": ["loaded"]} if each.startswith("# checkpoint:") else {} for each in cells}
    book.cells += [nbformat.v4.new_code_cell(each, metadata=tags[each]) for each in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "pipelines" / "jobs").mkdir(parents=True)
    (tmp_path / "pipelines" / "flows").mkdir()
    (tmp_path / "pipelines" / "flows" / "flights.yaml").write_text("topic: flights\ninto: raw.flights\n")
    (tmp_path / "pipelines" / "alerts.yaml").write_text("channels:\n  team: {url: env:TEAM}\n")
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "clean.sql").write_text("DELETE FROM t WHERE day::date = :day AND name = :name")
    write_notebook(tmp_path / "n.ipynb", "%%sql\nSELECT 1", "# checkpoint: x\nx = await f()\n!ls")
    return Project((tmp_path,))


def write(project: Project, text: str, name: str = "x") -> Path:
    path = project.jobs / f"{name}.yaml"
    path.write_text(dedent(text).lstrip())
    return path


def problems(project: Project, text: str) -> list[tuple[int, str, str]]:
    checked = check_files([write(project, text)], project)
    assert not checked.pipelines
    return [(each.line, each.field, each.message) for each in checked.problems]


def test_every_shipped_pipeline_is_in_order():
    project = Project.installed()
    files = sorted(project.jobs.glob("*.yaml"))
    checked = check_files(files, project)

    assert checked.problems == ()
    assert len(checked.pipelines) == len(files) > 0
    for path in files:
        jsonschema.validate(yaml.safe_load(path.read_text()), file_schema())


def test_the_published_schema_is_that_of_the_code():
    published = json.loads((resource("pipelines") / "jobs" / "pipeline.schema.json").read_text())

    jsonschema.Draft202012Validator.check_schema(published)
    assert published == file_schema()


WHOLE = """
    description: all that there is
    owner: ann
    run_as: ann
    tags: [flights, daily]
    priority: 10
    parameters:
      day: date
      limit: {}
      name: {type: str, default: JFK, description: an airport}
      token: {type: secret, default: "env:TOKEN"}
    schedule:
      cron: 30 2 * * *
      zone: Europe/Berlin
      ambiguous: twice
      catch_up: {mode: all, at_most: 7}
      parameters: {day: "${run.day_before}"}
    triggers:
      - kafka: {topic: flights, records: 1000}
        parameters: {day: "${run.day}"}
      - file: {path: incoming/*.csv}
        parameters: {day: "${run.day}", name: "${trigger.event}"}
      - webhook: {secret: "file:/run/secrets/hook"}
        parameters: {day: 2013-01-31}
    concurrency: {runs: 2, over: skip}
    timeout: 2h
    steps:
      load: {flow: flights}
      clean:
        sql: sql/clean.sql
        after: [load]
        parameters: {day: "${day}", name: "${name}"}
      book:
        notebook: n.ipynb
        after: [clean]
        parameters: {limit: "${limit}", day: "${day}"}
        retries: {times: 3, wait: 10s, factor: 2, on: [kernel_died, failed]}
        cell_timeout: 1h30m
        checkpoints: [loaded]
        cache: true
        pool: heavy
    alerts: {to: [team], on: [failed, lost], late: 1h}
    retention: {runs: 10, days: 30}
    partitions: {by: day, from: 2013-01-01, until: 2013-12-31, parameter: day}
"""


def test_a_pipeline_has_its_steps_in_order_and_its_parameters_typed(project):
    pipeline = read_pipeline(write(project, WHOLE), project)

    assert list(pipeline.steps) == ["load", "clean", "book"]
    assert {each.name: each.kind.hint for each in pipeline.parameters} == {
        "day": "date", "limit": "float", "name": "str", "token": "secret",
    }  # fmt: skip
    assert {each.name: each.default for each in pipeline.parameters}["limit"] == 1.0  # of the notebook
    assert pipeline.definition.steps["book"].cell_timeout_seconds == 5400
    jsonschema.validate(read_document(project.jobs / "x.yaml").value, file_schema())


def test_values_go_to_steps_with_their_types(project):
    pipeline = read_pipeline(write(project, WHOLE), project)
    scope = run_scope(datetime(2013, 1, 31, 23, 30, tzinfo=UTC), ZoneInfo("Europe/Berlin"), "a.csv")

    assert (scope["run.day"], scope["run.day_before"]) == (date(2013, 2, 1), date(2013, 1, 31))
    run = pipeline.run_values(pipeline.definition.schedule.parameters, scope)
    assert run == {"day": date(2013, 1, 31), "limit": 1.0, "name": "JFK", "token": SecretReference("env", "TOKEN")}
    assert pipeline.run_values(pipeline.definition.triggers[1].parameters, scope)["name"] == "a.csv"
    book = pipeline.steps["book"]
    values = book.values({**scope, **run, "limit": 2})
    assert values == {"day": date(2013, 1, 31), "limit": 2.0}
    assert cell_source(book.parameters, values).endswith("day = _date(2013, 1, 31)\nlimit = 2.0")


def from_canonical(text: str) -> Definition:
    """The pipeline that a canonical form was made of: nothing of it is lost."""
    return Definition.model_validate(json.loads(text))


def test_the_canonical_form_does_not_depend_on_how_the_file_is_written(project):
    one = read_pipeline(write(project, WHOLE), project).definition
    rewritten = yaml.safe_dump(yaml.load(dedent(WHOLE), yaml.BaseLoader) | {"timeout": "120m"}, sort_keys=True)
    rewritten = rewritten.replace("'", "")
    other = read_pipeline(write(project, rewritten), project).definition

    assert one.canonical == other.canonical
    assert from_canonical(one.canonical) == one
    changed = read_pipeline(write(project, WHOLE.replace("times: 3", "times: 4")), project)
    assert changed.pins["definition"] == changed.definition.sha256 != one.sha256
    assert changed.pins["steps"].keys() == {"load", "clean", "book"}


def test_a_rule_for_retries_that_says_never_is_in_the_hash_however_it_is_written(project):
    none, one, other = (
        read_pipeline(
            write(project, f"steps: {{a: {{sql: sql/clean.sql, parameters: {{day: x, name: y}}{each}}}}}"), project
        )
        for each in ("", ", retries: {times: 0}", ", retries: {}")
    )

    assert one.definition.sha256 == other.definition.sha256 != none.definition.sha256
    read = from_canonical(one.definition.canonical).steps["a"]
    assert "retries" in read.model_fields_set
    assert read.retries.times == 0


def test_a_number_that_json_lacks_is_a_number_also_where_nobody_wrote_its_type(project):
    values = {"zero": "-0.0", "most": ".inf", "list": "[1.5, -.inf]", "text": '"-0.0"'}
    declared = "".join(f"  {name}: {{default: {value}}}\n" for name, value in values.items())
    step = "steps: {a: {sql: sql/clean.sql, parameters: {day: .inf, name: x}}}\n"

    pipeline = read_pipeline(write(project, f"parameters:\n{declared}{step}"), project)

    kinds = {each.name: (each.kind.hint, each.default) for each in pipeline.parameters}
    assert kinds["zero"] == ("float", 0.0)
    assert math.copysign(1, kinds["zero"][1]) < 0
    assert kinds["most"] == ("float", math.inf)
    assert kinds["list"] == ("list[float]", [1.5, -math.inf])
    assert kinds["text"] == ("str", "-0.0")
    assert pipeline.steps["a"].values({})["day"] == math.inf
    assert '"most":{"default":"inf"}' in pipeline.definition.canonical
    assert problems(project, f"parameters: {{x: {{type: str, default: .inf}}}}\n{step}")


def test_all_problems_of_a_file_are_told_at_once_with_their_lines(project):
    found = problems(
        project,
        """
        owne: ann
        parameters:
          token: {type: secret, default: hunter2}
          mont: integer
        schedule:
          cron: 0 0 30 2 *
          zone: Europe/Berln
        steps:
          a:
            notebook: missing.ipynb
            after: [c]
            retries: {on: [faild]}
          Bad Name: {flow: flights}
          b:
            sql: sql/clean.sql
            flow: flights
            timeout: 30
        """,
    )

    assert [(line, field) for line, field, _ in found] == [
        (1, "owne"),
        (3, "parameters.token"),
        (4, "parameters.mont.type"),
        (6, "schedule.cron"),
        (7, "schedule.zone"),
        (10, "steps.a.notebook"),
        (11, "steps.a.after[0]"),
        (12, "steps.a.retries.on[0]"),
        (13, "steps.Bad Name"),
        (14, "steps.b"),
        (17, "steps.b.timeout"),
    ]
    assert "did you mean owner?" in found[0][2]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("steps", "field", "part"),
    [
        ("a: {flow: flight}", "steps.a.flow", "did you mean flights?"),
        ("a: {flow: flights, after: [b]}, b: {flow: flights, after: [a]}", "steps.", "in a circle"),
        ("a: {flow: flights, after: [a]}", "steps.a.after", "a → a"),
        ("a: {sql: ../../etc/passwd}", "steps.a.sql", "no path within the project"),
        ("a: {sql: none.sql}", "steps.a.sql", "there is no file"),
        ("a: {sql: sql/clean.sql, parameters: {day: x}}", "steps.a", "needs the parameter name"),
        ("a: {sql: sql/clean.sql, parameters: {day: x, name: a, nam: b}}", "steps.a.parameters.nam", "did you mean name?"),
        ("a: {sql: sql/clean.sql, parameters: {day: x, name: '${key}'}}", "steps.a.parameters.name", "is a secret"),
        ("a: {function: 'nowhere.at_all:f'}", "steps.a.function", "there is no module nowhere.at_all"),
        ("a: {function: 'json.decoder:jo'}", "steps.a.function", "has no `def jo`"),
        ("a: {function: 'os.path:'}", "steps.a.function", "does not fit"),
        ("a: {flow: flights, checkpoints: [x]}", "steps.a", "are for notebooks"),
        ("a: {notebook: n.ipynb, checkpoints: [x]}", "steps.a.notebook", "tag or id 'x'"),
        ("a: {notebook: n.ipynb, checkpoints: [parameters]}", "steps.a.notebook", "n.ipynb, cell 1: a checkpoint says what it carries"),
        ("a: {notebook: n.ipynb, parameters: {dya: 2013-01-01}}", "steps.a.parameters.dya", "did you mean day?"),
        ("a: {notebook: n.ipynb, parameters: {day: 2013-02-30}}", "steps.a.parameters.day", "no date"),
        ("a: {notebook: n.ipynb, parameters: {day: '${count}'}}", "steps.a.parameters.day", "${count} is int, and the parameter takes date"),
        ("a: {notebook: n.ipynb, parameters: {limit: '${cuont}'}}", "steps.a.parameters.limit", "did you mean count?"),
        ("a: {notebook: n.ipynb, parameters: {limit: 'x${count}'}}", "steps.a.parameters.limit", "within a text"),
        ("a: {notebook: n.ipynb, timeout: 0s}", "steps.a.timeout", "no time at all"),
        ("a: {notebook: n.ipynb, retries: {times: -1}}", "steps.a.retries.times", "greater than or equal to 0"),
        ("a: {notebook: n.ipynb, cache: yes}", "steps.a.cache", "neither true nor false"),
        ("", "steps", "is empty"),
    ],
)  # fmt: skip
def test_a_step_that_could_not_run_is_refused(project, steps, field, part):
    found = problems(
        project,
        f"parameters: {{count: {{type: int, default: 1}}, key: {{type: secret, default: 'env:K'}}}}\nsteps: {{{steps}}}\n",
    )

    assert [each for each in found if each[1].startswith(field) and part in each[2]], found
    assert all(line == 2 for line, _, _ in found)


@pytest.mark.parametrize(
    ("cells", "more", "part"),
    [
        (("x = 1", "for x in y\n    pass"), {}, "cell 3, line 1: expected ':'"),
        ((), {"kernel": "sparkk"}, "wants the kernel 'sparkk'"),
        ((), {"kernel": ""}, "says no kernel"),
        ((), {"parameters": None}, "no cell tagged `parameters`"),
        (
            (),
            {"parameters": "day = date.today()"},
            "cell 1, line 1: the default of day: `date.today()` reads the clock",
        ),
        ((), {"parameters": "day = = 1"}, "cell 1, line 1"),
    ],
)
def test_a_notebook_that_could_not_run_is_refused(project, cells, more, part):
    write_notebook(project.roots[0] / "bad.ipynb", *cells, **more)
    found = problems(project, "steps:\n  a:\n    notebook: bad.ipynb\n    parameters: {day: 2013-01-01}\n")

    assert any(part in message and line == 3 for line, _, message in found), found


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "[",
            "\x00",
            "[" * 100_000,
            '{"nbformat": 3}',
            '{"nbformat": 4, "cells": 1}',
            '{"nbformat": 4, "cells": [1]}',
        ),
        '{"nbformat": 4, "cells": [], "metadata": []}',
    ],
)
def test_a_file_that_is_no_notebook_is_refused(project, text):
    (project.roots[0] / "bad.ipynb").write_text(text)

    assert "is no notebook" in problems(project, "steps: {a: {notebook: bad.ipynb}}")[0][2]


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("", 1, "no mapping"),
        ("- a", 1, "no mapping"),
        ("steps: [", 1, "expected the node content"),
        ("steps: {a: {flow: flights}}\nsteps: {}", 2, "stands twice"),
        ("steps: {a: {flow: flights}}\nschedule:\n  cron: */5 * * * *\n  zone: UTC", 3, "in quotes"),
        ("name: y\nsteps: {a: {flow: flights}}", 1, "name of its file"),
        ("steps: !!python/object:os.system {}", 1, "steps"),
        ("steps: {a: {flow: flights}}\nschedule: {cron: '* * * * *', zone: UTC, ambiguous: skip}", 2, "has a star"),
        ("steps: {a: {flow: flights}}\nparameters: {day: date}\nschedule: {cron: 0 0 * * *, zone: UTC}", 3, "day has no default"),
        ("steps: {a: {flow: flights}}\nparameters: {x: }", 2, "x has no type"),
        ("steps: {a: {flow: flights}}\nparameters: {x y: int}", 2, "no name of a parameter"),
        ("steps: {a: {flow: flights}}\ntriggers: [{}]", 2, "exactly one of kafka"),
        ("steps: {a: {flow: flights}}\ntriggers: [{kafka: {topic: a}}]", 2, "either records"),
        ("steps: {a: {flow: flights}}\ntriggers: [{webhook: {secret: hunter2}}]", 2, "what was given"),
        ("steps: {a: {flow: flights}}\nparameters: {m: int}\npartitions: {by: day, from: 2013-01-01, parameter: m}", 3, "m is int"),
        ("steps: {a: {flow: flights}}\npartitions: {by: day, from: 2013-01-02, until: 2013-01-01, parameter: m}", 2, "swap them"),
        ("steps: {a: {flow: flights}}\nparameters: {rate: {type: Decimal, default: 1.10}}", 2, "write it in quotes"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_has_its_line(project, text, line, part):
    found = problems(project, text)

    assert any(each[0] == line and part in f"{each[1]} {each[2]}" for each in found), found
    assert "hunter2" not in str(found)


UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # it takes minutes
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["${", "${x}", "${day}", "a.b:c", "n.ipynb", "[", "*", "int", "secret", "2013-01-01", "1h", "${run.day}"]
    ),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers() | st.none(), max_size=2),
)


def places(value: object, place: tuple = ()) -> Iterator[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*place, key)
        yield from places(each, (*place, key))


@settings(max_examples=40, deadline=None, phases=UNSHRUNK, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_file_holds_is_in_order_or_has_problems_with_lines(project, data):
    whole = yaml.safe_load(dedent(WHOLE))
    for _ in range(data.draw(st.integers(1, 3))):
        *around, last = data.draw(st.sampled_from(sorted(places(whole), key=str)))
        inner = whole
        for each in around:
            inner = inner[each]
        inner[last] = data.draw(JUNK)
    text = yaml.safe_dump(whole, allow_unicode=True)
    checked = check_files([write(project, text)], project)

    assert bool(checked.pipelines) != bool(checked.problems)
    assert all(1 <= each.line <= text.count("\n") + 1 and each.message for each in checked.problems)
    assert all(from_canonical(each.definition.canonical) == each.definition for each in checked.pipelines)


def test_an_alias_of_aliases_is_no_flood(project):
    bombs = "\n".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]" for n in range(1, 9))

    assert "more than" in problems(project, f"b0: &b0 [1]\n{bombs}\nsteps: {{}}")[0][2]


def write_module(project: Project, text: str) -> None:
    folder = project.roots[0] / "some_package"
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").write_text("raise RuntimeError('this was run')\n" if "trap" in text else "")
    (folder / "jobs.py").write_text(text)


def test_a_function_is_checked_by_its_source_and_nothing_of_it_is_run(project):
    write_module(
        project,
        "import trap\nfrom datetime import date\n"
        "def load(day: date, rows: int = 5, *, how='fast', connection=None, since=date.today()): ...\n",
    )
    given = "parameters: {day: 2013-01-31, rows: 6, connection: x}"
    pipeline = read_pipeline(write(project, f"steps: {{a: {{function: 'some_package.jobs:load', {given}}}}}"), project)

    assert pipeline.steps["a"].values({}) == {"day": date(2013, 1, 31), "rows": 6, "connection": "x"}
    assert pipeline.steps["a"].target.untyped == {"connection": False, "since": False}
    wrong = problems(project, "steps: {a: {function: 'some_package.jobs:load', parameters: {row: 1}}}")
    assert "did you mean rows?" in wrong[0][2]
    assert "needs the parameter day" in wrong[1][2]


@pytest.mark.parametrize(
    "text", ["def load(*rows): ...", "def load(rows, /): ...", "def load(**more): ...", "load = print", "def ("]
)
def test_a_function_that_takes_no_parameters_by_name_is_refused(project, text):
    write_module(project, text)

    assert problems(project, "steps: {a: {function: 'some_package.jobs:load'}}")[0][1] == "steps.a.function"


def test_a_module_that_cannot_be_imported_is_found_in_another_process(project):
    write_module(project, "import no_such_module\ndef load(): ...\n")
    trying = Project(project.roots, imports=True)

    (problem,) = problems(trying, "steps: {a: {function: 'some_package.jobs:load'}}")
    assert "ModuleNotFoundError: No module named 'no_such_module'" in problem[2]
    write_module(project, "print('noise')\ndef load(): ...\n")
    assert check_files([trying.jobs / "x.yaml"], trying).problems == ()


def test_what_refers_to_something_wrong_is_not_told_as_well(project):
    write_notebook(project.roots[0] / "bad.ipynb", parameters="day = date.today()\nlimit = 1.0", kernel="none")
    found = problems(
        project,
        """
        parameters:
          day: {type: dat}
          name: {type: int, default: x}
        schedule: {cron: 0 0 * * *, zone: UTC, parameters: {day: x}}
        steps:
          a: {notebook: bad.ipynb, parameters: {day: "${day}", limit: 2}}
          b: {sql: sql/clean.sql, parameters: {day: "${day}", name: "${name}"}}
        partitions: {by: day, from: 2013-01-01, parameter: day}
        """,
    )

    assert [(line, field) for line, field, _ in found] == [
        (2, "parameters.day.type"),
        (3, "parameters.name"),
        (6, "steps.a.notebook"),
        (6, "steps.a.notebook"),
    ]


def test_alerts_name_a_channel_that_is_there(project):
    found = problems(project, "steps: {a: {flow: flights}}\nalerts:\n  to: [team, taem]")

    assert [(line, field) for line, field, _ in found] == [(3, "alerts.to[1]")]
    assert "did you mean team" in found[0][2]


def test_a_run_can_be_slow_before_its_timeout_ends_it(project):
    text = "steps: {a: {flow: flights}}\ntimeout: 1h\nalerts:\n  to: [team]\n  slow: 60m"

    assert [(line, field) for line, field, _ in problems(project, text)] == [(5, "alerts.slow")]


def test_a_trigger_names_a_pipeline_that_is_there(project):
    twice = (
        "steps: {a: {flow: flights}}\ntriggers:\n- {table: {name: a.b}}\n- {table: {name: a.c}}\n- {table: {name: a.b}}"
    )
    assert [(line, field) for line, field, _ in problems(project, twice)] == [(5, "triggers[2]")]
    found = problems(project, "steps: {a: {flow: flights}}\ntriggers: [{pipeline: {name: nightly}}]")
    assert [(line, field) for line, field, _ in found] == [(2, "triggers[0].pipeline.name")]

    one = write(project, "steps: {a: {flow: flights}}\ntriggers: [{pipeline: {name: other}}]", "one")
    other = write(project, "steps: {a: {flow: flights}}\n\ntriggers: [{pipeline: {name: one}}]", "other")
    checked = check_files([one, other], project)
    assert checked.pipelines == ()
    assert "in a circle" in checked.problems[0].message


@pytest.mark.parametrize(
    ("rule", "kind", "first", "values"),
    [
        ("by: day, from: 2013-12-31, until: 2014-01-01", "date", "2013-12-31", [date(2013, 12, 31), date(2014, 1, 1)]),
        ("by: month, from: 2013-01-01, until: 2013-02-01", "date", "2013-01", [date(2013, 1, 1), date(2013, 2, 1)]),
        ("by: month, from: 2013-01-01, until: 2013-01-31", "partition[month]", "2013-01", ["2013-01"]),
        ("by: hour, from: 2013-01-01, until: 2013-01-01", "datetime", "2013-01-01T00+0000", [datetime(2013, 1, 1, hour, tzinfo=UTC) for hour in range(24)]),
        ("by: day, from: 2013-01-01, until: 2013-01-02", "str", "2013-01-01", ["2013-01-01", "2013-01-02"]),
    ],
)  # fmt: skip
def test_a_partition_is_given_to_its_parameter_with_its_type(project, rule, kind, first, values):
    text = f"steps: {{a: {{flow: flights}}}}\nparameters: {{p: '{kind}'}}\npartitions: {{{rule}, parameter: p}}"
    pipeline = read_pipeline(write(project, text), project)
    names = pipeline.definition.partitions.names()

    assert names[0] == first
    assert [pipeline.partition_values(each) for each in names] == [{"p": value} for value in values]


def test_the_hash_of_a_notebook_is_that_of_what_executes(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", "x = 1")
    before = read_notebook(path).sha256
    book = nbformat.read(path, as_version=4)
    book.cells[1].outputs = [nbformat.v4.new_output("stream", text="1")]
    book.cells[1].id = "other"
    book.cells.append(nbformat.v4.new_markdown_cell("text"))
    nbformat.write(book, path)
    assert read_notebook(path).sha256 == before

    book.cells[1].source = "x = 2"
    nbformat.write(book, path)
    assert read_notebook(path).sha256 != before


@pytest.mark.parametrize("tag", ["skip-execution", "raises-exception", "injected-parameters", "parameters"])
def test_tags_that_decide_how_a_cell_runs_are_in_the_hash_and_others_are_not(tmp_path, tag):
    path = write_notebook(tmp_path / "n.ipynb", "x = 1")
    book = nbformat.read(path, as_version=4)
    hashes = []
    for tags in ([], ["setup"], [tag]):
        book.cells[-1].metadata["tags"] = tags
        nbformat.write(book, path)
        hashes.append(read_notebook(path).sha256)

    assert hashes[0] == hashes[1] != hashes[2]


def test_the_words_of_ends_are_states():
    assert set(get_args(End)) == {each.value for each in State if each.is_end}
    assert set(get_args(Cause)) < set(get_args(End))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2d", 172_800), ("0.5s", 0.5)]
)
def test_a_duration_has_units(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "1m1h", "0s", 5, None])
def test_a_duration_without_a_unit_is_refused(text):
    with pytest.raises(ValueError, match=r"duration|no time"):
        parse_seconds(text)


def test_an_unknown_pipeline_lists_the_known(project):
    write(project, "steps: {a: {flow: flights}}", "nightly")

    with pytest.raises(WorkbenchError, match="did you mean nightly"):
        find_pipeline(project, "nightl")


@pytest.mark.parametrize("name", ["x" * 300, "../jobs/nightly", "", "a\0b"])
def test_a_name_that_is_no_file_of_the_folder_is_unknown(project, name):
    write(project, "steps: {a: {flow: flights}}", "nightly")

    with pytest.raises(WorkbenchError, match="there is no pipeline"):
        find_pipeline(project, name)


def test_reading_one_file_raises_all_that_is_wrong(project):
    with pytest.raises(DefinitionError) as caught:
        read_pipeline(write(project, "steps: {a: {flow: nothing}}\nowne: x"), project)

    assert len(caught.value.problems) == 2
    assert f"{project.jobs / 'x.yaml'}:1: steps.a.flow: " in str(caught.value)


def test_parameters_of_runs_without_a_default_stay_required(project):
    pipeline = read_pipeline(write(project, "parameters: {n: int}\nsteps: {a: {flow: flights}}"), project)

    assert pipeline.parameters[0].default is REQUIRED


# What YAML 1.1, YAML 1.2 or PyYAML's writer could take for something else.
ODD = (
    "1e5",
    "on",
    "1:30",
    "~",
    "",
    "null",
    "2013-01-01",
    "${a}",
    "*x",
    "-0.0",
    "a: b",
    "# x",
    "\x85",
    "\u2028",
    "\ufeff",
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.sampled_from(ODD)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(TEXTS, VALUES, min_size=1))
def test_what_is_written_is_read_as_it_was(fields):
    assert parse_document(Path("x.yaml"), write_document(fields, "a comment")).value == fields


def test_a_parameter_as_its_target_has_it_is_a_name_alone():
    assert write_document({"parameters": {"day": AS_TARGET}}) == "parameters:\n  day:\n"


def test_a_project_is_found_around_its_files_and_not_above_what_was_said(project, tmp_path):
    file = project.jobs / "x.yaml"

    assert Project.around(file) == Project((tmp_path,))
    assert Project.around(file, within=project.jobs) is None
    assert Project.around(Project.installed().jobs / "x.yaml") == Project.installed()
