"""JupyterHub reads this file in tests of culling: our culler and servers, a login without a provider, a plain proxy."""

import os
import sys

from hub.addresses import HubPorts
from hub.culling import set_culler
from hub.spawning.environment import kernel_environment, prepare_home, remove_runtime
from workbench.security.secrets import ensure_token, private_folder
from workbench.settings import Settings

c = get_config()  # noqa: F821 - JupyterHub defines it
settings = Settings.load()
ports, folder = HubPorts.read(settings.home), private_folder(settings.home / "hub")

c.JupyterHub.bind_url = f"http://127.0.0.1:{ports.proxy}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{ports.hub_api}"
c.JupyterHub.db_url = f"sqlite:///{folder / 'jupyterhub.sqlite'}"
c.JupyterHub.proxy_class = "traefik_file"
c.TraefikFileProviderProxy.static_config_file = str(folder / "traefik.toml")
c.TraefikFileProviderProxy.dynamic_config_file = str(folder / "routes.toml")
c.TraefikProxy.traefik_api_url = f"http://127.0.0.1:{ports.proxy_api}"
c.TraefikProxy.traefik_api_username = "hub"
c.TraefikProxy.traefik_api_password = ensure_token(settings.home / "keys" / "proxy-api")

c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.DummyAuthenticator.password = ensure_token(settings.home / "keys" / "tests-password")

c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = str(settings.home / "users" / "{username}")
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.args = ["--allow-root"] if os.geteuid() == 0 else []
c.Spawner.default_url = "/lab"
c.Spawner.environment = dict(kernel_environment(settings))
c.Spawner.env_keep = ["PATH", "PYTHONPATH", "LANG"]
c.Spawner.pre_spawn_hook = prepare_home
c.Spawner.post_stop_hook = remove_runtime
c.Spawner.start_timeout = c.Spawner.http_timeout = 90

set_culler(c, settings)

token = ensure_token(settings.home / "keys" / "tests-api-token")
c.JupyterHub.services.append({"name": "tests", "api_token": token, "admin": True})
# As hub/roles.py has it: without `self` a token of the user cannot reach the user's server.
c.JupyterHub.load_roles.append({"name": "server-of-tests", "services": ["tests"], "scopes": ["access:servers"]})
