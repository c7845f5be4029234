"""What the pages show is so: Python that compiles and calls what is there as it wants to be called, files that load."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.definition.document import read_document
from pipelines.definition.files import _definition
from pipelines.service.openapi import openapi
from tests.services.pages import ROOT, Block, blocks, faults, problems_of
from workbench.cli.main import make_application
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import make_flow
from workbench.ingestion.topics import read_topics
from workbench.observability.alerts.rules import load_rules
from workbench.observability.notifications import load_channels
from workbench.resolving import References
from workbench.security.policies.reading import read_policies
from workbench.transformation.quality.declarations import make_declaration

OURS = ("workbench", "pipelines", "hub")


# Python


def resolved(module: str, name: str) -> object:
    """What `from module import name` gives.

    Raises:
        AttributeError, ModuleNotFoundError: when there is nothing.
    """
    home = importlib.import_module(module)
    try:
        return getattr(home, name)
    except AttributeError:
        return importlib.import_module(f"{module}.{name}")


def names_of(tree: ast.AST, where: str) -> Iterator[tuple[str, object]]:
    """What the block's imports of ours bind; whatever is not there is an assertion."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            for alias in node.names:
                try:
                    yield alias.asname or alias.name, resolved(node.module, alias.name)
                except (AttributeError, ModuleNotFoundError):
                    pytest.fail(f"{where}: {node.module} has no {alias.name}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in OURS:
                    yield alias.name.split(".")[0], importlib.import_module(alias.name)


def called(node: ast.expr, names: dict[str, object]) -> object:
    """The object that a chain of names leads to; None where that is not known."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        home = called(node.value, names)
        return getattr(home, node.attr) if inspect.ismodule(home) or inspect.isclass(home) else None
    return None


def call_faults(block: Block, tree: ast.AST, names: dict[str, object]) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        try:
            function = called(node.func, names)
        except AttributeError as error:
            yield f"{block.where}: {error}"
            continue
        starred = any(isinstance(each, ast.Starred) for each in node.args)
        if not callable(function) or starred or any(keyword.arg is None for keyword in node.keywords):
            continue
        try:
            inspect.signature(function).bind(*node.args, **{str(each.arg): each.value for each in node.keywords})
        except TypeError as error:
            yield f"{block.where}: {ast.unparse(node.func)}: {error}"


def python_faults() -> Iterator[str]:
    known: dict[Path, dict[str, object]] = {}
    for block in blocks("python"):
        # The pages of notebooks go on from block to block, and begin with `import workbench`.
        names = known.setdefault(block.page, {"workbench": importlib.import_module("workbench")})
        try:
            tree = compile(block.text, block.where, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            yield f"{block.where}: {error}"
            continue
        names.update(names_of(tree, block.where))
        yield from call_faults(block, tree, names)


@pytest.mark.parametrize(
    "text",
    [
        "workbench.load_tables('raw.flights')",
        "workbench.load_table('raw.flights', colums=['a'])",
        "workbench.produce()",
    ],
)
def test_a_call_that_does_not_fit_is_found(text: str):
    block = Block(ROOT / "README.md", 1, "python", text, is_run=False)
    assert list(call_faults(block, ast.parse(text), {"workbench": importlib.import_module("workbench")}))


def test_python_compiles_and_calls_what_is_there_as_it_wants_to_be_called():
    assert faults(python_faults()) == ""


@pytest.mark.parametrize("block", [block for block in blocks("python") if block.is_run], ids=lambda block: block.where)
def test_blocks_that_say_so_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    assert CliRunner().invoke(make_application(), ["keys", "init"]).exit_code == 0
    exec(compile(block.text, block.where, "exec"), {"__name__": "page"})


# Files


def of_pipelines(fields: dict[str, Any], path: Path) -> None:
    # Not what PyYAML has read: to our files `on` is a word.
    shown = read_document(path).value
    definition, problems = _definition({"name": path.stem, "steps": {"a": {"flow": "flights"}}, **shown})
    assert definition
    assert problems == []


def of_clusters(fields: dict[str, Any], path: Path) -> None:
    environment = {"BILLING_KAFKA_PASSWORD": "x"}
    for name in fields["clusters"]:
        problems = problems_of(functools.partial(KafkaConnection.named, name, path, references=References(environment)))
        # The files of the example are not there; nothing else may be wrong.
        assert [each for each in problems if not re.search(r"no file|not be read|No such file", each)] == []


def of_topics(fields: dict[str, Any], path: Path) -> None:
    for each in fields["topics"].values():
        if schema := (each or {}).get("schema"):
            file = path.parent / schema["file"]
            file.parent.mkdir(exist_ok=True)
            file.write_text('"string"', encoding="utf-8")
    assert len(read_topics(path)) == len(fields["topics"])


def of_alerts(fields: dict[str, Any], path: Path) -> None:
    # The page shows the two halves of one file.
    page = "\n".join(each.text for each in blocks("yaml") if each.page.name == "alerts.md")
    path.write_text(page, encoding="utf-8")
    assert load_rules(path)
    assert load_channels(path).channels


def of_data(fields: dict[str, Any], path: Path) -> None:
    path.write_text(yaml.safe_dump({"version": 1, "roles": {}, **fields}))
    read_policies(path)


CHECKERS: dict[str, Callable[[dict[str, Any], Path], object]] = {
    "steps of a pipeline": of_pipelines,
    "flow": lambda fields, path: make_flow("example", fields),
    "policies": lambda fields, path: read_policies(path),
    "data": of_data,
    "topics": of_topics,
    "clusters": of_clusters,
    "quality": lambda fields, path: make_declaration(fields),
    "alerts": of_alerts,
    "prometheus": lambda fields, path: fields["scrape_configs"],
}


def kind_of(fields: dict[str, Any]) -> str:
    """Which file it is, by the fields that only such files have."""
    # Pipelines have `alerts` too, and flows have `steps`.
    marks = {
        "topics": "topics", "clusters": "clusters", "expectations": "quality", "roles": "policies", "data": "data",
        "scrape_configs": "prometheus", "topic": "flow", "steps": "steps of a pipeline",
        "triggers": "steps of a pipeline", "alerts": "alerts", "channels": "alerts",
    }  # fmt: skip
    return next((kind for mark, kind in marks.items() if mark in fields), "")


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.where)
def test_files_of_yaml_are_read_by_what_reads_them(block: Block, tmp_path: Path):
    fields = yaml.safe_load(block.text)
    kind = kind_of(fields)
    assert kind, f"{block.where}: nobody knows which file this is; tell kind_of"
    path = tmp_path / "example.yaml"
    path.write_text(block.text, encoding="utf-8")
    CHECKERS[kind](fields, path)


# Reference

# Values that files are made of, for other packages of ours.
INTERNAL = {"pipelines.definition.document", "pipelines.definition.targets", "workbench.sections"}


def test_packages_that_say_what_is_public_are_in_the_reference():
    files = [file for package in OURS for file in (ROOT / package).rglob("*.py")]
    public = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in files
        if "\n__all__ = " in file.read_text(encoding="utf-8")
    }
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))

    assert public - set(re.findall(r"automodule:: (\S+)", pages)) == INTERNAL


def extension(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "extensions" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_api_has_every_operation_with_its_values():
    document = openapi("/services/pipelines/")
    page = extension("openapi_page").page(document)

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            section = page.split(f"\n## {method.upper()} {path}\n")[1].split("\n## ")[0]
            assert operation["summary"] in section
            assert all(f"| `{each['name']}` |" in section for each in operation["parameters"])


def test_a_picture_has_its_boxes_and_its_words():
    text = "boxes:\n  a: {at: [0, 0], text: Ada & Co}\n  b: {at: [1, 1], text: b, under: below}\narrows:\n  - {from: a, to: b, text: asks}"
    svg = ET.fromstring(extension("diagram").draw(text, 'of "two"'))

    words = [each.text for each in svg.iter("text")]
    assert words == ["asks", "Ada & Co", "b", "below"]
    assert len(list(svg.iter("rect"))) == 2
    assert svg.get("aria-label") == 'of "two"'
