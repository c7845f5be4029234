"""A PostgreSQL of its own under policies, and connections of people to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr

from tests.services.postgres_server import DATABASE, USER, OwnPostgres, running_postgres
from workbench.runtime.ports import LOOPBACK
from workbench.sections import EMBEDDED_SUPERUSER, WarehouseSettings
from workbench.security.policies.reading import Policies, read_policies
from workbench.security.secrets import ensure_token
from workbench.warehouse.policies import applying, people
from workbench.warehouse.policies.administration import Administration


@dataclass(frozen=True)
class GovernedWarehouse:
    """A warehouse whose service owns the tables, and its administrator."""

    server: OwnPostgres
    folder: Path

    @property
    def superuser_password(self) -> str:
        return ensure_token(self.server.server.home / "keys" / "warehouse-superuser-password")

    @property
    def administration(self) -> Administration:
        warehouse = WarehouseSettings.model_validate(self.server.variables())
        return Administration(warehouse, EMBEDDED_SUPERUSER, SecretStr(self.superuser_password))

    def policies(self, text: str) -> Policies:
        path = self.folder / "policies.yaml"
        path.write_text(text)
        return read_policies(path)

    def apply(self, text: str) -> applying.Applied:
        return applying.apply(self.administration, self.policies(text))

    def plan(self, text: str) -> applying.Applied:
        return applying.plan(self.administration, self.policies(text))

    def own(self, statements: str) -> None:
        """Run statements as the service that owns the tables."""
        with self.connect(USER, self.server.server.password) as connection:
            connection.execute(statements)

    def ask(self, query: str) -> list[tuple[object, ...]]:
        return self.server.ask(query)

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection[Any]]:
        with self.connect(EMBEDDED_SUPERUSER, self.superuser_password) as connection:
            yield connection

    def connect(self, user: str, password: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=LOOPBACK, port=self.server.server.port, dbname=DATABASE, user=user, password=password,
            autocommit=True, sslmode="disable", options="-c statement_timeout=10s",
        )  # fmt: skip

    def hand_out(self, text: str, name: str, groups: Sequence[str]) -> people.Credentials:
        return people.hand_out(self.administration, self.policies(text), name, groups, hours=1)

    @contextmanager
    def person(self, text: str, name: str, groups: Sequence[str]) -> Iterator[psycopg.Connection[Any]]:
        """A connection of a person, with credentials that are made for it."""
        found = self.hand_out(text, name, groups)
        with self.connect(found.user, found.password.get_secret_value()) as connection:
            yield connection


@contextmanager
def governed_warehouse(folder: Path) -> Iterator[GovernedWarehouse]:
    """A server of its own: roles are the cluster's, not a database's."""
    with running_postgres(folder / "home") as server:
        yield GovernedWarehouse(server, folder)
