"""A user of JupyterHub in a database in memory, with a real spawner and no hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jupyterhub import orm
from jupyterhub.objects import Hub
from jupyterhub.user import User
from traitlets.config import Config

from hub.roles import GROUPS


@contextmanager
def hub_user(c: Config, name: str, role: str = "analyst", **settings: Any) -> Iterator[User]:
    """The user *name* in the group of *role*; their spawners are made with the configuration *c*.

    KubeSpawner has to be made inside a running event loop.
    """
    factory = orm.new_session_factory("sqlite:///:memory:")
    session = factory()
    try:
        user = orm.User(name=name, admin=role == "admin")
        session.add(user)
        if role != "admin":
            user.groups.append(orm.Group(name=GROUPS[role]))
        session.commit()
        hub = Hub(bind_url=c.JupyterHub.get("hub_bind_url", "http://127.0.0.1:8081"), base_url="/hub/")
        hub.connect_url = c.JupyterHub.get("hub_connect_url", "")
        yield User(user, {"hub": hub, "config": c, **settings}, db=session)
    finally:
        session.close()
        factory.kw["bind"].dispose()
