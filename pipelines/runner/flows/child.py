"""The process of a flow that is kept running: follows it until SIGTERM, and says why it could not go on.

    python -P -m pipelines.runner.flows.child NAME FLOWS TOLD ROOT…

FLOWS is the folder of its file, TOLD the file for the worker, ROOTs are where modules of its steps are.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from pipelines.runner.flows.rules import CORRECT
from workbench.errors import DefinitionError, NoSuchTopic, SettingsError, StepRefused, WorkbenchError
from workbench.logs.beginning import begin_logs
from workbench.logs.context import bind_process
from workbench.security.secrets import write_private
from workbench.settings import log_settings

logger = logging.getLogger("workbench.flow")

PERSONS = (SettingsError, NoSuchTopic, StepRefused, DefinitionError)  #: what does not pass by waiting


def main(argv: list[str]) -> int:
    """Follow one flow; the exit code says whether another start may help."""
    name, folder, told, *roots = argv
    sys.path[:0] = roots
    begin_logs("flow", log_settings().options)
    bind_process(flow=name)
    # Drivers tell of each connection.
    logging.getLogger().setLevel(logging.WARNING)
    stop = threading.Event()
    try:
        follow(name, Path(folder), Path(told), stop)
    except KeyboardInterrupt:
        pass
    except WorkbenchError as error:
        reason = f"{error.message}{' ' if error.remedy else ''}{error.remedy}"
        if isinstance(error, SettingsError):
            reason = " ".join(error.problems)
        # The last line of its log; the exact type, for a flow that has no file.
        logger.error("%s", reason)  # noqa: TRY400 - ours says all that there is to say
        write_private(Path(told), json.dumps({"reason": reason}))
        return CORRECT if isinstance(error, PERSONS) or type(error) is WorkbenchError else 1
    logger.info("%s has ended as it was told to", name)
    return 0


def follow(name: str, folder: Path, told: Path, stop: threading.Event) -> None:
    """Bring what arrives until SIGTERM.

    Raises:
        KeyboardInterrupt: at SIGTERM, for a flow that is no stream: what was committed stays, the group is left.
        WorkbenchError: as `workbench.flows.follow_flow` and `workbench.streams.run_stream` say.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    from workbench.flows import follow_flow
    from workbench.ingestion.definition import read_flow
    from workbench.observability.metrics import begin_flow
    from workbench.observability.operations import FLOW, VARIABLE
    from workbench.runtime.metrics import serving_metrics
    from workbench.settings import Settings
    from workbench.transformation.progress.counting import count_operations

    # The worker counts steps. What a flow does is counted here, where its other metrics are.
    os.environ.pop(VARIABLE, None)
    settings, flow = Settings.load(), read_flow(folder, name)
    logger.info("%s begins: %s into %s", name, flow.topic, flow.into)
    write_private(told, json.dumps({"begun": True}))
    count_operations(FLOW)
    with serving_metrics(settings.home, f"flow:{name}"):
        if flow.engine == "stream":
            from workbench.streams import run_stream

            signal.signal(signal.SIGTERM, lambda *_: stop.set())
            run_stream(settings, flow, follow=True, stop=stop)
        else:
            begin_flow(flow.topic, flow.into)
            follow_flow(settings, flow, lambda _: None)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Once is enough: a second one would break off how it ends.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
