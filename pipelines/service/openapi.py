"""The OpenAPI document of the API, made of the operations: nothing is in it that does not answer, and nothing answers that is not."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pipelines.service.operations import IN_PATHS, OPERATIONS, Operation

Row = dict[str, Any]
PROBLEM = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"message": {"type": "string"}, "remedy": {"type": "string"}},
            "required": ["message", "remedy"],
        }
    },
    "required": ["error"],
}
PROBLEMS = {
    400: "Values do not fit.",
    401: "Nobody knows who asks.",
    403: "Whoever asks may not do this.",
    404: "There is no such thing.",
    409: "It cannot be done as things stand.",
    503: "The store does not answer; try again.",
}


def openapi(prefix: str) -> Row:
    """The document.

    Args:
        prefix: address of the service without the host, with a slash at both ends.
    """
    paths: dict[str, Row] = {}
    for each in OPERATIONS.values():
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pipelines", "version": version("analytics-workbench")},
        "servers": [{"url": f"{prefix}api/v1"}],
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM},
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`token` and a token of the hub with the scope access:services!service=pipelines.",
                }
            },
        },
        "security": [{"token": []}],
    }


def _operation(operation: Operation) -> Row:
    in_path = [{"name": name, "in": "path", "required": True, "schema": IN_PATHS[name]} for name in operation.in_path]
    if not operation.changes:
        in_path += [{"name": name, "in": "query", "schema": each} for name, each in operation.values.items()]
    schema = operation.schema()
    body = {
        "type": "object",
        "properties": dict(operation.values),
        "required": [name for name in schema["required"] if name in operation.values],
        "additionalProperties": False,
    }
    problem = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"Takes the right of {operation.right.name.lower()}.",
        "parameters": in_path,
        **({"requestBody": {"content": {"application/json": {"schema": body}}}} if operation.changes else {}),
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": {"type": "object"}}}},
            **{str(status): {"description": text, **problem} for status, text in PROBLEMS.items()},
        },
    }
