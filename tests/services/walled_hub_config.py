"""JupyterHub reads this file in tests: nobody logs in, people have tokens; their servers are the real ones."""

import json
import os
from pathlib import Path

from hub.addresses import HubPorts
from hub.roles import set_roles
from hub.spawning.configuration import set_spawner
from workbench.security.secrets import ensure_token, private_folder
from workbench.settings import Settings

c = get_config()  # noqa: F821 - JupyterHub defines it
settings = Settings.load()
ports = HubPorts.read(settings.home)
folder = private_folder(settings.home / "hub")
c.JupyterHub.authenticator_class = "null"
c.JupyterHub.db_url = f"sqlite:///{folder / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(settings.home / "keys" / "hub-cookie")
Path(c.JupyterHub.cookie_secret_file).write_text(ensure_token(settings.home / "keys" / "cookie-secret"))
Path(c.JupyterHub.cookie_secret_file).chmod(0o600)
c.JupyterHub.bind_url = f"http://127.0.0.1:{ports.proxy}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{ports.hub_api}"
c.JupyterHub.proxy_class = "traefik_file"
c.TraefikFileProviderProxy.static_config_file = str(folder / "traefik.toml")
c.TraefikFileProviderProxy.dynamic_config_file = str(folder / "routes.toml")
c.TraefikProxy.traefik_api_url = f"http://127.0.0.1:{ports.proxy_api}"
c.TraefikProxy.traefik_api_username = "hub"
c.TraefikProxy.traefik_api_password = ensure_token(settings.home / "keys" / "proxy-api")
c.JupyterHub.services = [{"name": "tests", "api_token": os.environ["TEST_API_TOKEN"], "admin": True}]
c.JupyterHub.load_groups = {
    f"{role}s": {"users": names} for role, names in json.loads(os.environ["TEST_ROLES"]).items()
}
set_roles(c)
set_spawner(c, settings)
