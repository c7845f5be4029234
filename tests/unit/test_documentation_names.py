"""What the pages name is there: commands with their options, settings, links, files."""

from __future__ import annotations

import enum
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tests.services.pages import ROOT, Block, anchors, blocks, code, commands, faults, links, pages, problems_of
from workbench.cli.main import make_application
from workbench.sections import ALERTS, variables
from workbench.settings import Settings

USAGE_ERROR: Any = typer.BadParameter.__base__


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


def fits(parameter: Any, given: str) -> bool:
    """Whether a word can be the value of a parameter, as far as its type says."""
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return given in {each.value for each in kind}
    if kind in {int, float}:
        # Sentences and examples have placeholders, in capitals.
        return given.isupper() or re.fullmatch(r"-?\d+(\.\d+)?", given) is not None
    return True


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
        given = values.get(each.name)
        if isinstance(given, str) and not fits(each, given):
            yield f"{each.name} is not {given}"


def command_faults() -> Iterator[str]:
    for where, line in commands():
        command, rest, path = command_of(shlex.split(line))
        is_option = bool(rest) and rest[0].startswith("-")
        if hasattr(command, "commands") and not is_option and (rest or not command.invoke_without_command):
            yield f"{where}: {path} has no command {' '.join(rest) or '(none given)'}"
        else:
            yield from (f"{where}: {path} {' '.join(rest)}: {fault}" for fault in call_of(command, rest, path))


@pytest.mark.parametrize(
    "line",
    [
        "ingest run",
        "ingest run flights --nope",
        "verify a b c",
        "audit export FILE --format xml",
        "pipelines show seventeen",
        "alerts test --file",
    ],
)
def test_a_call_of_a_command_that_does_not_fit_is_found(line: str):
    assert list(call_of(*command_of(line.split())))


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


def undocumented(command: Any, path: list[str], text: str) -> Iterator[str]:
    """Commands, and options of commands, that the text of their section does not have."""
    if command.hidden:
        return
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            yield from undocumented(each, [*path, name], text)
        return
    section = re.search(rf"^## workbench {path[0]}$.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if section is None or not re.search(rf"`(\w+ )?{path[-1]}\b|workbench {' '.join(path)}\b", section[0]):
        yield " ".join(path)
        return
    for each in command.params:
        names = [name for name in (*each.opts, *each.secondary_opts) if name.startswith("-")]
        is_shown = any(re.search(rf"{name}(?![\w-])", section[0]) for name in names)
        if names and not each.hidden and not is_shown:
            yield f"{' '.join(path)} {names[0]}"


def test_every_command_and_option_is_in_the_page_of_commands():
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert list(undocumented(tree(), [], text)) == []


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
    in_file = {name: value for name, value in block.settings.items() if not name.startswith(ALERTS)}
    file = tmp_path / ".env"
    file.write_text("\n".join(f"{name}={value}" for name, value in in_file.items()), encoding="utf-8")
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


def test_boxes_of_pictures_are_parts_of_the_code():
    boxes = [
        (f"{block.where} {name}", ROOT / fields["code"])
        for block in blocks("{diagram}")
        for name, fields in yaml.safe_load(block.text)["boxes"].items()
        if "code" in fields or "elsewhere" not in fields
    ]
    assert boxes
    assert [where for where, path in boxes if not path.exists()] == []
