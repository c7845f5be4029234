"""`python -m pipelines.service`: what `workbench up` starts, behind the hub that has written where it is."""

from __future__ import annotations

import time

from pipelines.definition import Project
from pipelines.processes.beginning import begin_process
from pipelines.service.entrance.hub import HubAddress, HubEntrance
from pipelines.service.process import ServiceOptions, hub_file, run_service
from workbench.settings import Settings

AGAIN_SECONDS = 0.5


def _address(settings: Settings) -> HubAddress:
    while True:
        try:
            return HubAddress.read(hub_file(settings.home))
        except FileNotFoundError:
            time.sleep(AGAIN_SECONDS)


if __name__ == "__main__":
    # JupyterHub's part tells ids of sessions there.
    begin_process("pipelines-service", quiet=["tornado"])
    loaded = Settings.load()
    address = _address(loaded)
    entrance = HubEntrance(address)
    options = ServiceOptions(
        project=Project.installed(), entrance=entrance, port=address.port, prefix=address.prefix
    )  # fmt: skip
    run_service(loaded, options)
