"""`python -m pipelines.service`: what `workbench up` starts, behind the hub that has written where it is."""

from __future__ import annotations

import logging
import os
import time

from pipelines.definition import Project
from pipelines.service.entrance.hub import HubAddress, HubEntrance
from pipelines.service.process import ServiceOptions, hub_file, run_service
from workbench.masking import mask_logs
from workbench.settings import Settings

AGAIN_SECONDS = 0.5


def _address(settings: Settings) -> HubAddress:
    while True:
        try:
            return HubAddress.read(hub_file(settings.home))
        except FileNotFoundError:
            time.sleep(AGAIN_SECONDS)


if __name__ == "__main__":
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    mask_logs()
    # JupyterHub's part tells ids of sessions there.
    for name in ("alembic", "tornado"):
        logging.getLogger(name).setLevel(logging.WARNING)
    loaded = Settings.load()
    address = _address(loaded)
    entrance = HubEntrance(address)
    options = ServiceOptions(
        project=Project.installed(), entrance=entrance, port=address.port, prefix=address.prefix
    )  # fmt: skip
    run_service(loaded, options)
