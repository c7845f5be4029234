"""What administrators of policies are told when the warehouse does not do what they ask for."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors
from pydantic import SecretStr

from workbench.errors import WarehouseError, WarehouseUnavailable
from workbench.sections import WarehouseSettings
from workbench.warehouse.policies.administration import Administration


@pytest.mark.parametrize(
    ("raised", "kind", "told"),
    [
        (psycopg.OperationalError("connection refused"), WarehouseUnavailable, "did not answer: connection refused"),
        (errors.LockNotAvailable("canceling statement"), WarehouseUnavailable, "asks to try again: canceling"),
        (errors.AdminShutdown("terminating connection"), WarehouseUnavailable, "asks to try again: terminating"),
        (errors.InternalError_("tuple concurrently updated"), WarehouseUnavailable, "asks to try again: tuple"),
        (errors.ProgramLimitExceeded("too long"), WarehouseError, "refused what postgres asked for: too long"),
        (errors.InsufficientPrivilege("no"), WarehouseError, "refused what postgres asked for: no"),
    ],
)
def test_what_the_server_says_is_told_as_what_it_is(monkeypatch, raised, kind, told):
    def connect(_: Administration) -> None:
        raise raised

    monkeypatch.setattr(Administration, "_connect", connect)
    administration = Administration(WarehouseSettings(), "postgres", SecretStr("x"))

    with pytest.raises(WarehouseError, match=told) as caught, administration.transaction():
        pass

    assert type(caught.value) is kind
