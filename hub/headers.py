"""What a browser is told with every response: which code may run, who may embed or call, and how cookies travel."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from workbench.sections import is_loopback
from workbench.settings import Settings

HSTS_SECONDS = 365 * 86400

# The plan's policy as it stands, and what only narrows it.
PLANS_POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: https:",
}
NARROWED = {"frame-ancestors": "'none'", "base-uri": "'self'", "object-src": "'none'"}
# JupyterLab compiles the schemas of its settings, and is a blank page without 'unsafe-eval'.
LABS_POLICY = {
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "img-src": "'self' data: blob: https:",
    "worker-src": "'self' blob:",
    "font-src": "'self' data:",
}
# Script of files that people have written or downloaded runs in an origin of its own, as jupyter-server does.
SANDBOX = "sandbox allow-scripts"

REFUSED_FEATURES = ("camera", "display-capture", "geolocation", "microphone", "midi", "payment", "serial", "usb")
# An empty value removes the header: which program answers is nobody's business.
REMOVED_HEADERS = {"Server": "", "X-JupyterHub-Version": "", "X-Powered-By": ""}


def cookie_options(settings: Settings) -> dict[str, Any]:
    """What every cookie is given besides HttpOnly; the hub hands it to the users' servers."""
    return {"samesite": "Lax", **({"secure": True} if settings.hub.is_encrypted else {})}


def security_headers(url: str) -> dict[str, str]:
    """What every response is sent with, besides its policy; an empty value removes a header."""
    headers = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": ", ".join(f"{feature}=()" for feature in REFUSED_FEATURES),
        **REMOVED_HEADERS,
    }
    # For `localhost` a browser would refuse every other program on every port of the person's machine for a year.
    if url.startswith("https://") and not is_loopback(urlsplit(url).hostname or ""):
        headers["Strict-Transport-Security"] = f"max-age={HSTS_SECONDS}; includeSubDomains"
    return headers


def policies(settings: Settings, url: str) -> dict[str, str]:
    """Content security policies: of the hub's pages, of users' servers, and of the files that these show."""
    host = url.partition("://")[2]
    # Not every browser takes 'self' for the WebSockets of a page too.
    sockets = f"{'wss' if url.startswith('https:') else 'ws'}://{'*.' if settings.hub.subdomains else ''}{host}"
    server = _policy(PLANS_POLICY | LABS_POLICY | {"connect-src": f"'self' {sockets}"} | NARROWED)
    return {
        "hub-policy": _policy(PLANS_POLICY | NARROWED),
        "server-policy": server,
        "files-policy": f"{server}; {SANDBOX}",
    }


def cors(settings: Settings, url: str) -> dict[str, Any]:
    """The plan's table; whole origins are compared."""
    return {
        "accessControlAllowOriginList": list(settings.hub.cors_origins) or [url],
        "accessControlAllowMethods": ["GET", "POST", "PUT", "DELETE"],
        "accessControlAllowHeaders": ["Authorization", "Content-Type", "X-XSRFToken"],
        "accessControlAllowCredentials": True,
        "accessControlMaxAge": 600,
        "addVaryHeader": True,
        # A user's server may not trust other origins than the hub does.
        "customResponseHeaders": {f"Access-Control-Allow-{each}": "" for each in ("Origin", "Headers", "Methods")},
    }


def _policy(directives: dict[str, str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in directives.items())
