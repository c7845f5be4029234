"""Pages of panels: who may lead to one, and when its kernel ends."""

from __future__ import annotations

import asyncio
import json
import pkgutil
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.web import HTTPError

from workbench import panels
from workbench.panels.pages.handlers import LISTED, PANELS, Page, add_handlers
from workbench.panels.pages.kernels import LEFT_SECONDS, OPENING_SECONDS, PageKernels


def test_every_panel_has_a_page():
    assert set(PANELS) == set(panels.__all__)


def test_jupyterlabs_page_tells_its_launcher_of_each():
    added = []
    application = SimpleNamespace(
        settings={"base_url": "/user/ada/"}, add_handlers=lambda host, routes: added.extend(routes)
    )
    add_handlers(SimpleNamespace(web_app=application, kernel_manager=None))

    assert json.loads(application.settings["page_config_data"][LISTED]) == PANELS
    assert len(added) == 3


def test_no_module_takes_the_place_of_a_panel_once_it_is_imported():
    assert {each.name for each in pkgutil.iter_modules(panels.__path__)} & set(panels.__all__) == set()


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({}, True),  # a program, with a token
        ({"Sec-Fetch-Site": "none"}, True),  # typed, or a bookmark
        ({"Sec-Fetch-Site": "same-origin", "Referer": "https://hub.test/user/ada/lab"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Referer": "https://hub.test/user/ada2/lab"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "same-site", "Referer": "https://hub.test/user/ada/lab"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
    ],
)
def test_nobody_elses_page_leads_to_one(headers: dict[str, str], is_let_in: bool):
    page = Page.__new__(Page)
    page.request = SimpleNamespace(headers=headers, host="hub.test")
    page.application = SimpleNamespace(settings={"base_url": "/user/ada/"})

    if is_let_in:
        page.check_origin_of_visit()
        return
    with pytest.raises(HTTPError) as raised:
        page.check_origin_of_visit()
    assert raised.value.status_code == 403


class Manager:
    """Kernels by id, with how many pages each has."""

    def __init__(self) -> None:
        self.connections: dict[str, int] = {}
        self.given: dict[str, Any] = {}

    async def start_kernel(self, **options: Any) -> str:
        self.given = options
        name = f"k{len(self.connections)}"
        self.connections[name] = 0
        return name

    def list_kernel_ids(self) -> list[str]:
        return list(self.connections)

    def kernel_model(self, kernel: str) -> dict[str, int]:
        return {"connections": self.connections[kernel]}

    async def shutdown_kernel(self, kernel: str, *, now: bool) -> None:
        assert now
        del self.connections[kernel]


def test_a_kernel_ends_when_its_page_is_gone_and_others_are_let_be():
    asyncio.run(_ends_when_its_page_is_gone())


async def _ends_when_its_page_is_gone() -> None:
    manager, now = Manager(), [0.0]
    manager.connections["of-a-notebook"] = 0
    kernels = PageKernels(manager, lambda: now[0])
    mine = await kernels.start_kernel(kernel_name="python3", path="", env={"SERVER_NAME": "x"})
    assert manager.given == {"kernel_name": "python3", "path": ""}

    now[0] = OPENING_SECONDS - 1  # its page is still coming
    await kernels.look()
    manager.connections[mine] = 1
    now[0] = 10_000.0
    await kernels.look()
    manager.connections[mine] = 0
    now[0] += LEFT_SECONDS - 1  # it may have been reloaded
    await kernels.look()
    assert mine in manager.connections
    now[0] += 2
    await kernels.look()

    assert list(manager.connections) == ["of-a-notebook"]
    other = await kernels.start_kernel(kernel_name="python3", path="", env={})
    assert [await kernels.end(each) for each in (other, other, "of-a-notebook")] == [True, False, False]
    assert list(manager.connections) == ["of-a-notebook"]
