"""Whether the hub lives, and whether it can do its work: for `workbench up`, and for whoever balances or watches.

Both answer without asking who asks, and say nothing but that. Source: kubernetes.io, "Kubernetes API health endpoints".
"""

from __future__ import annotations

from http import HTTPStatus

from jupyterhub import orm
from jupyterhub.handlers.base import BaseHandler, SQLAlchemyError

from workbench.security.audit.commands import not_audited

NO_DATABASE = "the hub's database does not answer"


class Live(BaseHandler):  # type: ignore[misc] # jupyterhub has no types
    """GET /hub/livez."""

    @not_audited("It says that the process serves.")
    def get(self) -> None:
        """200: the event loop turns."""
        self.finish("live")


class Ready(BaseHandler):  # type: ignore[misc] # jupyterhub has no types
    """GET /hub/readyz."""

    @not_audited("It says whether the hub can work.")
    def get(self) -> None:
        """200 when the database answers, else 503 and the reason. That the proxy leads here is seen by who asks through it."""
        try:
            self.db.query(orm.Role.id).limit(1).all()
        except SQLAlchemyError as error:
            self.log.warning("not ready: %s", type(error).__name__)
            self.db.rollback()
            self.set_status(HTTPStatus.SERVICE_UNAVAILABLE)
            self.finish(NO_DATABASE)
            return
        self.finish("ready")


HANDLERS = [(r"/livez", Live), (r"/readyz", Ready)]
