"""JupyterHub reads this file in tests: the real configuration, and a list of all handlers as they were registered."""

import json
import os
from pathlib import Path

from jupyterhub.app import JupyterHub

from hub import proxy
from hub.configuration import configure

c = get_config()  # noqa: F821 - JupyterHub defines it
configure(c)
proxy.LOOK_SECONDS = 0.5
c.JupyterHub.services.append({"name": "tests", "api_token": os.environ["TEST_API_TOKEN"], "admin": True})
c.Spawner.disable_user_config = True

# The same for users' servers, through a configuration file of theirs.
folder = Path(os.environ["WORKBENCH_HOME"]) / "etc"
folder.mkdir(exist_ok=True)
(folder / "jupyter_server_config.py").write_text(f"""
import json
from pathlib import Path
from jupyter_server.serverapp import ServerApp

def patterns(router):
    for rule in router.rules:
        if hasattr(rule.target, "rules"):
            yield from patterns(rule.target)
        elif hasattr(rule.matcher, "regex"):
            yield rule.matcher.regex.pattern

start_ioloop = ServerApp.start_ioloop

def start_and_tell(self):
    Path({str(folder.parent / "server-routes.json")!r}).write_text(json.dumps(list(patterns(self.web_app.default_router))))
    start_ioloop(self)

ServerApp.start_ioloop = start_and_tell
""")
c.Spawner.environment = {
    **c.Spawner.environment,
    "JUPYTER_CONFIG_PATH": f"{folder}:{c.Spawner.environment['JUPYTER_CONFIG_PATH']}",
}

start_application = JupyterHub.init_tornado_application


def start_and_tell(self):
    start_application(self)
    (folder.parent / "hub-routes.json").write_text(json.dumps([handler[0] for handler in self.handlers]))


JupyterHub.init_tornado_application = start_and_tell
