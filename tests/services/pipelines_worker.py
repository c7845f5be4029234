"""A worker that claims one step, says so, and beats until it is killed; it never ends the step."""

from __future__ import annotations

import os
import sys
import time

from pipelines.store.claims.beating import beat
from pipelines.store.claims.taking import take
from pipelines.store.database import Store, store_address
from pipelines.store.records import Worker
from workbench.settings import Settings

BEAT_SECONDS = 1.0


def main() -> None:
    """Claim, print the id of the attempt, and beat."""
    worker = Worker(id="killed", host="here", pid=os.getpid(), version="test")
    with Store(store_address(Settings.load())) as store:
        with store.transaction() as connection:
            beat(connection, worker)
            claim = take(connection, worker.id)
        assert claim is not None
        sys.stdout.write(f"{claim.attempt_id}\n")
        sys.stdout.flush()
        while True:
            time.sleep(BEAT_SECONDS)
            with store.transaction() as connection:
                beat(connection, worker, [claim])


if __name__ == "__main__":
    main()
