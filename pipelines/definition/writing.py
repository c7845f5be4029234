"""Writes the text of a definition, which `document` reads as the same values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import yaml

from pipelines.definition.document import RESOLVERS, matching

LONG_LINE = 120
# Ends of lines for YAML 1.1, which PyYAML writes as such in any other style; in double quotes it escapes them.
ODD = re.compile("[\x85\u2028\u2029\ufeff]")


class AsTarget:
    """The type and the default of a parameter are those of what it is given to: nothing stands behind its name."""


AS_TARGET: Final = AsTarget()


def write_document(fields: Mapping[str, Any], comment: str = "") -> str:
    """YAML of *fields*, in their order, below a line of *comment* when there is one.

    Args:
        fields: values of JSON, and AS_TARGET.
        comment: without the `#`; one line.
    """
    text = yaml.dump(
        dict(fields), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=LONG_LINE, default_flow_style=False
    )
    return f"# {comment}\n{text}" if comment else str(text)


class _Dumper(yaml.SafeDumper):
    """Quotes each text that is something else without quotes: here, or for a reader of YAML 1.1."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = dict(yaml.SafeDumper.yaml_implicit_resolvers)  # type: ignore[misc]

    def ignore_aliases(self, data: Any) -> bool:
        """Write what comes twice twice: that is how people read it."""
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    if ODD.search(text):
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
    return dumper.represent_str(text)


for _tag, _pattern, _first in RESOLVERS:
    _Dumper.add_implicit_resolver(_tag, matching(_pattern), _first)
_Dumper.add_representer(str, _text)
_Dumper.add_representer(AsTarget, lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", ""))
