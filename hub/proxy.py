"""Traefik in front of everything that a browser sees: TLS, security headers and CORS, whoever made the response.

A user's server belongs to its user, who can make it say anything. So what protects others is put on here,
over whatever the server said.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import bcrypt
from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy
from jupyterhub_traefik_proxy.traefik_utils import generate_alias
from tornado.ioloop import PeriodicCallback
from traitlets import Any as AnyTrait
from traitlets import default

from hub.addresses import HubPorts, bind_url, public_host, public_url, subdomain_host
from hub.certificate import CertificateWatch
from hub.headers import cookie_options, cors, policies, security_headers
from hub.hop import HEADER, address_of_peers
from hub.services import PREFIX as PIPELINES
from workbench.logs.requests import RequestIds
from workbench.sections import is_loopback
from workbench.security.certificates import LOOPBACK_HOSTS, CertificateFiles, ensure_certificates
from workbench.security.secrets import ensure_token, private_folder
from workbench.settings import Settings

ENTRY_POINT = "public"
HTTPS_PORT = 443
LOOK_SECONDS = 60  #: between two looks at the certificate
FILES = ("files", "nbconvert", "kernelspecs")  #: where a user's server shows what people have put there
WRITES = ("POST", "PUT", "PATCH", "DELETE")
# Cookies and callbacks belong to the address that is printed. Programs with a token need neither, and follow no redirect.
PAGES_OF_LOCALHOST = "Host(`localhost`) && (Method(`GET`) || Method(`HEAD`)) && !HeaderRegexp(`Authorization`, `.`)"
ANY_ORIGIN = "^[^:]+://[^/]+/(.*)"
FIRST = 1_000_000  #: priority of what comes before any route
LARGEST_FORM_BYTES = 1_000_000  #: of what is sent to the hub; users' servers take files of any size
NOWHERE: dict[str, Any] = {
    "rule": "PathPrefix(`/`)",
    "priority": 1,
    "service": "nowhere",
    "entryPoints": [ENTRY_POINT],
    "middlewares": ["hub-policy"],
}
# The forward-secret ones with authenticated encryption; TLS 1.3 has no others.
CIPHERS = [
    *("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    *("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    *("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
]


class WorkbenchProxy(TraefikFileProviderProxy):  # type: ignore[misc] # traefik-proxy has no types
    """Traefik, with the policy of a route chosen by what is behind it, and a certificate that is renewed as it runs."""

    certificate = AnyTrait(help="the CertificateWatch of what is shown; None without files", config=True)

    async def start(self) -> None:
        """Start traefik, and look at its certificate from then on."""
        if self.certificate is not None:
            self.certificate.look()
        await super().start()
        if self.certificate is not None:
            PeriodicCallback(self._look_at_certificate, LOOK_SECONDS * 1000).start()

    async def _look_at_certificate(self) -> None:
        if self.certificate.look():
            # Traefik reads the certificate along with the file that names it.
            async with self.mutex:
                self._persist_dynamic_config()
            self.log.info("the proxy's certificate is another one now; it is shown from here on")

    @default("dynamic_config")  # type: ignore[untyped-decorator] # traitlets has no types
    def _load_dynamic_config(self) -> dict[str, Any]:
        # Nothing of an earlier run, whose settings may have been others. The hub adds the routes of running servers.
        return {"http": {"services": {}, "routers": {}}, "jupyterhub": {"routes": {}}}

    def _dynamic_config_for_route(self, routespec: str, target: str, data: dict[str, Any]) -> tuple[Any, Any]:
        config, known = super()._dynamic_config_for_route(routespec, target, data)
        routers = config["http"]["routers"]
        (router,) = routers.values()
        # The longest route wins, whatever its rule looks like.
        router["priority"] = 10 * len(routespec)
        # Nobody else is told the secret, least of all somebody's server.
        policy = [*_policy_of(routespec), *(["hop"] if data.get("hub") else [])]
        router["middlewares"] = [*policy, "cors"]
        if _is_users(routespec):
            prefix = routespec[routespec.index("/") :]
            rule = " || ".join(f"PathPrefix(`{prefix}{name}/`)" for name in FILES)
            middlewares = ["files-policy", "cors"]
        else:
            # By method: to bound a request, traefik holds back the whole answer, and the hub's pages are told of progress.
            rule = " || ".join(f"Method(`{method}`)" for method in WRITES)
            middlewares = [*policy, "cors", "hub-size"]
        routers[_special_alias(routespec)] = router | {
            "rule": f"{router['rule']} && ({rule})",
            "priority": router["priority"] + 1,
            "middlewares": middlewares,
        }
        return config, known

    def _keys_for_route(self, routespec: str) -> tuple[Any, Any]:
        keys, known = super()._keys_for_route(routespec)
        return (*keys, ["http", "routers", _special_alias(routespec)]), known


def set_proxy(c: Any, settings: Settings, ports: HubPorts) -> None:
    """Traefik and what it is started with; where browsers reach it, and which cookies they are given."""
    folder = private_folder(settings.home / "hub")
    c.JupyterHub.bind_url = bind_url(settings, ports)
    if settings.hub.public_url:
        c.JupyterHub.public_url = f"{public_url(settings, ports)}/"
    hop = secrets.token_urlsafe(32)  # as old as both processes: the hub starts the proxy
    transforms = [address_of_peers(hop), RequestIds]
    c.JupyterHub.tornado_settings = {"cookie_options": cookie_options(settings), "transforms": transforms}
    c.JupyterHub.proxy_class = WorkbenchProxy
    c.TraefikFileProviderProxy.static_config_file = str(folder / "traefik.toml")
    c.TraefikFileProviderProxy.dynamic_config_file = str(folder / "routes.toml")
    c.TraefikProxy.traefik_entrypoint = ENTRY_POINT
    c.TraefikProxy.traefik_api_url = f"http://127.0.0.1:{ports.proxy_api}"
    c.TraefikProxy.traefik_api_username = "hub"
    password = ensure_token(settings.home / "keys" / "proxy-api")
    c.TraefikProxy.traefik_api_password = password
    # Traefik compares it at every request. Nobody guesses 256 random bits, however fast the hash is.
    c.TraefikProxy.traefik_api_hashed_password = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    c.TraefikProxy.extra_static_config = static_config(settings, ports)
    c.TraefikProxy.extra_dynamic_config = dynamic_config(settings, ports, hop)
    if settings.hub.tls == "generated":
        server = ensure_hub_certificates(settings, ports).server
        _show(c, server, server, partial(ensure_hub_certificates, settings, ports))
    elif settings.hub.tls == "files":
        assert settings.hub.tls_certificate_file
        assert settings.hub.tls_key_file
        _show(c, settings.hub.tls_certificate_file, settings.hub.tls_key_file)
    if settings.hub.subdomains:
        c.JupyterHub.subdomain_host = subdomain_host(settings, ports)
        # Such a cookie is sent to one origin alone, and no other origin can set it. It needs https.
        c.JupyterHub.cookie_host_prefix_enabled = settings.hub.is_encrypted


def _show(c: Any, certificate: Path, key: Path, *renew: Callable[[], object]) -> None:
    c.JupyterHub.ssl_cert, c.JupyterHub.ssl_key = str(certificate), str(key)
    c.WorkbenchProxy.certificate = CertificateWatch(certificate, key, *renew)


def ensure_hub_certificates(settings: Settings, ports: HubPorts) -> CertificateFiles:
    """The hub's authority and its certificate, for `generated`: for loopback, and where people reach the hub."""
    host = public_host(settings, ports)
    hosts = {*LOOPBACK_HOSTS, settings.hub.host, host, *([f"*.{host}"] if settings.hub.subdomains else [])}
    return ensure_certificates(settings.home / "keys" / "hub", hosts=hosts, owner="hub")


def static_config(settings: Settings, ports: HubPorts) -> dict[str, Any]:
    """What traefik reads once: where it listens, and where it gets certificates."""
    public: dict[str, Any] = {"http": {"middlewares": ["security@file"]}}
    config: dict[str, Any] = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {ENTRY_POINT: public},
    }
    if settings.hub.tls == "off":
        return config
    public["http"]["tls"] = {"options": "default"}
    if settings.hub.tls == "acme":
        public["http"]["tls"] |= {"certResolver": "acme"}
        if not settings.hub.subdomains:
            # Else the names are those of the routes, one certificate each.
            public["http"]["tls"] |= {"domains": [{"main": public_host(settings, ports)}]}
        config["certificatesResolvers"] = {"acme": {"acme": _authority(settings)}}
        # Who may listen on 443 may listen on 80.
        if ports.proxy == HTTPS_PORT and not is_loopback(settings.hub.host):
            target = {"to": ENTRY_POINT, "scheme": "https", "permanent": True}
            config["entryPoints"]["plain"] = {
                "address": bind_url(settings, ports).removeprefix("https://").replace(f":{HTTPS_PORT}", ":80"),
                "http": {"middlewares": ["security@file"], "redirections": {"entryPoint": target}},
            }
    return config


def dynamic_config(settings: Settings, ports: HubPorts, hop: str) -> dict[str, Any]:
    """What traefik reads again and again: headers, TLS, and the answer to what nobody else answers.

    Args:
        settings: of the workbench.
        ports: of the hub.
        hop: the secret by which the hub knows what came through this proxy.
    """
    url = public_url(settings, ports)
    # A trusted origin's preflight is answered by `cors`, so that headers are put on outside of it.
    middlewares = {
        # tornado believes X-Scheme, which traefik leaves as a client has sent it.
        "security": _stamp(security_headers(url), removed_from_requests=("X-Scheme",)),
        "cors": {"headers": cors(settings, url)},
        "hop": {"headers": {"customRequestHeaders": {HEADER: hop}}},
        "hub-size": {"buffering": {"maxRequestBodyBytes": LARGEST_FORM_BYTES}},
        **{name: _stamp({"Content-Security-Policy": each}) for name, each in policies(settings, url).items()},
    }
    routers = {"nowhere": NOWHERE}
    host = public_host(settings, ports)
    if is_loopback(host) and host != "localhost":
        middlewares["printed-address"] = {"redirectRegex": {"regex": ANY_ORIGIN, "replacement": f"{url}/${{1}}"}}
        own = {"rule": PAGES_OF_LOCALHOST, "priority": FIRST, "middlewares": ["printed-address"]}
        routers["localhost"] = NOWHERE | own
    config: dict[str, Any] = {
        "http": {
            "middlewares": middlewares,
            "routers": routers,
            "services": {"nowhere": {"loadBalancer": {"servers": []}}},
        }
    }
    if settings.hub.tls != "off":
        config["tls"] = {"options": {"default": {"minVersion": "VersionTLS12", "cipherSuites": CIPHERS}}}
    return config


def _authority(settings: Settings) -> dict[str, Any]:
    server = settings.hub.acme_server
    return {
        "email": settings.hub.acme_mail,
        "storage": str(private_folder(settings.home / "keys") / "acme.json"),
        "tlsChallenge": {},
        **({"caServer": server} if server else {}),
    }


def _stamp(headers: dict[str, str], removed_from_requests: tuple[str, ...] = ()) -> dict[str, Any]:
    removed = {"customRequestHeaders": dict.fromkeys(removed_from_requests, "")} if removed_from_requests else {}
    return {"headers": {"customResponseHeaders": headers, **removed}}


def _policy_of(routespec: str) -> list[str]:
    if _is_users(routespec):
        return ["server-policy"]
    # Ours: it runs as the hub does, and has a stricter policy for its pages and another for what people have put out.
    return [] if routespec.endswith(PIPELINES) else ["hub-policy"]


def _is_users(routespec: str) -> bool:
    return "/user/" in routespec


def _special_alias(routespec: str) -> str:
    return str(generate_alias(routespec, "special"))
