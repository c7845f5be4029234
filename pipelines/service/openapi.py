"""The OpenAPI document of the API, made of the operations and the webhook: nothing is in it that does not answer, and nothing answers that is not."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pipelines.service.operations import IN_PATHS, OPERATIONS, Operation
from pipelines.service.webhooks.signing import ID, IDS, LARGEST_BYTES, SIGNATURE, TIMES, TIMESTAMP

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

WEBHOOK_PROBLEMS = {
    401: "It is signed by nobody who may; whatever it is, the words are the same.",
    413: "The body is too large.",
    429: "Strangers have tried too often; try again later.",
    503: "The pipeline is paused, or the store does not answer; try again later with the same id.",
}


def openapi(prefix: str) -> Row:
    """The document.

    Args:
        prefix: address of the service without the host, with a slash at both ends.
    """
    paths: dict[str, Row] = {}
    for each in OPERATIONS.values():
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    paths["/webhooks/{pipeline}"] = {"post": _webhook()}
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


def _webhook() -> Row:
    """Not an operation: nobody is signed in, and the body is what the sender has signed."""
    headers = {
        ID: {"type": "string", "pattern": f"^{IDS.pattern}$", "description": "The same each time it is tried."},
        TIMESTAMP: {"type": "string", "pattern": f"^{TIMES.pattern}$", "description": "Seconds since 1970, of this try."},
        SIGNATURE: {"type": "string", "description": "v1, and base64 of HMAC-SHA256 of id.timestamp.body; several are separated by spaces."},
    }  # fmt: skip
    sent = [{"name": name, "in": "header", "required": True, "schema": each} for name, each in headers.items()]
    problem = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    problems = {**{name: PROBLEMS[name] for name in (400, 409)}, **WEBHOOK_PROBLEMS}
    run = {"type": "object", "properties": {"run": IN_PATHS["run"]}, "required": ["run"]}
    return {
        "operationId": "post_webhook",
        "summary": "Start a run by a signed request.",
        "description": "The scheme of Standard Webhooks 1.0.0, with the secret of a trigger by webhook.",
        "parameters": [{"name": "pipeline", "in": "path", "required": True, "schema": IN_PATHS["pipeline"]}, *sent],
        "requestBody": {"content": {"*/*": {"schema": {"type": "string", "maxLength": LARGEST_BYTES}}}},
        "security": [],
        "responses": {
            "202": {
                "description": "The run of this id.",
                "content": {"application/json": {"schema": run}},
            },
            **{str(status): {"description": text, **problem} for status, text in problems.items()},
        },
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
