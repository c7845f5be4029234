from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tests.services.proxied_hub import ProxiedHub, running_hub

TABS = 4


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedHub]:
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


def test_tabs_that_open_a_server_in_the_same_moment_all_wait_for_the_one_that_starts(hub: ProxiedHub):
    barrier = Barrier(TABS)

    def open_tab(_: int) -> tuple[int, str]:
        with hub.client() as client:
            hub.log_in(client)
            barrier.wait()
            answer = client.get("/hub/spawn", follow_redirects=True)
            return answer.status_code, answer.url.path

    with ThreadPoolExecutor(TABS) as pool:
        seen = set(pool.map(open_tab, range(TABS)))

    assert {status for status, _ in seen} == {200}
    assert {path.split("/")[2] for _, path in seen} <= {"spawn-pending", "gh-ada"}
    assert [each["name"] for each in hub.api("/users/gh-ada").json()["servers"].values()] == [""]
