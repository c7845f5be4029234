"""The service of pipelines on a site, alone, with one person for each right; and what their browsers do."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from pipelines.definition import Project
from pipelines.service.entrance.alone import AloneEntrance
from pipelines.service.entrance.hub import HubAddress, HubEntrance
from pipelines.service.process import ServiceOptions, hub_file, run_service
from pipelines.service.rights import Person, Right
from tests.services.pipelines_project import Site
from tests.services.workbench import wait_until
from workbench.runtime.ports import any_free
from workbench.settings import Settings

PREFIX = "/services/pipelines/"
PEOPLE = {f"{right.name.lower()}-token": Person(name=right.name.lower(), right=right) for right in Right}
READY_SECONDS = 120  # on a machine that does much else, importing takes most of a minute


@dataclass(frozen=True)
class Page:
    """Somebody's browser, signed in, which sends the token of the last page."""

    client: httpx.Client

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def token(self) -> str:
        found = re.search(r'name="_token" value="(\w+)"', self.get("pipelines/say/start").text)
        return found[1] if found else ""

    def post(self, operation: str, **fields: Any) -> httpx.Response:
        data = {"_token": self.token(), **{name.replace("__", "."): each for name, each in fields.items()}}
        return self.client.post(f"do/{operation}", data=data)


@dataclass(frozen=True)
class RunningService:
    """Where it is, and who may use it."""

    url: str
    clients: list[httpx.Client] = field(default_factory=list)

    def browser(self, person: str) -> Page:
        """With the cookie of a person."""
        client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        self.clients.append(client)
        client.get(f"sign-in?token={person}-token")
        return Page(client)

    def api(self, person: str, method: str, path: str, body: Any = None) -> httpx.Response:
        """As a program of a person."""
        headers = {"Authorization": f"token {person}-token"}
        content = None if body is None else json.dumps(body)
        return httpx.request(
            method, f"{self.url}api/v1{path}", headers=headers, content=content, timeout=60, trust_env=False
        )


@contextmanager
def running_service(site: Site, **extra: str) -> Iterator[RunningService]:
    """A process of its own, on the site's store and files."""
    port = any_free()
    process = site.start("pipelines.service", PORT=str(port), **extra)
    service = RunningService(f"http://127.0.0.1:{port}{PREFIX}")

    def answers() -> bool:
        assert process.poll() is None, site.log("pipelines.service")
        try:
            return httpx.get(f"{service.url}health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answers, READY_SECONDS, "the service of pipelines")
    try:
        yield service
    finally:
        for each in service.clients:
            each.close()
        site.end(process)


def main(folder: str) -> None:
    """What its process does: behind the hub that has written where it is, or alone."""
    settings = Settings.load()
    project = Project((Path(folder) / "project",))
    if "HUB" in os.environ:
        address = HubAddress.read(hub_file(settings.home))
        options = ServiceOptions(
            project=project, entrance=HubEntrance(address), port=address.port, prefix=address.prefix
        )  # fmt: skip
    else:
        entrance = AloneEntrance(PEOPLE)
        options = ServiceOptions(project=project, entrance=entrance, port=int(os.environ["PORT"]), prefix=PREFIX)
    run_service(settings, options)
