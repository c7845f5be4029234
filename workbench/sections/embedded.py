"""How the embedded servers are provided."""

from __future__ import annotations

from workbench.sections.base import Section, variable


class EmbeddedSettings(Section):
    """How the embedded servers are provided."""

    jars_repository: str = variable(
        "WORKBENCH_EMBEDDED_JARS_REPOSITORY",
        "",
        "root of a Maven repository to fetch jars from; unset is Maven Central",
    )
