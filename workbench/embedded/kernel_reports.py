"""A JupyterLab extension that tells the hub which kernels start and end, for the audit log."""

from __future__ import annotations

from typing import Any

from workbench.embedded.telling import Telling, visitor

KERNEL_ACTIONS = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"
TOLD = ("start", "restart", "shutdown")


class KernelReports:
    """Tells the hub of each kernel that starts or ends."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    async def hear(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        """Called by jupyter-server with what has happened to a kernel."""
        if data.get("action") in TOLD and data.get("status") == "success":
            kernel, name = data.get("kernel_id", ""), data.get("kernel_name", "")
            said = {"action": data["action"], "kernel": kernel, "name": name, "by": visitor()}
            self._telling.tell("kernels", said)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "workbench.embedded.kernel_reports"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by jupyter-server when it starts."""
    if telling := Telling.of_environment():
        server.event_logger.add_listener(schema_id=KERNEL_ACTIONS, listener=KernelReports(telling).hear)
