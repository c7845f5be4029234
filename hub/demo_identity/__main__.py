"""`python -m hub.demo_identity`."""

from __future__ import annotations

import asyncio
import sys

from hub.demo_identity.server import serve
from workbench.errors import WorkbenchError
from workbench.logs.beginning import begin_logs
from workbench.settings import Settings, log_settings

if __name__ == "__main__":
    begin_logs("identity", log_settings().options)
    try:
        asyncio.run(serve(Settings.load()))
    except WorkbenchError as error:
        sys.exit(str(error))
