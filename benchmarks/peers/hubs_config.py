"""JupyterHub reads this file as a peer: nothing of the workbench, and what a handbook would have one set."""

import json
import os

told = json.loads(os.environ["PEER"])
c = get_config()  # noqa: F821 - JupyterHub defines it
c.JupyterHub.bind_url = told["url"]
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{told['hub_port']}"
c.JupyterHub.proxy_class = "traefik_file"
c.TraefikProxy.traefik_api_url = f"http://127.0.0.1:{told['proxy_api_port']}"
c.TraefikProxy.traefik_api_username = "hub"
c.TraefikProxy.traefik_api_password = os.urandom(16).hex()
c.JupyterHub.spawner_class = "simple"

github = {"github_url": told["provider"], "allowed_organizations": {told["organization"]}, "scope": ["read:org"]}
google = {
    "google_api_url": told["provider"],
    "authorize_url": f"{told['provider']}/o/oauth2/v2/auth",
    "hosted_domain": [told["domain"]],
    "allow_all": True,
}
options = {
    name: {**each, **told["clients"][name]}
    for name, each in {"github": github, "google": google}.items()
    if name in told["clients"]
}
if told["kind"] == "stock":
    c.JupyterHub.authenticator_class = "github"
    c.GitHubOAuthenticator.update(options["github"])
else:
    c.JupyterHub.authenticator_class = "multiauthenticator.MultiAuthenticator"
    c.MultiAuthenticator.allow_all = True
    c.MultiAuthenticator.authenticators = [
        {"authenticator_class": name, "url_prefix": f"/{name}", "config": each} for name, each in options.items()
    ]
