"""Gives the signs of a process that works with the store; apart from `life`, which `workbench up` reads without a driver."""

from __future__ import annotations

import asyncio

from pipelines.processes.life import NO_STORE, Sign
from pipelines.store.database import Store
from workbench.errors import StoreError

SIGN_SECONDS = 5.0


def obstacle_of(store: Store) -> str:
    """What keeps those from their work who need the store; empty when it answers."""
    try:
        with store.transaction() as connection:
            connection.exec_driver_sql("SELECT 1")
    except StoreError:
        return NO_STORE
    return ""


async def give_signs(sign: Sign, store: Store) -> None:
    """Give signs until cancelled, from the loop that has to turn; the store is asked beside it.

    Who waits for the database still lives: a look that takes too long is no answer.
    """
    obstacle, looking = "", None
    while True:
        sign.give(obstacle)
        # One at a time: looks that hang shall not take all threads.
        looking = looking or asyncio.create_task(asyncio.to_thread(obstacle_of, store))
        done, _ = await asyncio.wait({looking}, timeout=SIGN_SECONDS)
        obstacle, looking = (looking.result(), None) if done else (NO_STORE, looking)
        await asyncio.sleep(SIGN_SECONDS)
