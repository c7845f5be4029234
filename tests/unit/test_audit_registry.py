"""Every way in: each route and each command is in the audit log, or says why it need not be."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import typer
from jupyterhub import apihandlers, handlers, orm
from jupyterhub.apihandlers import users
from jupyterhub.scopes import Scope
from jupyterhub.user import User
from tornado.web import HTTPError, RequestHandler, StaticFileHandler

from hub import health, status, told
from hub.api_auditing import AUDITED, NOT_AUDITED, AuditedRequest, audited_handlers
from hub.authentication.github import GitHub
from hub.authentication.handlers import login_handlers
from hub.offboarding import offboarding_handlers
from pipelines.jupyter import handlers as jupyter
from pipelines.service.application import build_application, build_templates
from pipelines.service.entrance.alone import AloneEntrance
from pipelines.service.entrance.hub import _Callback
from pipelines.service.operations import OPERATIONS
from pipelines.service.web.base import Service
from workbench.cli.main import make_application
from workbench.panels.pages import handlers as pages
from workbench.security.audit import MEANINGS, Action
from workbench.security.audit.commands import ATTRIBUTE, Auditing
from workbench.settings import Settings

METHODS = ("get", "post", "put", "patch", "delete")
ROOT = Path(__file__).parents[2]


def answered(handler: type) -> list[str]:
    """Methods that the class answers, but for tornado's own which refuse."""
    return [name for name in METHODS if getattr(handler, name) is not getattr(RequestHandler, name)]


def undeclared(handler: type) -> list[str]:
    methods = {name: getattr(getattr(handler, name), ATTRIBUTE, None) for name in answered(handler)}
    return [f"{handler.__name__}.{name}" for name, found in methods.items() if not is_declared(found)]


def is_declared(found: Auditing | None) -> bool:
    return found is not None and (found.action in MEANINGS or len(found.reason) > 10)


def commands(command: Any, path: str = "workbench") -> Iterator[tuple[str, Callable[..., object]]]:
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        if command.invoke_without_command:
            yield path, command.callback
        for name, each in command.commands.items():
            yield from commands(each, f"{path} {name}")
    else:
        yield path, command.callback


@functools.cache
def sources() -> str:
    """What the product is made of, but for the list of actions."""
    folders = (ROOT / folder for folder in ("hub", "workbench", "pipelines"))
    files = (path for folder in folders for path in folder.rglob("*.py") if path.name != "actions.py")
    return "".join(path.read_text(encoding="utf-8") for path in files)


def test_every_action_has_a_class_and_says_whether_it_fails_closed():
    assert set(MEANINGS) == set(Action)


def test_every_command_is_audited_or_says_why_not():
    found = dict(commands(typer.main.get_command(make_application())))

    assert len(found) > 60
    missing = [path for path, callback in found.items() if not is_declared(getattr(callback, ATTRIBUTE, None))]
    assert missing == []


def test_every_page_of_the_hub_is_audited_or_says_why_not():
    settings = Settings.load()
    pages = [*health.HANDLERS, *status.status_handlers(settings.home), *told.HANDLERS]
    ours = [*login_handlers([GitHub()]), *pages, *offboarding_handlers(settings)]
    handlers_of_ours = {route[1] for route in ours if not issubclass(route[1], StaticFileHandler)}

    assert len(handlers_of_ours) >= 15
    assert [each for handler in handlers_of_ours for each in undeclared(handler)] == []


def test_every_request_of_jupyterhub_that_changes_something_is_audited_or_says_why_not():
    default = [*apihandlers.default_handlers, *handlers.default_handlers]
    changing = {handler.__name__ for _, handler, *_ in default if set(answered(handler)) - {"get"}}

    assert changing == set(AUDITED) | set(NOT_AUDITED)
    assert all(len(reason) > 10 for reason in NOT_AUDITED.values())
    replaced = {pattern: handler for pattern, handler, *_ in audited_handlers()}
    for pattern, handler, *_ in default:
        if handler.__name__ in AUDITED:
            assert issubclass(replaced[pattern], AuditedRequest)
            assert issubclass(replaced[pattern], handler)


@pytest.mark.parametrize("body", [{"admin": True}, {"name": "gh-ada", "admin": True}, {"name": "gh-grace"}])
def test_nobody_is_renamed_and_nobody_loses_their_name(monkeypatch, body):
    # The page Admin sends the name each time it changes a right.
    handler = next(each for _, each, *_ in audited_handlers() if each.__name__ == "AuditedUserAPIHandler")
    database = orm.new_session_factory("sqlite:///:memory:")()
    known = orm.User(name="gh-ada")
    database.add(known)
    database.commit()
    asked = {
        "request": SimpleNamespace(body=json.dumps(body).encode(), path="/hub/api/users/gh-ada"),
        "path_args": ["gh-ada"],
        "parsed_scopes": {"admin:users": Scope.ALL},
        "expanded_scopes": set(),
        "current_user": SimpleNamespace(admin=True, name="gh-root"),
        "db": database,
        "log": logging.getLogger("asked"),
        "find_user": lambda self, name: User(known, db=database),
        "user_model": lambda self, user: {"name": user.name},
        "write": lambda self, answer: None,
        "__init__": lambda self: None,
    }
    monkeypatch.setattr(users, "assign_default_roles", lambda database, entity: None)
    request = type("Asked", (handler,), asked)()

    if "admin" in body:
        asyncio.run(request.patch("gh-ada"))
    else:
        with pytest.raises(HTTPError, match="nobody is renamed"):
            asyncio.run(request.patch("gh-ada"))

    database.refresh(known)
    assert (known.name, bool(known.admin)) == ("gh-ada", "admin" in body)
    database.close()


def test_every_route_of_the_service_of_pipelines_is_audited_or_says_why_not():
    service = Service(
        site=None,
        entrance=AloneEntrance({}),
        prefix="/",
        templates=build_templates(),
        hints=None,
        webhooks=None,
        sign=None,
        rendering=None,
        key=b"k",
    )
    application = build_application(service)
    found = {rule.target for router in application.default_router.rules for rule in getattr(router.target, "rules", [])}
    ours = {handler for handler in found if not issubclass(handler, StaticFileHandler)}

    ours.add(_Callback)
    assert len(ours) >= 15
    assert [each for handler in ours for each in undeclared(handler)] == []


def test_every_address_of_pipelines_in_a_users_server_is_audited_or_says_why_not():
    ours = (jupyter.Pipelines, jupyter.Check, jupyter.File)

    assert [each for handler in ours for each in undeclared(handler)] == []
    assert set(jupyter.Handler.__subclasses__()) == set(ours)


def test_every_address_of_panels_in_a_users_server_is_audited_or_says_why_not():
    ours = (pages.List, pages.Page, pages.Closed)

    assert [each for handler in ours for each in undeclared(handler)] == []
    assert set(pages.Ours.__subclasses__()) == {pages.Page, pages.Closed}


def test_every_operation_that_changes_something_names_its_action():
    assert all(each.action in MEANINGS for each in OPERATIONS.values() if each.changes)


@pytest.mark.parametrize("action", Action)
def test_every_action_is_written_somewhere_and_documented(action):
    assert re.search(rf"Action\.{action.name}\b", sources())
    assert f"`{action.value}`" in (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
