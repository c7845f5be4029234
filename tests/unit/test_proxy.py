"""What the proxy is started with: (settings, ports) → configuration, without a proxy."""

from __future__ import annotations

import stat
from types import SimpleNamespace

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from traitlets.config import Config

from hub.addresses import HubPorts, bind_url, local_url, public_url, subdomain_host
from hub.components import contribute
from hub.headers import cookie_options, policies, security_headers
from hub.hop import HEADER, address_of_peers
from hub.proxy import FILES, WorkbenchProxy, dynamic_config, set_proxy, static_config
from workbench.runtime.ports import any_free
from workbench.settings import Settings

PORTS = HubPorts(proxy=8000, hub_api=8081, proxy_api=8099, identity=8098)
HTTPS = HubPorts(proxy=443, hub_api=8081, proxy_api=8099, identity=8098)
REAL = {
    "OAUTH2_ENABLED_PROVIDERS": "github",
    "OAUTH2_STATE_SECRET": "state-secret",
    "GITHUB_CLIENT_ID": "id",
    "GITHUB_CLIENT_SECRET": "client-secret",
    "WORKBENCH_HUB_HOST": "0.0.0.0",
    "WORKBENCH_HUB_SPAWNER": "local",
}
ACME = REAL | {
    "WORKBENCH_HUB_TLS": "acme",
    "WORKBENCH_HUB_ACME_MAIL": "ops@example.com",
    "WORKBENCH_HUB_PUBLIC_URL": "https://hub.example.com",
}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Settings of a home of the test's own, with these variables."""

    def loaded(variables: dict[str, str] | None = None) -> Settings:
        monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
        for name, value in (variables or {}).items():
            monkeypatch.setenv(name, value)
        return Settings.load()

    return loaded


def proxied(settings: Settings, ports: HubPorts = PORTS) -> Config:
    c = Config()
    set_proxy(c, settings, ports)
    return c


@pytest.mark.parametrize(
    ("variables", "port", "url"),
    [
        ({}, 8000, "http://127.0.0.1:8000"),
        ({"WORKBENCH_HUB_TLS": "generated"}, 8000, "https://127.0.0.1:8000"),
        ({"WORKBENCH_HUB_TLS": "generated"}, 443, "https://127.0.0.1"),
        ({"WORKBENCH_HUB_HOST": "::1"}, 80, "http://[::1]"),
        ({"WORKBENCH_HUB_PUBLIC_URL": "https://Hub.Example.com:443/"}, 8000, "https://hub.example.com"),
        ({"WORKBENCH_HUB_PUBLIC_URL": "https://hub.example.com:8443"}, 8000, "https://hub.example.com:8443"),
    ],
)
def test_the_public_address_is_an_origin_as_browsers_write_it(load, variables, port, url):
    ports = HubPorts(proxy=port, hub_api=1, proxy_api=2, identity=3)

    assert public_url(load(variables), ports) == url


def test_a_hub_on_every_address_is_probed_on_loopback(load):
    settings = load(REAL | {"WORKBENCH_HUB_TLS": "generated", "WORKBENCH_HUB_PUBLIC_URL": "https://hub.example.com"})

    assert bind_url(settings, PORTS) == "https://0.0.0.0:8000"
    assert local_url(settings, PORTS) == "https://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("url", "hsts"),
    [
        ("https://hub.example.com", True),
        ("https://hub.example.com:8443", True),
        ("http://hub.example.com", False),
        ("https://127.0.0.1:8000", False),
        ("https://localhost", False),
        ("https://[::1]:8000", False),
    ],
)
def test_hsts_is_for_https_and_spares_the_other_programs_of_a_persons_machine(url, hsts):
    assert ("Strict-Transport-Security" in security_headers(url)) is hsts


@pytest.mark.parametrize(
    ("variables", "secure"),
    [
        ({}, False),
        ({"WORKBENCH_HUB_TLS": "generated"}, True),
        ({"WORKBENCH_HUB_PUBLIC_URL": "https://hub.example.com"}, True),
    ],
)
def test_cookies_are_secure_wherever_browsers_come_by_https(load, variables, secure):
    options = cookie_options(load(variables))

    assert options["samesite"] == "Lax"
    assert options.get("secure", False) is secure


def test_the_policies_open_no_more_than_lab_needs(load):
    found = policies(load(), "https://hub.example.com")

    assert "'unsafe-eval'" not in found["hub-policy"]
    assert "connect-src 'self' wss://hub.example.com;" in found["server-policy"]
    assert found["files-policy"] == f"{found['server-policy']}; sandbox allow-scripts"
    assert all("frame-ancestors 'none'" in policy for policy in found.values())


def test_without_tls_traefik_has_no_certificates(load):
    c = proxied(load())

    assert "tls" not in c.TraefikProxy.extra_dynamic_config
    assert "tls" not in c.TraefikProxy.extra_static_config["entryPoints"]["public"]["http"]
    assert c.JupyterHub.bind_url == "http://127.0.0.1:8000"
    assert "ssl_cert" not in c.JupyterHub
    assert "subdomain_host" not in c.JupyterHub


def test_a_generated_certificate_is_private_and_given_to_the_proxy(load):
    settings = load({"WORKBENCH_HUB_TLS": "generated"})
    c = proxied(settings)

    folder = settings.home / "keys" / "hub"
    assert c.JupyterHub.ssl_cert == c.JupyterHub.ssl_key == str(folder / "server.pem")
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    options = c.TraefikProxy.extra_dynamic_config["tls"]["options"]["default"]
    assert options["minVersion"] == "VersionTLS12"
    assert all(cipher.startswith("TLS_ECDHE_") and "CBC" not in cipher for cipher in options["cipherSuites"])


def test_own_files_are_given_to_the_proxy_as_they_are(load, tmp_path):
    certificate, key = tmp_path / "hub.crt", tmp_path / "hub.key"
    for file in (certificate, key):
        file.touch()
    variables = {"TLS": "files", "TLS_CERTIFICATE_FILE": str(certificate), "TLS_KEY_FILE": str(key)}
    c = proxied(load({f"WORKBENCH_HUB_{name}": value for name, value in variables.items()}))

    assert (c.JupyterHub.ssl_cert, c.JupyterHub.ssl_key) == (str(certificate), str(key))


def test_acme_asks_for_the_public_name_and_sends_http_to_https(load):
    settings = load(ACME | {"WORKBENCH_HUB_ACME_SERVER": "https://127.0.0.1:14000/dir"})
    config = static_config(settings, HTTPS)

    public, plain = config["entryPoints"]["public"]["http"], config["entryPoints"]["plain"]
    assert public["tls"]["domains"] == [{"main": "hub.example.com"}]
    resolver = config["certificatesResolvers"][public["tls"]["certResolver"]]["acme"]
    assert resolver["email"] == "ops@example.com"
    assert resolver["caServer"] == "https://127.0.0.1:14000/dir"
    assert resolver["storage"].startswith(str(settings.home / "keys"))
    assert plain["address"] == "0.0.0.0:80"
    assert plain["http"]["redirections"]["entryPoint"]["scheme"] == "https"
    assert plain["http"]["middlewares"] == ["security@file"]


def test_acme_on_another_port_leaves_port_80_alone(load):
    config = static_config(load(ACME), PORTS)

    assert list(config["entryPoints"]) == ["public"]
    assert "caServer" not in config["certificatesResolvers"]["acme"]["acme"]


def test_with_subdomains_each_user_has_an_origin_and_a_cookie_that_only_the_hub_can_set(load):
    variables = {
        "WORKBENCH_HUB_TLS": "generated",
        "WORKBENCH_HUB_PUBLIC_URL": "https://hub.example.com",
        "WORKBENCH_HUB_SUBDOMAINS": "true",
    }
    settings = load(variables)
    c = proxied(settings)

    assert subdomain_host(settings, PORTS) == c.JupyterHub.subdomain_host == "https://hub.example.com"
    assert c.JupyterHub.cookie_host_prefix_enabled is True
    assert "wss://*.hub.example.com" in policies(settings, "https://hub.example.com")["server-policy"]


def test_trusted_origins_take_the_place_of_our_own(load):
    trusted = load({"WORKBENCH_HUB_CORS_ORIGINS": "https://app.example.com"})

    origins = dynamic_config(trusted, PORTS, "hop")["http"]["middlewares"]["cors"]["headers"][
        "accessControlAllowOriginList"
    ]

    assert origins == ["https://app.example.com"]


@pytest.mark.parametrize("route", ["/user/gh-ada/", "gh-ada.hub.example.com/user/gh-ada/"])
def test_the_files_of_a_user_have_a_route_that_comes_first_and_goes_with_the_others(route):
    proxy = WorkbenchProxy(should_start=True)

    config, _ = proxy._dynamic_config_for_route(route, "http://127.0.0.1:1", {"user": "gh-ada"})
    keys, _ = proxy._keys_for_route(route)

    everything, files = sorted(config["http"]["routers"].values(), key=lambda router: router["priority"])
    assert everything["middlewares"] == ["server-policy", "cors"]
    assert files["middlewares"] == ["files-policy", "cors"]
    assert all(f"PathPrefix(`/user/gh-ada/{name}/`)" in files["rule"] for name in FILES)
    removed = {key[-1] for key in keys}
    assert {*config["http"]["routers"], *config["http"]["services"]} == removed


def test_the_hub_and_its_services_keep_to_the_plans_policy():
    proxy = WorkbenchProxy(should_start=True)

    for route in ("/", "/services/status/"):
        routers = proxy._dynamic_config_for_route(route, "http://127.0.0.1:1", {})[0]["http"]["routers"].values()
        reads, writes = sorted(routers, key=lambda router: router["priority"])
        assert reads["middlewares"] == ["hub-policy", "cors"]
        assert writes["middlewares"] == ["hub-policy", "cors", "hub-size"]
        assert "Method(`POST`)" in writes["rule"]


def test_the_secret_of_the_proxy_goes_to_the_hub_alone(load):
    config = proxied(load())
    middlewares = config.TraefikProxy.extra_dynamic_config["http"]["middlewares"]
    secret = middlewares["hop"]["headers"]["customRequestHeaders"][HEADER]
    proxy = WorkbenchProxy(should_start=True)

    assert len(secret) > 40
    assert secret not in repr(config.JupyterHub.tornado_settings)
    for route, data in (("/", {"hub": True}), ("/user/ada/", {"user": "ada"}), ("/services/x/", {"service": "x"})):
        routers = proxy._dynamic_config_for_route(route, "http://127.0.0.1:1", data)[0]["http"]["routers"].values()
        assert [("hop" in each["middlewares"]) for each in routers] == ["hub" in data] * 2


@pytest.mark.parametrize(("sent", "address"), [("secret", "6.6.6.6"), ("other", "127.0.0.1"), ("", "127.0.0.1")])
def test_only_what_the_proxy_sends_says_from_where_it_comes(sent, address):
    connection = SimpleNamespace(
        context=SimpleNamespace(address=("127.0.0.1", 1), remote_ip="6.6.6.6", protocol="http")
    )
    headers = HTTPHeaders({"Host": "localhost", **({HEADER: sent} if sent else {})})
    request = HTTPServerRequest(
        start_line=RequestStartLine("GET", "/", "HTTP/1.1"), headers=headers, connection=connection
    )

    address_of_peers("secret")(request)

    assert request.remote_ip == address
    assert HEADER not in request.headers


@pytest.mark.parametrize("route", ["/services/pipelines/", "pipelines--service.hub.example.com/services/pipelines/"])
def test_the_page_of_pipelines_keeps_its_own_policies(route):
    routers = WorkbenchProxy(should_start=True)._dynamic_config_for_route(route, "http://127.0.0.1:1", {})[0]["http"][
        "routers"
    ]

    reads, writes = sorted(routers.values(), key=lambda router: router["priority"])
    assert (reads["middlewares"], writes["middlewares"]) == (["cors"], ["cors", "hub-size"])


@pytest.mark.parametrize(
    ("variables", "target"),
    [
        ({}, "http://127.0.0.1:8000/${1}"),
        ({"WORKBENCH_HUB_TLS": "generated", "WORKBENCH_HUB_HOST": "::1"}, "https://[::1]:8000/${1}"),
        ({"WORKBENCH_HUB_PUBLIC_URL": "http://localhost:8000"}, ""),
        ({"WORKBENCH_HUB_PUBLIC_URL": "https://hub.example.com"}, ""),
    ],
)
def test_localhost_leads_to_the_address_that_is_printed_when_that_is_a_number_of_loopback(load, variables, target):
    found = dynamic_config(load((REAL if "example" in str(variables) else {}) | variables), PORTS, "hop")["http"]

    assert ("localhost" in found["routers"]) is bool(target)
    assert found["middlewares"].get("printed-address", {}).get("redirectRegex", {}).get("replacement", "") == target


def test_the_supervisor_trusts_the_generated_certificate_and_asks_no_authority(load):
    settings = load({"WORKBENCH_HUB_TLS": "generated"})

    hub = contribute(settings).components[-1]

    assert hub.probe.startswith("https://127.0.0.1:")
    assert hub.trusted == settings.home / "keys" / "hub" / "ca.pem"


def test_until_an_authority_has_signed_the_supervisor_asks_the_hub_itself(load):
    settings = load(ACME | {"WORKBENCH_HUB_PORT": str(any_free())})

    hub = contribute(settings).components[-1]

    assert hub.probe.startswith("http://127.0.0.1:")
    assert hub.trusted is None
