"""The commands `workbench hub …`: who is there, who goes, who comes back, whose account is whose, and new keys."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from workbench.console import plain_console
from workbench.errors import WorkbenchError
from workbench.security.audit import Action, Outcome
from workbench.security.audit.commands import audits_itself, not_audited
from workbench.settings import Settings

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SECONDS = 600.0  # between two steps of the hub
ARCHIVE_SECONDS = 6 * 3600.0  # the same: the archive of a large home is one step. A hub that dies is noticed at once
NAME = typer.Argument(help="The name in the hub, such as gh-octo.")
AS_JSON = typer.Option(False, "--json", help="Print one JSON value.")
BROKEN_OFF = WorkbenchError("the hub broke off", remedy="Look at logs/hub.log, then run the same command again.")


def add_commands(application: typer.Typer) -> None:
    """Called through the entry point group `workbench.commands`."""
    group = typer.Typer(help="The hub's people and keys.", no_args_is_help=True)
    group.command("users")(users)
    group.command("offboard")(offboard)
    group.command("readmit")(readmit)
    group.command("unlink")(unlink)
    group.command("rotate-keys")(rotate_keys)
    application.add_typer(group, name="hub")


@not_audited("It only looks.")
def users(as_json: bool = AS_JSON) -> None:
    """List everybody who has ever been let in, who was here last first. Needs the running hub.

    Example: workbench hub users
    """
    people = next(_call(Settings.load(), "users"))
    if as_json:
        typer.echo(json.dumps(people))
        return
    view = Table("name", "role", "servers", "last activity", box=None, header_style="bold")
    for each in people:
        role = "off-boarded" if each["is_blocked"] else each["role"]
        view.add_row(each["name"], role, str(each["servers"]), each["last_activity"] or "never")
    plain_console().print(view if people else "Nobody has been let in yet.")


@audits_itself(Action.USER_OFFBOARDED)
def offboard(
    name: str = NAME,
    keep_home: bool = typer.Option(False, "--keep-home", help="Leave the home folder where it is."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    as_json: bool = AS_JSON,
) -> None:
    """Show somebody out for good: block, stop servers and Spark, revoke tokens, archive the home. Needs the running hub.

    Doing it again finishes what was left. Exits with 1 when something could not be done.

    Example: workbench hub offboard gh-octo --yes
    """
    settings = Settings.load()
    if not yes:
        _confirm(name, "stays where it is" if keep_home else f"moves to {settings.home / 'archive'}")
    _follow(settings, name, "offboard", as_json, {"keep_home": keep_home}, seconds=ARCHIVE_SECONDS)


@audits_itself(Action.USER_UNBLOCKED)
def readmit(name: str = NAME, as_json: bool = AS_JSON) -> None:
    """Let somebody in again whom `offboard` has blocked. Needs the running hub.

    They sign in as before, if the rules still let them. An archived home stays archived:
    unpack it with `tar xzf` where it is wanted.

    Example: workbench hub readmit gh-octo
    """
    _follow(Settings.load(), name, "readmit", as_json, {})


@audits_itself(Action.ACCOUNT_UNLINKED)
def unlink(
    name: str = NAME,
    provider: str = typer.Argument(help="Where the account is: github, google or oidc."),
    login: str = typer.Option("", "--login", help="Which account, when there are several of the provider."),
    as_json: bool = AS_JSON,
) -> None:
    """Take a linked account from somebody; the last one stays. Needs the running hub.

    Whoever comes in with it next is somebody new. All sessions of the person end, with their servers and tokens.

    Example: workbench hub unlink gh-octo google
    """
    _follow(Settings.load(), name, "unlink", as_json, {"provider": provider, "login": login})


@audits_itself(Action.KEYS_ROTATED)
def rotate_keys(as_json: bool = AS_JSON) -> None:
    """Encrypt what the hub keeps of each login with a new key, from its next start on.

    The two keys before it still decrypt. Refused while the one before these is needed.

    Example: workbench hub rotate-keys
    """
    from hub.keys import rotate_keys as rotate
    from workbench.security.audit import AuditLog

    settings = Settings.load()
    path = settings.home / "keys" / "hub-auth-state"
    log, told = AuditLog.of(settings.home), {"actor": f"operator:{_who()}", "resource": path.name}
    log.record(Action.KEYS_ROTATED, **told, outcome=Outcome.BEGUN)
    keys = rotate(path, sorted((settings.home / "hub").glob("jupyterhub*.sqlite")))
    log.record(Action.KEYS_ROTATED, **told, keys=keys)
    if as_json:
        typer.echo(json.dumps({"file": str(path), "keys": keys, "effective": "after the next start of the hub"}))
    else:
        typer.echo(f"{path} has a new first key, {keys} in all. It takes effect when the hub is started again.")


def _confirm(name: str, home: str) -> None:
    if not sys.stdin.isatty():
        raise WorkbenchError("nobody is there to be asked", remedy="Say --yes to off-board without a question.")
    typer.confirm(
        f"{name} is shown out: sign-in blocked, servers stopped, tokens revoked; the home {home}. Go on?", abort=True
    )


def _follow(
    settings: Settings, name: str, verb: str, as_json: bool, body: dict[str, Any], *, seconds: float = SECONDS
) -> None:
    """Show the steps as the hub does them; exit with 1 when there was a problem."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    steps: list[str] = []
    problems: list[dict[str, str]] = []
    line: dict[str, Any] = {}
    with console.status(f"{verb} {name}"):
        for line in _call(settings, f"users/{quote(name, safe='')}/{verb}", {**body, "by": _who()}, seconds):
            if "step" in line:
                steps.append(line["step"])
                console.print(f"  {line['step']}", markup=False)
            elif "problem" in line:
                problems.append(line)
                console.print(f"Error: {line['problem']}", style="red", markup=False)
                console.print(f"Remedy: {line['remedy']}", markup=False)
    if "done" not in line:
        raise BROKEN_OFF
    if as_json:
        typer.echo(json.dumps({"name": name, "steps": steps, "problems": problems}))
    else:
        typer.echo(f"{name}: {_result(verb, problems)}")
    if problems:
        raise typer.Exit(1)


def _result(verb: str, problems: list[dict[str, str]]) -> str:
    if problems and verb == "unlink":
        return "the account is theirs no more; see above what could not be done"
    if problems:
        return "not all could be done; the same command finishes it"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    done = {"offboard": "off-boarded", "readmit": "may sign in again", "unlink": "the account is theirs no more"}
    return f"{done[verb]}, {now}"


def _call(settings: Settings, path: str, body: dict[str, Any] | None = None, seconds: float = SECONDS) -> Iterator[Any]:
    """Lines of JSON of the running hub's answer, as they come. With a body it is a POST."""
    from hub.addresses import HubPorts
    from hub.offboarding import operator_token

    url = f"http://127.0.0.1:{HubPorts.read(settings.home).hub_api}"
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{url}/hub/api/workbench/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"token {operator_token(settings.home)}", "Content-Type": "application/json"},
    )
    try:
        with DIRECT.open(request, timeout=seconds) as answer:
            for line in answer:
                yield json.loads(line)
    except urllib.error.HTTPError as error:
        raise _refused(error) from error
    except http.client.HTTPException as error:
        raise BROKEN_OFF from error
    except TimeoutError as error:
        raise _silent(settings, seconds) from error
    except (OSError, ValueError) as error:
        raise WorkbenchError(
            f"the hub of {settings.home} does not answer at {url}",
            remedy="Start it with `workbench up`, or set WORKBENCH_HOME to that of the running workbench.",
        ) from error


def _silent(settings: Settings, seconds: float) -> WorkbenchError:
    return WorkbenchError(
        f"the hub has said nothing for {seconds:.0f} seconds; what it has begun goes on",
        remedy=f"A home that is being archived is a file `.….part` in {settings.home / 'archive'}, which grows. "
        "Look at logs/hub.log too. The same command, run again, finishes what is left.",
    )


def _refused(error: urllib.error.HTTPError) -> WorkbenchError:
    try:
        message = str(json.loads(error.read())["message"])
    except (ValueError, KeyError, TypeError):
        message = f"it answers {error.code}"
    remedies = {
        403: "The hub was started with another keys/hub-operator-token. Start it again.",
        404: "`workbench hub users` lists who there is.",
        409: "Nothing was changed. When what it says is over, run the same command again.",
    }
    return WorkbenchError(f"the hub refuses: {message}", remedy=remedies.get(error.code, "Look at logs/hub.log."))


def _who() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
