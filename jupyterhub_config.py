"""JupyterHub reads this file; what it says is in hub/configuration.py, which can be tested."""

from hub.configuration import configure

configure(get_config())  # noqa: F821 - JupyterHub defines it
