"""The directive `openapi`: a section for each address of the API of pipelines, made of the application when pages are built.

The document itself is written beside the page, as `openapi.json`.
"""

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pipelines.service.openapi import openapi

PREFIX = "/services/pipelines/"


def _type(schema: dict[str, Any]) -> str:
    """In words what a value has to be."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    words = [str(schema.get("type", "any"))]
    words += [f"{name} {schema[key]}" for name, key in (("from", "minimum"), ("to", "maximum")) if key in schema]
    if "maxLength" in schema:
        words.append(f"up to {schema['maxLength']} characters")
    return " ".join(words)


def _row(name: str, where: str, schema: dict[str, Any], *, required: bool, text: str) -> str:
    cells = (f"`{name}`", where, _type(schema), "yes" if required else "", text)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _values(operation: dict[str, Any]) -> list[str]:
    rows = [
        _row(each["name"], each["in"], each["schema"], required=each.get("required", False),
             text=each.get("description") or each["schema"].get("description", ""))
        for each in operation["parameters"]
    ]  # fmt: skip
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        body = content["schema"]
        for name, schema in body.get("properties", {}).items():
            needed = name in body.get("required", ())
            rows.append(_row(name, "body", schema, required=needed, text=schema.get("description", "")))
        if "properties" not in body:
            rows.append(_row("(body)", kind, body, required=True, text=""))
    if not rows:
        return ["It takes no values."]
    return ["| Value | In | Is | Needed | Meaning |", "|---|---|---|---|---|", *rows]


def _answers(answers: dict[str, Any]) -> list[str]:
    return [
        "| Answer | When |",
        "|---|---|",
        *(f"| {status} | {each['description']} |" for status, each in answers.items()),
        "",
    ]


def page(document: dict[str, Any]) -> str:
    """The document as Markdown: addresses in their order, each with its methods; what all can answer stands once."""
    operations = [
        (path, method, operation)
        for path, methods in sorted(document["paths"].items())
        for method, operation in methods.items()
    ]
    usual = operations[0][2]["responses"]
    lines = ["Unless a section has answers of its own, these are all:", "", *_answers(usual)]
    for path, method, operation in operations:
        lines += [f"## {method.upper()} {path}", "", operation["summary"], ""]
        lines += [operation["description"], "", *_values(operation), ""]
        if operation["responses"] != usual:
            lines += _answers(operation["responses"])
    return "\n".join(lines)


class OpenApi(SphinxDirective):
    """Takes neither arguments nor content."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(page(openapi(PREFIX)), allow_section_headings=True)


def _write_document(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        text = json.dumps(openapi(PREFIX), indent=2) + "\n"
        (Path(app.outdir) / "api" / "openapi.json").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("openapi", OpenApi)
    app.connect("build-finished", _write_document)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
