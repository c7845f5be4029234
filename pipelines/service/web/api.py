"""The API: each operation at its address, JSON in and out."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from pipelines.service.openapi import openapi
from pipelines.service.operations import OPERATIONS, Operation
from pipelines.service.web.base import Handler
from pipelines.service.web.pages import as_number
from workbench.errors import ParametersRefused
from workbench.security.audit.commands import not_audited

Row = dict[str, Any]


class Api(Handler):
    """The operations of one path."""

    def initialize(self, service: Any, path: str) -> None:  # type: ignore[override]
        """Called by tornado."""
        super().initialize(service)
        self._operations = {str(each.method): each for each in OPERATIONS.values() if each.path == path}

    def wants_json(self) -> bool:
        """Always."""
        return True

    @not_audited("It only looks, as far as the rights of who asks go.")
    async def get(self, **in_path: str) -> None:
        """Called by tornado."""
        await self._answer("GET", in_path)

    @not_audited("Each operation names an action of its own, which `perform` records.")
    async def post(self, **in_path: str) -> None:
        """Called by tornado."""
        await self._answer("POST", in_path)

    @not_audited("Each operation names an action of its own, which `perform` records.")
    async def put(self, **in_path: str) -> None:
        """Called by tornado."""
        await self._answer("PUT", in_path)

    async def _answer(self, method: str, in_path: dict[str, str]) -> None:
        operation = self._operations.get(method)
        if operation is None:
            self.set_header("Allow", ", ".join(self._operations))
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)
            return
        sent = self._body() if operation.changes else self._query()
        if doubled := sorted(sent.keys() & in_path.keys()):
            raise ParametersRefused([f"{', '.join(doubled)}: is in the address, and nowhere else."])
        given = _as_numbers(operation, {**in_path, **sent})
        self.write_json(await self.perform(operation.name, given))

    def _query(self) -> Row:
        return {name: self.get_query_argument(name) for name in self.request.query_arguments}

    def _body(self) -> Row:
        try:
            body = json.loads(self.request.body or b"{}")
        except ValueError as error:
            raise ParametersRefused([f"the body is no JSON: {error}."]) from None
        if not isinstance(body, dict):
            raise ParametersRefused(["the body is no object."])
        return body


class Document(Handler):
    """The OpenAPI document."""

    def wants_json(self) -> bool:
        """Always."""
        return True

    @not_audited("It only looks, as far as the rights of who asks go.")
    def get(self) -> None:
        """Called by tornado."""
        self.write_json(openapi(self.service.prefix))


def _as_numbers(operation: Operation, given: Row) -> Row:
    known = operation.schema()["properties"]
    is_number = {name: known.get(name, {}).get("type") == "integer" for name in given}
    return {
        name: as_number(name, each) if is_number[name] and isinstance(each, str) else each
        for name, each in given.items()
    }
