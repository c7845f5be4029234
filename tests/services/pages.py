"""The pages of the documentation as what they consist of: fenced blocks, links, headings, words in code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from workbench.errors import SettingsError

ROOT = Path(__file__).parents[2]
RUN = "<!-- run -->"  #: stands before a block that the tests run
COMMENT = re.compile(r"(\s+#\s| {8,}(?=\S)).*$")  #: of a shell, or what a picture of text says beside a command
ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=\S*")
COMMAND = re.compile(r"^\s*(?:[A-Z][A-Z0-9_]*=\S+\s+)*(?:\S*/)?workbench(?=\s|$)(.*)$")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    language: str
    text: str
    is_run: bool

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def settings(self) -> dict[str, str]:
        """The assignments, when the block has nothing else but comments; else none."""
        lines = [line for line in self.text.splitlines() if line.strip() and not line.startswith("#")]
        if self.language or not all(ASSIGNMENT.fullmatch(line) for line in lines):
            return {}
        return dict(line.split("=", 1) for line in lines)


@cache
def pages() -> tuple[Path, ...]:
    """Every page for people: docs/, and the files of Markdown in the root and beside what they explain."""
    beside = [ROOT / "spark_conf" / "README.md", ROOT / "benchmarks" / "README.md"]
    built = ROOT / "docs" / "_build"
    docs = [each for each in (ROOT / "docs").rglob("*.md") if built not in each.parents]
    return tuple(sorted([*ROOT.glob("*.md"), *beside, *docs]))


@cache
def tokens(page: Path) -> tuple[Token, ...]:
    parser = MarkdownIt("commonmark").enable("table")
    return tuple(parser.parse(page.read_text(encoding="utf-8")))


def _flat(page: Path) -> Iterator[tuple[int, Token]]:
    """All tokens, those inside of paragraphs and cells too, each with its line."""
    line = 1
    for token in tokens(page):
        line = token.map[0] + 1 if token.map else line
        yield line, token
        for child in token.children or ():
            yield line, child


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks of these languages; `""` is a block without one."""
    found = []
    for page in pages():
        before = ""
        for token in tokens(page):
            if token.type == "fence":
                language = token.info.split()[0] if token.info.strip() else ""
                if language in languages and token.map:
                    found.append(Block(page, token.map[0] + 1, language, token.content, before == RUN))
            before = token.content.strip() if token.type == "html_block" else ""
    return found


def links() -> Iterator[tuple[str, Path, str]]:
    """Where each link or picture stands, its page, and its target."""
    for page in pages():
        for line, token in _flat(page):
            target = token.attrGet("href") or token.attrGet("src")
            if isinstance(target, str):
                yield f"{page.relative_to(ROOT)}:{line}", page, target


def code() -> Iterator[tuple[str, str]]:
    """Where each piece of code within a line stands, and the piece."""
    for page in pages():
        for line, token in _flat(page):
            if token.type == "code_inline":
                yield f"{page.relative_to(ROOT)}:{line}", token.content


def commands() -> Iterator[tuple[str, str]]:
    """Each line of a block that calls `workbench`, without comments and what a shell makes of it."""
    for block in blocks("", "sh", "bash", "console"):
        lines = block.text.replace("\\\n", " ").splitlines()
        for line in lines:
            for part in re.split(r"&&|\|(?!\|)|;", COMMENT.sub("", line.removeprefix("$ "))):
                if found := COMMAND.match(part):
                    yield block.where, re.sub(r"[<>]\s*\S+", "", found[1]).strip()


@cache
def anchors(page: Path) -> frozenset[str]:
    """What can stand behind `#` of a link to the page, as GitHub and MyST make it of headings."""
    found: list[str] = []
    headings = [(one, two) for one, two in zip(tokens(page), tokens(page)[1:], strict=False)]
    for opening, inline in headings:
        if opening.type == "heading_open" and opening.tag in ("h1", "h2", "h3"):
            text = "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            repeated = sum(1 for each in found if each == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", each))
            found.append(f"{slug}-{repeated}" if repeated else slug)
    return frozenset(found)


def faults(found: Iterator[str]) -> str:
    return "\n".join(found)


def problems_of(read: Callable[[], object]) -> tuple[str, ...]:
    try:
        read()
    except SettingsError as error:
        return tuple(error.problems)
    return ()
