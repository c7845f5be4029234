"""JupyterLab's server reads this file: its cookies travel as the hub's do. Its headers are put on by the proxy."""  # noqa: INP001 - a configuration file, not a module

import json
import os

# The hub says it of the cookies of a login; this is for the one that guards forms.
options = json.loads(os.environ.get("JUPYTERHUB_COOKIE_OPTIONS") or "{}")
c = get_config()  # type: ignore[name-defined] # noqa: F821 - Jupyter defines it
c.ServerApp.tornado_settings = {"xsrf_cookie_kwargs": {"samesite": "Lax", **options}}

# How long a server believes that a token is good without asking the hub: who is shown out is out soon.
c.HubOAuth.cache_max_age = 10
