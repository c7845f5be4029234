"""What the pages show is so: Python that compiles and calls what is there, files that load, commands that parse, links that lead somewhere."""

from __future__ import annotations

import ast
import enum
import functools
import importlib
import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
import yaml
from typer.testing import CliRunner

from pipelines.definition.files import _definition
from tests.services.pages import ROOT, Block, anchors, blocks, code, commands, links, pages
from workbench.cli.main import make_application
from workbench.errors import SettingsError
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import make_flow
from workbench.ingestion.topics import read_topics
from workbench.observability.alerts.rules import load_rules
from workbench.observability.notifications import load_channels
from workbench.sections import ALERTS, variables
from workbench.security.policies.reading import read_policies
from workbench.settings import Settings
from workbench.transformation.quality.declarations import make_declaration

OURS = ("workbench", "pipelines", "hub")
USAGE_ERROR: Any = typer.BadParameter.__base__


def faults(found: Iterator[str]) -> str:
    return "\n".join(found)


def problems_of(read: Callable[[], object]) -> tuple[str, ...]:
    try:
        read()
    except SettingsError as error:
        return tuple(error.problems)
    return ()


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
    definition, problems = _definition({"name": path.stem, "steps": {"a": {"flow": "flights"}}, **fields})
    assert definition is not None, problems


def of_clusters(fields: dict[str, Any], path: Path) -> None:
    environment = {"BILLING_KAFKA_PASSWORD": "x"}
    for name in fields["clusters"]:
        problems = problems_of(functools.partial(KafkaConnection.named, name, path, environment=environment))
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


CHECKERS: dict[str, Callable[[dict[str, Any], Path], object]] = {
    "steps of a pipeline": of_pipelines,
    "flow": lambda fields, path: make_flow("example", fields),
    "policies": lambda fields, path: read_policies(path),
    "topics": of_topics,
    "clusters": of_clusters,
    "quality": lambda fields, path: make_declaration(fields),
    "alerts": of_alerts,
    "prometheus": lambda fields, path: fields["scrape_configs"],
}


def kind_of(fields: dict[str, Any]) -> str:
    """Which file it is, by the fields that only such files have."""
    marks = {
        "topics": "topics", "clusters": "clusters", "expectations": "quality", "roles": "policies", "alerts": "alerts",
        "channels": "alerts", "scrape_configs": "prometheus", "topic": "flow", "steps": "steps of a pipeline",
        "triggers": "steps of a pipeline",
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


# Commands


@functools.cache
def tree() -> Any:
    return typer.main.get_command(make_application())


def command_of(words: list[str]) -> tuple[Any, list[str], str]:
    """The command, what is left for it, and its name."""
    command, path = tree(), "workbench"
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command, path = command.commands[words[0]], f"{path} {words[0]}"
        words = words[1:]
    return command, words, path


def choices_of(parameter: Any) -> tuple[object, ...]:
    """The words that a parameter takes, where they are few."""
    annotation = parameter.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return tuple(each.value for each in annotation)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def call_of(command: Any, words: list[str], path: str) -> Iterator[str]:
    """What is wrong with a call of a command, which is parsed and not run."""
    try:
        values, left, _ = command.make_parser(command.context_class(command, info_name=path)).parse_args(list(words))
    except USAGE_ERROR as error:
        yield error.format_message()
        return
    missing = [each.name for each in command.params if each.required and values.get(each.name) in (None, ())]
    if left or missing:
        yield f"left over {left}, missing {missing}"
    for each in command.params:
        if (given := values.get(each.name)) and (known := choices_of(each)) and given not in known:
            yield f"{each.name} is {given}, not one of {known}"


def command_faults() -> Iterator[str]:
    for where, line in commands():
        command, rest, path = command_of(shlex.split(line))
        is_option = bool(rest) and rest[0].startswith("-")
        if hasattr(command, "commands") and not is_option and (rest or not command.invoke_without_command):
            yield f"{where}: {path} has no command {' '.join(rest) or '(none given)'}"
        else:
            yield from (f"{where}: {path} {' '.join(rest)}: {fault}" for fault in call_of(command, rest, path))


def test_commands_in_blocks_are_commands_with_their_options():
    assert faults(command_faults()) == ""


def mention_faults() -> Iterator[str]:
    for where, text in code():
        if not re.match(r"workbench [a-z]", text):
            continue
        words = text.replace("…", " ").split()[1:]
        command, rest, path = command_of(words)
        if hasattr(command, "commands") and rest and re.fullmatch(r"[a-z][a-z-]*", rest[0]):
            yield f"{where}: {path} has no command {rest[0]}"
        options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        for word in rest:
            if word.startswith("--") and word.split("=")[0] not in {*options, "--help"}:
                yield f"{where}: {path} has no {word}"


def test_commands_in_sentences_are_commands_with_their_options():
    assert faults(mention_faults()) == ""


# Settings

# Of the tests, of the processes that the workbench starts, and of the image of pods.
OTHER_VARIABLES = {"WORKBENCH_HOME"}
NAMES = re.compile(r"\b(?:WORKBENCH|DW|KAFKA|SPARK|OAUTH2|GOOGLE|GITHUB)_[A-Z0-9_]+\b_?")
OTHER_PROGRAMS = {"SPARK_LOCAL_IP"}  #: Spark's own, for its masters and workers


def setting_faults() -> Iterator[str]:
    known = {*variables(), *OTHER_VARIABLES, *OTHER_PROGRAMS}
    for page in pages():
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            for name in NAMES.findall(line):
                is_prefix = name.endswith("_") and any(each.startswith(name) for each in known)
                if name not in known and not is_prefix and not name.startswith(ALERTS):
                    yield f"{page.relative_to(ROOT)}:{number}: there is no setting {name}"


def test_settings_that_pages_name_exist():
    assert faults(setting_faults()) == ""


# What a part of a .env cannot have by itself: files of another machine, and the settings that stand in another block.
PARTIAL = re.compile(r"there is no file|is not set|no identity provider is configured|nothing can read them")


@pytest.mark.parametrize("block", [each for each in blocks("") if each.settings], ids=lambda block: block.where)
def test_settings_in_blocks_have_values_that_fit(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    file = tmp_path / ".env"
    file.write_text("\n".join(f"{name}={value}" for name, value in block.settings.items()), encoding="utf-8")
    problems = problems_of(functools.partial(Settings.load, env_file=file))
    assert [each for each in problems if not PARTIAL.search(each)] == []


# Links


def link_faults() -> Iterator[str]:
    for where, page, target in links():
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        if not aim.exists():
            yield f"{where}: {target}: there is no such file"
        elif anchor and aim.suffix == ".md" and anchor not in anchors(aim):
            yield f"{where}: {target}: there is no such heading"


def test_links_lead_to_files_and_headings():
    assert faults(link_faults()) == ""


PATHS = re.compile(
    r"(?:workbench|hub|pipelines|tests|deploy|docs|notebooks|spark_conf|benchmarks)/[\w./-]+\.(?:py|md|ya?ml|ipynb|conf|service|lock)"
)
# What readers write themselves, and a folder below WORKBENCH_HOME.
EXAMPLES = re.compile(r"pipelines/(clusters|flows/(readings|sales-by-minute)|.*NAME)\.yaml|pipelines/17/.*")


def path_faults() -> Iterator[str]:
    for where, text in code():
        found = re.fullmatch(r"(unit|integration|contracts|failover|security|e2e)/(\w+)", text)
        file = f"tests/{text}.py" if found else text
        is_named = found or (PATHS.fullmatch(text) and not EXAMPLES.fullmatch(text))
        # A page of the architecture names modules below the package that it speaks of.
        if is_named and not any((ROOT / below / file).exists() for below in ("", "workbench", "pipelines")):
            yield f"{where}: there is no {file}"


def test_files_that_pages_name_are_there():
    assert faults(path_faults()) == ""
