"""What users' servers say of the operations of Spark in their kernels, in the hub's own metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from jupyterhub.apihandlers.base import APIHandler
from tornado import web

from workbench.observability.metrics import count_spark
from workbench.observability.operations import KERNEL, MOST_REPORTED, Ended, read_ended
from workbench.security.audit.commands import not_audited
from workbench.security.throttle import Throttle

PER_MINUTE = 10  #: reports of one person, whose servers send one each 15 seconds

_by_user: defaultdict[str, Throttle] = defaultdict(lambda: Throttle(PER_MINUTE))


class SparkOperations(APIHandler):  # type: ignore[misc]
    """POST /hub/api/workbench/spark, with the token of a user's server."""

    @not_audited("It counts; nothing of what was done is in it, and nobody's name.")
    def post(self) -> None:
        """Count what has ended. One person can add so much a minute and no more, and takes nothing from others."""
        user, body = self.current_user, self.get_json_body()
        if user is None or getattr(user, "kind", "user") != "user":
            raise web.HTTPError(403, "This takes the token of a user's server.")
        found = list(read_report(body))
        if _by_user[user.name].admit() is None:
            raise web.HTTPError(429, f"More than {PER_MINUTE} reports a minute are not counted.")
        for each in found:
            count_spark(KERNEL, each)
        self.set_status(204)


def read_report(body: object) -> Iterator[Ended]:
    """The operations of a report.

    Raises:
        web.HTTPError: when it is none, or has more than it may have.
    """
    said = body.get("operations") if isinstance(body, dict) else None
    if not isinstance(said, dict) or not all(isinstance(each, list) for each in said.values()):
        raise web.HTTPError(400, "The operations are lists of seconds, by outcome.")
    if sum(map(len, said.values())) > MOST_REPORTED:
        raise web.HTTPError(400, f"A report has {MOST_REPORTED} operations at most.")
    for outcome, times in said.items():
        for seconds in times:
            ended = read_ended(outcome, seconds)
            if ended is None:
                raise web.HTTPError(400, "An outcome is not known, or a time is impossible.")
            yield ended


HANDLERS = [(r"/api/workbench/spark", SparkOperations)]
