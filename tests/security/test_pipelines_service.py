"""The page of pipelines behind a real hub: its login, its roles, its tokens, its proxy."""

from __future__ import annotations

import re
import time

import httpx
import pytest

from pipelines.scheduler.scheduler import Scheduler
from pipelines.service.webhooks.signing import Signed
from tests.services.pipelines_project import Site, running_site
from tests.services.pipelines_store import store_url
from tests.services.proxied_hub import ProxiedHub, running_hub
from tests.services.workbench import wait_until

AT = "/services/pipelines/"
SECRET = "a-secret-of-more-than-24-bytes"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        site.module("say", "def say(n: int) -> None:\n    print(n)\n")
        site.pipeline("say", parameters={"n": "int"}, steps={"a": {"function": "say:say", "parameters": {"n": "${n}"}}})
        hook = {"webhook": {"secret": "env:HOOK_SECRET"}, "parameters": {"n": 1}}
        step = {"function": "say:say", "parameters": {"n": "${n}"}}
        site.pipeline("hooked", parameters={"n": "int"}, triggers=[hook], steps={"a": step})
        site.file("pipelines/flows/orders.yaml", "topic: orders\ninto: raw.orders\n")
        Scheduler(site.store, site.project).sync()
        yield site


@pytest.fixture(scope="module")
def hub(site: Site):
    roles = {"WORKBENCH_LOGIN_VIEWERS": "gh-grace"}
    store = {"WORKBENCH_PIPELINES_DATABASE_URL": store_url(site.server, site.database)}
    with running_hub(site.home, **roles, **store) as hub:
        process = site.start("pipelines.service", HUB="1", HOOK_SECRET=SECRET, **store)
        try:
            wait_until(lambda: send(hub, f"{AT}health").status_code == 200, 60, "the service behind the hub")
            yield hub
        finally:
            site.end(process)


def test_a_browser_signs_in_at_the_hub_and_comes_back(hub: ProxiedHub):
    with signed_in(hub, "ada") as client:
        page = client.get(f"{AT}pipelines/say")

    assert page.status_code == 200, page.text
    assert "You are its owner." in page.text
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    cookies = [each for each in client.cookies.jar if each.name == "service-pipelines"]
    assert [(each.path, each.has_nonstandard_attr("HttpOnly")) for each in cookies] == [(AT, True)]


def test_a_stranger_is_sent_to_the_login_and_their_program_is_told_so(hub: ProxiedHub):
    page = send(hub, AT)
    program = send(hub, f"{AT}api/v1/pipelines")

    assert page.status_code == 302
    assert "/hub/api/oauth2/authorize" in page.headers["location"]
    assert "code_challenge=" in page.headers["location"]
    assert program.status_code == 401


def test_a_viewer_of_the_hub_sees_and_starts_nothing(hub: ProxiedHub):
    with signed_in(hub, "grace") as client:
        page = client.get(f"{AT}pipelines/say")
        token = re.search(r'name="_token" value="(\w+)"', client.get(f"{AT}pipelines/say/start").text)[1]
        answer = client.post(f"{AT}do/start_run", data={"_token": token, "pipeline": "say", "p.n": "1"})

    assert page.status_code == 200
    assert "Run now" not in page.text
    assert answer.status_code == 403
    assert "takes the right of a runner; you have a viewer" in answer.text


def test_a_viewer_of_the_hub_sees_flows_and_starts_none(hub: ProxiedHub, site: Site):
    with signed_in(hub, "grace") as client:
        pages = [client.get(f"{AT}{path}") for path in ("flows", "flows/orders")]
        token = re.search(r'name="_token" value="(\w+)"', client.get(f"{AT}pipelines/say/start").text)[1]
        for what in ("start", "stop", "restart"):
            answer = client.post(f"{AT}do/{what}_flow", data={"_token": token, "flow": "orders"})
            assert (answer.status_code, "takes the right of an editor" in answer.text) == (403, True)
        wrong = client.get(f"{AT}flows/..%2F..%2Fetc")

    assert [each.status_code for each in pages] == [200, 200]
    assert not any("<button" in each.text for each in pages)
    assert wrong.status_code == 404
    assert site.ask("SELECT count(*) FROM pipelines.flows") == [(0,)]


def test_a_token_of_the_hub_is_as_much_as_its_owner(hub: ProxiedHub):
    with signed_in(hub, "ada"), signed_in(hub, "grace"):
        pass
    statuses = {}
    for name in ("gh-ada", "gh-grace"):
        token = hub.api(f"/users/{name}/tokens", "POST", json={}).json()["token"]
        answer = send(hub, f"{AT}api/v1/pipelines/say/runs", "POST", token, json={"parameters": {"n": 1}})
        statuses[name] = answer.status_code

    assert statuses == {"gh-ada": 200, "gh-grace": 403}
    assert send(hub, f"{AT}api/v1/pipelines", "GET", hub.token).status_code == 403
    assert send(hub, f"{AT}api/v1/pipelines", "GET", "0" * 32).status_code == 401


def test_a_request_has_one_id_at_the_proxy_the_service_and_the_hub(hub: ProxiedHub, site: Site):
    with signed_in(hub, "ada"):
        pass
    token = hub.api("/users/gh-ada/tokens", "POST", json={}).json()["token"]
    with hub.client(headers={"Authorization": f"token {token}", "X-Request-ID": "through-all.1"}) as client:
        answer = client.post(f"{AT}api/v1/pipelines/nothing-there/runs", json={})

    assert (answer.status_code, answer.headers["x-request-id"]) == (404, "through-all.1")

    def told(log: str) -> list[str]:
        return [line.partition(": ")[2] for line in log.splitlines() if " request=through-all.1: " in line]

    wait_until(lambda: told(site.log("pipelines.service")), 20, "the line of the service")
    assert told(site.log("pipelines.service"))[-1].startswith("404 POST ")
    wait_until(lambda: any("GET /hub/api/user" in each for each in told(hub.log)), 20, "the hub to tell who asked")
    assert token not in hub.log + site.log("pipelines.service")


def test_a_form_of_another_site_changes_nothing(hub: ProxiedHub):
    with signed_in(hub, "ada") as client:
        answer = client.post(f"{AT}do/start_run", data={"pipeline": "say", "p.n": "1"})

    assert answer.status_code == 403


def test_a_webhook_needs_its_signature_and_no_login(hub: ProxiedHub):
    signed = Signed(id="msg_1", timestamp=int(time.time()), body=b"{}")
    statuses = [
        post_webhook(hub, signed.headers(key), b"{}")
        for key in (SECRET.encode(), SECRET.encode(), b"another-secret-of-24-bytes")
    ]

    assert [each.status_code for each in statuses] == [202, 202, 401]
    assert statuses[0].json() == statuses[1].json()


def post_webhook(hub: ProxiedHub, headers: dict[str, str], content: bytes) -> httpx.Response:
    with hub.client() as client:
        return client.post(f"{AT}api/v1/webhooks/hooked", headers=headers, content=content)


def send(hub: ProxiedHub, path: str, method: str = "GET", token: str = "", **options) -> httpx.Response:
    headers = {"Authorization": f"token {token}"} if token else {}
    with hub.client(headers=headers) as client:
        return client.request(method, path, **options)


class signed_in:  # noqa: N801 - reads as a function
    """Somebody's browser, at the hub and at the service."""

    def __init__(self, hub: ProxiedHub, person: str) -> None:
        self._client = hub.client(follow_redirects=False)
        hub.log_in(self._client, person)
        self._client.follow_redirects = True

    def __enter__(self) -> httpx.Client:
        assert self._client.get(AT).url.path == AT
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.close()
