"""Several tabs of one person that open their server in the same moment start it once, and all wait for it."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from jupyterhub.handlers.pages import SpawnHandler


class PatientSpawnHandler(SpawnHandler):  # type: ignore[misc] # jupyterhub has no types
    """JupyterHub's own looks whether a server is being started, asks the provider for news, and fails with 500 if it is by then."""

    _opening: ClassVar[WeakKeyDictionary[Any, asyncio.Lock]] = WeakKeyDictionary()

    async def _wrap_spawn_single_user(  # noqa: PLR0917 - JupyterHub's signature
        self, user: Any, server_name: str, display_name: str, spawner: Any, pending_url: str, options: Any = None
    ) -> None:
        async with self._opening.setdefault(spawner, asyncio.Lock()):
            if spawner.active:
                # Another tab was quicker. The page that waits leads on to the server, also when that is there already.
                self.redirect(pending_url)
                return
            # Returns within a second, with the server being started, there, or failed.
            await super()._wrap_spawn_single_user(user, server_name, display_name, spawner, pending_url, options)
