"""TLS at the proxy, and what has to pass through it: WebSockets, large files, and users on origins of their own."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import uuid
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.request import Request

import httpx
import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from hub.addresses import HubPorts
from hub.components import contribute
from hub.proxy import dynamic_config, ensure_hub_certificates, static_config
from tests.conftest import needs
from tests.services.certificates import Authority
from tests.services.proxied_hub import NAME, ProxiedHub, running_hub
from tests.services.workbench import wait_until
from workbench.security import certificates
from workbench.settings import Settings

MEGABYTE = 1024 * 1024
LARGE_MEGABYTES = 100
ANSWER_SECONDS = 60


@pytest.fixture(scope="module")
def hub(encrypted_hub):
    return encrypted_hub


@pytest.fixture
def lab(hub):
    """Ada's browser, in her server."""
    with hub.client() as client:
        hub.log_in(client)
        assert client.get("/user/gh-ada/lab", follow_redirects=True).status_code == 200
        xsrf = next(each.value for each in client.cookies.jar if (each.name, each.path) == ("_xsrf", "/user/gh-ada/"))
        client.headers["X-XSRFToken"] = str(xsrf)
        yield client


def handshake(port: int, context: ssl.SSLContext, name: str = NAME) -> ssl.SSLSocket:
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as it,
    ):
        return it


def test_the_certificate_is_good_for_the_hubs_name_and_for_loopback_only(hub):
    for name in (NAME, "localhost", "127.0.0.1"):
        handshake(hub.ports.proxy, hub.trust, name)

    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(hub.ports.proxy, hub.trust, "evil.example")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get"):
        handshake(hub.ports.proxy, ssl.create_default_context())


def shown(hub: ProxiedHub) -> bytes:
    """The certificate that the proxy shows, as PEM."""
    return ssl.get_server_certificate(("127.0.0.1", hub.ports.proxy)).encode()


def test_a_certificate_is_renewed_while_it_runs_and_open_connections_stay(hub, monkeypatch):
    monkeypatch.setattr(certificates, "RENEW_BEFORE_DAYS", certificates.SERVER_DAYS + 1)
    before = shown(hub)
    with hub.client() as client:
        assert client.get("/hub/health").status_code == 200
        (connection,) = client._transport._pool.connections

        monkeypatch.setenv("WORKBENCH_HUB_TLS", "generated")
        monkeypatch.setenv("WORKBENCH_HUB_PUBLIC_URL", hub.url)
        monkeypatch.setenv("WORKBENCH_HOME", str(hub.home))
        files = ensure_hub_certificates(Settings.load(), hub.ports)

        wait_until(lambda: shown(hub) != before, 20, "another certificate to be shown")
        assert shown(hub) in files.server.read_bytes()
        handshake(hub.ports.proxy, hub.trust)
        assert client.get("/hub/health").status_code == 200
        assert client._transport._pool.connections == [connection]


@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES128-SHA:AES256-SHA:AES128-GCM-SHA256:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0"),
    ],
    ids=["TLS 1.1", "no forward secrecy", "no authenticated encryption"],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_old_tls_is_refused(hub, version, ciphers):
    context = hub.trust
    context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = version

    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        handshake(hub.ports.proxy, context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_todays_tls_is_spoken(hub, version):
    context = hub.trust
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])

    with (
        socket.create_connection(("127.0.0.1", hub.ports.proxy), 10) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as connection,
    ):
        assert connection.version() == version.name.replace("_", ".")
        assert connection.selected_alpn_protocol() == "h2"


def test_http_2_carries_the_headers_too(hub):
    needs(shutil.which("curl") is not None, "curl")
    command = ["curl", "-sSi", "--http2", "--noproxy", "*", "--cacert", str(hub.authority)]
    place = ["--resolve", f"{NAME}:{hub.ports.proxy}:127.0.0.1", f"{hub.url}/hub/login"]

    answer = subprocess.run([*command, *place], capture_output=True, text=True, check=True, timeout=30).stdout.lower()

    assert answer.startswith("http/2 200")
    assert "strict-transport-security: max-age=31536000" in answer
    assert "x-content-type-options: nosniff" in answer
    assert "\nserver:" not in answer


def test_the_supervisors_probe_trusts_this_certificate_and_no_other(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WORKBENCH_HUB_TLS", "generated")
    component = contribute(Settings.load()).components[-1]
    probe = f"https://127.0.0.1:{hub.ports.proxy}/hub/health"

    assert dataclasses.replace(component, probe=probe, trusted=hub.authority).is_healthy()
    assert not dataclasses.replace(component, probe=probe).is_healthy()


def test_own_files_are_served_and_trusted_by_the_probe(tmp_path, monkeypatch):
    pair = Authority(tmp_path, "company").issue("hub", host=NAME)
    files = {"CERTIFICATE_FILE": str(pair.certificate), "KEY_FILE": str(pair.key)}
    variables = {f"WORKBENCH_HUB_TLS_{name}": value for name, value in files.items()}
    home = tmp_path / "home"

    with running_hub(home, tls="files", authority=tmp_path / "company.pem", **variables) as running:
        for name, value in (variables | {"WORKBENCH_HOME": str(home), "WORKBENCH_HUB_TLS": "files"}).items():
            monkeypatch.setenv(name, value)
        component = contribute(Settings.load()).components[-1]
        probe = f"https://127.0.0.1:{running.ports.proxy}/hub/health"
        assert dataclasses.replace(component, probe=probe).is_healthy()

        first = shown(running)
        (tmp_path / "other").mkdir()
        other = Authority(tmp_path / "other", "company").issue("hub", host=NAME)
        shutil.copy(other.certificate, pair.certificate)  # its key is not there yet
        wait_until(lambda: "are no pair that can be shown" in running.log, 20, "the halves to be told")
        assert shown(running) == first
        shutil.copy(other.key, pair.key)
        wait_until(lambda: shown(running) != first, 20, "the new files to be shown")
        assert shown(running) in other.certificate.read_bytes()


def test_traefik_takes_the_configuration_for_acme_and_asks_the_authority(tmp_path):
    nobody = "https://127.0.0.1:1/directory"
    variables = {"WORKBENCH_HUB_ACME_MAIL": "ops@example.com", "WORKBENCH_HUB_ACME_SERVER": nobody}

    with running_hub(tmp_path / "home", tls="acme", **variables) as running:
        wait_until(lambda: f"cannot get ACME client get directory at '{nobody}'" in running.log, 30, "traefik to ask")
        storage = running.home / "keys" / "acme.json"
        assert stat.S_IMODE(storage.stat().st_mode) == 0o600
        assert "field not found" not in running.log


def test_a_large_file_goes_up_in_pieces_and_comes_down_whole(lab):
    digest, path = hashlib.sha256(), "/user/gh-ada/api/contents/large.bin"
    for number in range(1, LARGE_MEGABYTES + 1):
        piece = os.urandom(MEGABYTE)
        digest.update(piece)
        body = {"type": "file", "format": "base64", "content": base64.b64encode(piece).decode()}
        # As JupyterLab counts them: the last one is -1.
        chunk = number if number < LARGE_MEGABYTES else -1
        assert lab.put(path, json=body | {"chunk": chunk}).status_code in (200, 201)

    with lab.stream("GET", "/user/gh-ada/files/large.bin?download=1") as answer:
        came = hashlib.sha256()
        for part in answer.iter_bytes():
            came.update(part)

    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == LARGE_MEGABYTES * MEGABYTE
    assert came.digest() == digest.digest()
    assert "sandbox" in answer.headers["content-security-policy"]


def test_a_large_file_goes_up_in_one_request(lab):
    content = base64.b64encode(os.urandom(LARGE_MEGABYTES * MEGABYTE)).decode()
    body = {"type": "file", "format": "base64", "content": content}

    answer = lab.put("/user/gh-ada/api/contents/whole.bin", json=body, timeout=120)

    assert answer.status_code == 201
    assert answer.json()["size"] == LARGE_MEGABYTES * MEGABYTE


def test_terminals_work(hub, lab):
    name = lab.post("/user/gh-ada/api/terminals").json()["name"]

    async def talk() -> str:
        socket = await connected(hub, lab, f"/user/gh-ada/terminals/websocket/{name}")
        await socket.write_message(json.dumps(["stdin", "echo $((6*7))-done\r"]))
        text = ""
        while "42-done" not in text:
            message = await asyncio.wait_for(socket.read_message(), ANSWER_SECONDS)
            text += "".join(str(part) for part in json.loads(message))
        await closed(socket)
        return text

    assert "42-done" in asyncio.run(talk())


def test_kernels_work(hub, lab):
    kernel = lab.post("/user/gh-ada/api/kernels", json={"name": "python3"}).json()["id"]

    async def talk() -> str:
        socket = await connected(hub, lab, f"/user/gh-ada/api/kernels/{kernel}/channels")
        await socket.write_message(json.dumps(execute_request("print('x' * 500_000)")))
        text = ""
        while len(text) < 500_000:
            message = json.loads(await asyncio.wait_for(socket.read_message(), ANSWER_SECONDS))
            if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
                text += message["content"]["text"].strip()
        await closed(socket)
        return text

    assert set(asyncio.run(talk())) == {"x"}


def execute_request(code: str) -> dict[str, object]:
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": "s",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    return {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}


async def connected(hub: ProxiedHub, lab: httpx.Client, path: str) -> WebSocketClientConnection:
    """A WebSocket with what a browser sends; the switch of protocols carries the headers as well."""
    origin = hub.url.replace(NAME, "127.0.0.1")
    headers = {"Cookie": lab.build_request("GET", path).headers["cookie"], "Origin": origin}
    url = f"{origin.replace('https', 'wss', 1)}{path}"
    request = HTTPRequest(url, headers=headers, ssl_options=hub.trust, connect_timeout=ANSWER_SECONDS)
    return await websocket_connect(request, max_message_size=100 * MEGABYTE)


async def closed(socket: WebSocketClientConnection) -> None:
    """Say goodbye and wait until the other side has: a loop that ends before leaves the connection open."""
    socket.close()
    while await asyncio.wait_for(socket.read_message(), ANSWER_SECONDS) is not None:
        pass


def test_with_subdomains_a_users_server_is_another_origin_and_the_hubs_cookie_stays_at_home(subdomain_hub):
    running = subdomain_hub
    with running.client() as client:
        running.log_in(client)
        running.start_server()
        answer = client.get("/user/gh-ada/lab", follow_redirects=True)
        files = f"https://gh-ada.{NAME}:{running.ports.proxy}/user/gh-ada/files/00-start-here.ipynb"
        policy = client.get(files).headers["content-security-policy"]
        sent, sent_home = browsers_cookies(client, files), browsers_cookies(client, f"{running.url}/hub/home")
    assert answer.status_code == 200
    assert answer.url.host == f"gh-ada.{NAME}"
    assert "/user/gh-ada/lab" in answer.url.path
    assert f"wss://*.{NAME}" in answer.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "__Host-jupyterhub-user-gh-ada=" in sent
    assert "hub-login" not in sent
    assert "__Host-jupyterhub-hub-login=" in sent_home
    assert "jupyterhub-user-gh-ada" not in sent_home


def browsers_cookies(client: httpx.Client, url: str) -> str:
    """What a browser sends there of the client's cookies; httpx sends those of a host to its subdomains too."""
    jar = CookieJar(DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain))
    for cookie in client.cookies.jar:
        jar.set_cookie(cookie)
    request = Request(url)
    jar.add_cookie_header(request)
    return request.get_header("Cookie") or ""


def test_a_hub_without_tls_is_told_nothing_about_it(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    settings, ports = Settings.load(), HubPorts(proxy=1, hub_api=2, proxy_api=3, identity=4)

    text = json.dumps([static_config(settings, ports), dynamic_config(settings, ports, "hop")])

    assert not re.search(r"Strict-Transport|tls|wss:", text)
