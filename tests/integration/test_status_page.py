"""The pages of the hub that are ours, in a real hub: who sees the status, and what it says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace

import httpx
import psutil
import pytest
from pydantic import SecretStr

from pipelines.monitor.programs import read_programs
from tests.services.browser import Browser, send
from tests.services.identity_provider import IdentityProvider
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.process_tree import arguments
from tests.services.workbench import run, wait_until
from workbench.logs.context import WELL_FORMED
from workbench.logs.lines import Line
from workbench.observability.alerts.quantities import is_wanted
from workbench.observability.alerts.samples import labels_of
from workbench.observability.dashboards.objectives import Tally
from workbench.observability.monitor.scraping import ScrapeFailed, Scraper
from workbench.observability.monitor.targets import read_targets
from workbench.runtime.metrics import metrics_token
from workbench.runtime.state import ComponentStatus, State, WorkbenchStatus, supervisor_lock, write_status
from workbench.security.audit import Action, AuditLog, read_events
from workbench.security.secrets import locked

START_SECONDS = 90


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginHub]:
    folder = tmp_path_factory.mktemp("status")
    settings = {"WORKBENCH_LOGIN_ADMINS": "gh-ada", "WORKBENCH_LOG_FORMAT": "json"}
    with IdentityProvider() as provider, running_login_hub(folder, provider, **settings) as hub:
        yield hub


@pytest.fixture(scope="module")
def admin(hub: LoginHub) -> Iterator[Browser]:
    with hub.browser() as browser:
        assert browser.login("github", person="ada").status_code == 200
        yield browser


@pytest.fixture(scope="module")
def member(hub: LoginHub) -> Iterator[Browser]:
    with hub.browser() as browser:
        assert browser.login("github", person="grace").status_code == 200
        yield browser


@pytest.fixture(scope="module")
def server(hub: LoginHub, member: Browser) -> psutil.Process:
    """Grace's running server."""
    assert member.api("/users/gh-grace/server", "POST").status_code in (201, 202)
    wait_until(lambda: hub.has_running_server("gh-grace"), START_SECONDS, "the server to be ready")
    found = [each for each in psutil.Process(hub.pid).children() if "singleuser" in " ".join(arguments(each))]
    return found[0]


def lines_of(hub: LoginHub) -> list[Line]:
    lines = (Line.parse(each, "") for each in hub.log.splitlines())
    return [line for line in lines if line is not None and line.is_ours]


def test_a_request_has_an_id_in_the_answer_and_in_the_log(hub: LoginHub):
    def ask(path: str, sent: str | None = None) -> str:
        headers = {} if sent is None else {"X-Request-ID": sent}
        return send("GET", f"{hub.url}{path}", headers=headers).headers["x-request-id"]

    assert ask("/hub/login?next=%0a", "8f14e45f-ceea") == "8f14e45f-ceea"
    made = {ask("/hub/nothing-there", each) for each in (None, "a b", "x" * 65, "a=b")}
    assert len(made) == 4
    assert all(WELL_FORMED.fullmatch(each) for each in made)

    # The hub writes the line of a request once the answer has been sent.
    wait_until(lambda: made <= {each.fields.get("request") for each in lines_of(hub)}, 10, "the lines of all requests")
    lines = lines_of(hub)
    of_requests = {each.fields["request"]: each for each in lines if "request" in each.fields}
    assert "GET /hub/login" in of_requests["8f14e45f-ceea"].message
    assert all("404 GET /hub/nothing-there" in of_requests[each].message for each in made)
    assert {each.component for each in lines} == {"hub"}
    assert all(text.startswith("{") for text in hub.log.splitlines() if "GET /hub/" in text)
    # What belongs to no request does not keep the id of one.
    assert "request" not in next(each for each in lines if "Running JupyterHub" in each.message).fields


def status(browser: Browser) -> dict:
    answer = browser.api("/workbench/status")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_administrator_sees_users_servers_and_what_they_take(admin, server):
    found = status(admin)

    mine = server_of_grace(admin)
    assert mine["state"] == "ready"
    assert mine["pid"] == server.pid
    assert mine["memory_bytes"] >= server.memory_info().rss / 2
    assert mine["processes"] == 1 + len(server.children(recursive=True))
    assert {each["name"]: each["role"] for each in found["users"]}["gh-ada"] == "admin"
    assert {each["name"]: each["servers"] for each in found["users"]}["gh-grace"] == 1
    assert 20e6 < found["hub_memory_bytes"] < found["memory_bytes"]


def test_the_memory_of_children_counts(hub, admin, server, member):
    before = server_of_grace(admin)
    token = member.api("/users/gh-grace/tokens", "POST", json={"note": "kernel", "expires_in": 600}).json()["token"]
    headers = {"Authorization": f"token {token}"}
    kernels = f"{hub.url}/user/gh-grace/api/kernels"
    made = httpx.post(kernels, json={}, headers=headers, trust_env=False, timeout=60)
    assert made.status_code == 201, made.text

    def has_grown() -> bool:
        return server_of_grace(admin)["memory_bytes"] > before["memory_bytes"] + 20e6

    wait_until(has_grown, 60, "the kernel's memory to count")
    assert server_of_grace(admin)["processes"] > before["processes"]
    programs = read_programs(hub.pid)
    assert (programs["server"].count, programs["kernel"].count) == (1, 1)
    assert programs["kernel"].memory_bytes > 20e6
    httpx.delete(f"{kernels}/{made.json()['id']}", headers=headers, trust_env=False, timeout=60).raise_for_status()


def server_of_grace(browser: Browser) -> dict:
    return next(each for each in status(browser)["servers"] if each["user"] == "gh-grace")


def test_the_status_has_what_workbench_status_tells_of_components(hub, admin):
    waiting = ComponentStatus(
        name="monitor", state=State.RUNNING, address="", reason="the store does not answer\n a log: <secret>"
    )
    running = ComponentStatus(name="kafka", state=State.RUNNING, address="127.0.0.1:9092", ready=True)
    assert status(admin)["components"] == []
    told = WorkbenchStatus(pid=os.getpid(), url=hub.url, components=(running, waiting))
    with locked(supervisor_lock(hub.home), waits=False) as is_ours:
        assert is_ours
        write_status(hub.home, told)
        found = {each["name"]: each for each in status(admin)["components"]}
        page = section(admin.get("/hub/status"), "components")

    assert (found["kafka"]["live"], found["kafka"]["ready"]) == (True, True)
    assert (found["monitor"]["live"], found["monitor"]["ready"]) == (True, False)
    assert found["monitor"]["reason"] == "the store does not answer"
    assert "<td>monitor</td><td>running</td><td>no</td>" in page
    assert "secret" not in page


def test_the_hub_says_to_everybody_that_it_lives_and_can_work_and_nothing_else(hub):
    for path, word in {"/hub/livez": "live", "/hub/readyz": "ready"}.items():
        with hub.browser() as nobody:
            answer = nobody.get(path)
        assert (answer.status_code, answer.text) == (200, word)


def test_the_page_says_the_same(admin, server):
    page = admin.get("/hub/status")

    assert page.status_code == 200
    assert "gh-grace" in section(page, "servers")
    assert re.search(r"\d+ MB", section(page, "servers"))
    assert "gh-ada" in section(page, "logins")
    assert "github" in section(page, "logins")


def section(page: httpx.Response, name: str) -> str:
    found = re.search(rf'<section[^>]* id="{name}">(.*?)</section>', page.text, re.DOTALL)
    assert found, page.text
    return found[1]


@pytest.mark.parametrize("path", ["/hub/status", "/hub/api/workbench/status"])
def test_others_do_not_see_it(hub, member, path):
    assert member.get(path, headers={"X-XSRFToken": member.xsrf()}).status_code == 403
    with hub.browser() as nobody:
        answer = nobody.get(path)
        assert answer.status_code in (302, 403)
        assert "gh-ada" not in answer.text


def test_who_was_off_boarded_and_then_deleted_is_still_shown(hub, admin):
    with hub.browser() as leaver:
        hub.provider.people.append(replace(hub.provider.person("grace"), login="leaver", number=4711))
        assert leaver.login("github", person="leaver").status_code == 200
    assert run("hub", "offboard", "gh-leaver", "--yes", home=hub.home, **hub.variables).returncode == 0
    before = status(admin)["people"]

    assert hub.api("/users/gh-leaver", "DELETE").status_code == 204

    assert status(admin)["people"] == before
    assert [each for each in status(admin)["users"] if each["name"] == "gh-leaver"] == [
        {"name": "gh-leaver", "role": "", "is_blocked": True, "servers": 0, "last_activity": ""}
    ]
    assert re.search(r"gh-leaver</td><td>off-boarded", section(admin.get("/hub/status"), "people"))
    listed = json.loads(run("hub", "users", "--json", home=hub.home, **hub.variables).stdout)
    assert "gh-leaver" in {each["name"] for each in listed if each["is_blocked"]}


def test_starts_and_stops_of_servers_are_in_the_audit_log(hub, member, server):
    assert member.api("/users/gh-grace/server", "DELETE").status_code in (202, 204)
    wait_until(lambda: not hub.has_running_server("gh-grace"), 60, "the server to be gone")

    log = AuditLog.of(hub.home).path
    wait_until(lambda: [*read_events(log, action=Action.SERVER_STOPPED)], 60, "the stop to be in the audit log")
    for action, outcomes in {Action.SERVER_STARTED: ["begun", "success"], Action.SERVER_STOPPED: ["success"]}.items():
        found = list(read_events(log, action=action))
        assert {each.resource for each in found} == {"server:gh-grace/"}
        assert [each.outcome for each in found] == outcomes


@pytest.mark.parametrize("path", ["/hub/login", "/hub/nowhere", "/hub/status", "/hub/accounts"])
def test_our_pages_have_no_script_and_no_inline_style(admin, hub, path):
    with hub.browser() as nobody:
        page = (nobody if path == "/hub/login" else admin).get(path)

    assert "Analytics workbench" in page.text
    assert "<script" not in page.text
    assert not re.search(r"\s(style|on[a-z]+)=", page.text)


def test_the_login_page_has_a_button_for_each_provider_and_fits_a_phone(hub):
    with hub.browser() as nobody:
        page = nobody.get("/hub/login", params={"next": "/hub/token"})

        assert re.findall(r'id="login-(\w+)"', page.text) == ["github", "google"]
        assert "next=%2Fhub%2Ftoken" in page.text
        assert 'content="width=device-width' in page.text
        sheet = re.search(r'href="([^"]*workbench\.css[^"]*)"', page.text)
        assert sheet
        style = nobody.get(sheet[1])
        assert style.status_code == 200
        assert style.headers["content-type"].startswith("text/css")


def test_only_our_style_is_served_from_its_folder(hub):
    with hub.browser() as nobody:
        for path in ("../status.py", "%2e%2e/status.py", "..%2fstatus.py", "/etc/passwd"):
            assert nobody.get(f"/hub/workbench/static/{path}").status_code in (403, 404)


def test_an_error_page_says_what_to_do(hub, member):
    with hub.browser() as nobody:
        assert "Sign in" in nobody.get("/hub/github/callback").text
        refused = nobody.login("github", person="mallory")
    assert refused.status_code == 403
    assert "another account" in refused.text
    assert "begin at home" in member.get("/hub/nowhere").text
    assert "Ask an administrator" in member.get("/hub/status").text


def test_what_somebody_writes_into_an_address_is_only_text(member):
    page = member.get("/hub/<script>alert(1)</script>")

    assert "<script>alert" not in page.text


@pytest.mark.parametrize("path", ["/hub/home", "/hub/token"])
def test_jupyterhubs_own_pages_have_our_navigation(admin, path):
    page = admin.get(path)

    assert page.status_code == 200
    assert 'href="/hub/accounts"' in page.text
    assert 'href="/hub/status"' in page.text


def test_who_is_no_administrator_is_not_led_to_the_status(member):
    assert 'href="/hub/status"' not in member.get("/hub/home").text


def test_the_monitor_reads_the_metrics_of_the_hub_and_may_do_nothing_else(hub):
    (target,) = [each for each in read_targets(hub.home) if each.job == "hub"]

    scraper, tally = Scraper(metrics_token(hub.home), is_wanted), Tally()
    found = scraper.scrape(target)
    assert tally.look((metric, labels, value) for (metric, labels), value in found.items()) == []
    with hub.browser() as nobody:
        for path in ("/hub/login", "/hub/nowhere", "/hub/health", "/hub/readyz"):
            nobody.get(path)
    counted = tally.look((metric, labels, value) for (metric, labels), value in scraper.scrape(target).items())

    assert {each.objective for each in counted} == {"response_time", "errors"}
    assert 2 <= counted[0].total == counted[1].good < 10, "probes are not counted"
    assert target.pid == hub.pid
    assert any(metric == "jupyterhub_request_duration_seconds_bucket" for metric, _ in found)
    with pytest.raises(ScrapeFailed, match="status 403"):
        Scraper(SecretStr("0" * 64), is_wanted).scrape(target)
    token = metrics_token(hub.home).get_secret_value()
    address = f"http://127.0.0.1:{hub.ports.hub_api}/hub/api"
    for path in ("/users", "/services", "/proxy", "/workbench/status"):
        assert httpx.get(f"{address}{path}", headers={"Authorization": f"Bearer {token}"}).status_code == 403


def test_uses_of_tokens_and_of_rights_are_counted(hub, admin):
    (target,) = [each for each in read_targets(hub.home) if each.job == "hub"]

    def counted() -> list[float]:
        found = Scraper(metrics_token(hub.home), is_wanted).scrape(target)
        used = [
            found["workbench_auth_tokens_used_total", labels_of({"job": "hub", "kind": each})]
            for each in ("user", "service")
        ]
        rights = "workbench_authorization_attempts_total"
        return [*used, found[rights, labels_of({"job": "hub", "service": "hub", "outcome": "refused"})]]

    made = admin.api("/users/gh-ada/tokens", "POST", json={"expires_in": 60}).json()["token"]
    address, before = f"http://127.0.0.1:{hub.ports.hub_api}/hub/api", counted()
    for token, status in ((made, 200), (metrics_token(hub.home).get_secret_value(), 403), ("0" * 64, 403)):
        assert httpx.get(f"{address}/users", headers={"Authorization": f"Bearer {token}"}).status_code == status

    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 1, 2]
