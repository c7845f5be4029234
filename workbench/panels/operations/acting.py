"""What the panel of Spark reads and does. Other kernels of the same user are not in it: each knows its own operations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from workbench.panels.parts import count
from workbench.sections import SparkSettings
from workbench.security.audit.commands import not_audited
from workbench.transformation.progress import Recorder
from workbench.transformation.restarting import restart_server, server_status

SHOWN = 20
OWN = "It ends what this person's own kernel has asked of their own Spark server."


class SparkActions:
    """Each returns a sentence that says what was done, and raises a WorkbenchError when it was not.

    Args:
        settings: where the server is.
        recorder: of the operations of this process.
    """

    def __init__(self, settings: SparkSettings, recorder: Recorder) -> None:
        self._settings, self._recorder = settings, recorder

    def read(self) -> dict[str, Any]:
        """Fields of `SparkState`."""
        operations = reversed(self._recorder.operations()[-SHOWN:])
        # Tenths are enough, and what has not changed is not drawn.
        rounded = (replace(each, seconds=round(each.seconds, 1)) for each in operations)
        return {"facts": self._facts(), "operations": tuple(rounded)}

    @not_audited(OWN)
    def cancel(self, id: str) -> str:  # noqa: A002 - that is what it is called everywhere
        """Cancel one operation."""
        return "It is being cancelled." if self._recorder.cancel(id) else "It has ended already."

    @not_audited(OWN)
    def cancel_all(self) -> str:
        """Cancel all operations of this kernel that run."""
        ids = [each.id for each in self._recorder.operations() if each.is_running]
        cancelled = sum(self._recorder.cancel(each) for each in ids)
        return f"{cancelled} are being cancelled." if cancelled != 1 else "1 is being cancelled."

    @not_audited(OWN)
    def restart(self) -> str:
        """End the user's own Spark server, so that another is started."""
        restart_server(self._settings)
        return "Spark is being restarted. Sessions of your kernels go on with the new server, without their temporary views."

    def _facts(self) -> tuple[tuple[str, str], ...]:
        settings, status = self._settings, server_status(self._settings)
        server = "your own" if settings.endpoint_file else settings.remote or "none is running here"
        facts = [("server", server)]
        if status is not None:
            facts += [("state", " ".join(filter(None, [status.state.value, status.reason])))]
            facts += [("restarts", count(status.restarts))] if status.restarts else []
        facts += [("profile", settings.profile), ("master", settings.master_url)]
        facts += [("driver memory", settings.driver_memory), ("executor memory", settings.executor_memory)]
        if self._recorder.executors is not None:
            facts.append(("executors", count(self._recorder.executors)))
        return tuple((name, value) for name, value in facts if value)
