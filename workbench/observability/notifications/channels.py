"""Reads the section `channels` of pipelines/alerts.yaml; all that is wrong is told at once, each with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from workbench.errors import WorkbenchError
from workbench.references import HOW, REFERENCE

NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,48}[a-z0-9])?")
SECTIONS = ("channels", "alerts")  #: the latter are rules on metrics, read by who evaluates them


@dataclass(frozen=True)
class Channel:
    """Where messages go: `reference` is where the address is found, see `workbench.references`."""

    name: str
    reference: str


@dataclass(frozen=True)
class ChannelFault:
    """One thing that is wrong with the file."""

    line: int
    field: str
    message: str


@dataclass(frozen=True)
class Channels:
    """What the file declares, and what is wrong with it."""

    path: Path
    channels: Mapping[str, Channel]
    faults: tuple[ChannelFault, ...] = ()


def load_channels(path: Path) -> Channels:
    """The channels of a file without faults.

    Raises:
        WorkbenchError: with every fault.
    """
    found = read_channels(path)
    if found.faults:
        lines = "".join(f"\n  - {path}:{each.line}: {each.field}: {each.message}" for each in found.faults)
        raise WorkbenchError(f"channels are wrong:{lines}", remedy="Correct the file; docs/alerts.md has the format.")
    return found


def read_channels(path: Path) -> Channels:
    """The channels of a file; a file that is not there has none. No message shows a value: it may be a secret."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except FileNotFoundError:
        return Channels(path, {})
    except UnicodeDecodeError:
        return Channels(path, {}, (ChannelFault(1, "channels", "the file is no UTF-8; save it as such."),))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        return Channels(path, {}, (ChannelFault(line, "channels", "this is no YAML; correct it."),))
    faults: list[ChannelFault] = []
    channels: dict[str, Channel] = {}
    for section, node in _fields(root, "the file", faults):
        if section not in SECTIONS:
            text = f"there is no such section; known are {' and '.join(SECTIONS)}."
            faults.append(ChannelFault(_line(node), section, text))
        elif section == "channels":
            for name, fields in _fields(node, "channels", faults):
                _add(name, fields, channels, faults)
    return Channels(path, channels, tuple(faults))


def _add(name: str, node: yaml.Node, channels: dict[str, Channel], faults: list[ChannelFault]) -> None:
    place = f"channels.{name}"
    if not NAME.fullmatch(name):
        faults.append(ChannelFault(_line(node), place, "a name has small letters, digits, - and _."))
    if name in channels:
        faults.append(ChannelFault(_line(node), place, "is there twice; take one away."))
    urls = []
    for field, value in _fields(node, place, faults):
        if field != "url":
            faults.append(
                ChannelFault(_line(value), f"{place}.{field}", "there is no such field; a channel has a url.")
            )
        else:
            urls.append(value)
    if not urls:
        faults.append(ChannelFault(_line(node), place, f"has no url; write url: and one of {HOW}."))
    elif not isinstance(urls[0], yaml.ScalarNode) or not REFERENCE.fullmatch(urls[0].value):
        text = f"the value is no reference; write {HOW}, never the address itself."
        faults.append(ChannelFault(_line(urls[0]), f"{place}.url", text))
    else:
        channels[name] = Channel(name, urls[0].value)


def _fields(node: yaml.Node | None, place: str, faults: list[ChannelFault]) -> Iterator[tuple[str, yaml.Node]]:
    if node is None:
        return
    if not isinstance(node, yaml.MappingNode):
        faults.append(ChannelFault(_line(node), place, "is no mapping."))
        return
    for key, value in node.value:
        yield str(key.value) if isinstance(key, yaml.ScalarNode) else "?", value


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
