"""PySpark's Connect client, with progress and with recovery from the end of its server.

Private parts of PySpark are used in this module and nowhere else in the package. It was written
for PySpark 4.2.0.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql.connect.client.artifact import ArtifactManager
from pyspark.sql.connect.client.core import DefaultChannelBuilder, SparkConnectClient
from pyspark.sql.connect.proto import base_pb2_grpc
from pyspark.sql.connect.session import SparkSession

from workbench.errors import SparkRestarted
from workbench.transformation.failures import condition, explanation, is_lost, is_refused
from workbench.transformation.interrupts import HeldInterrupt
from workbench.transformation.plans import is_read
from workbench.transformation.progress import RECORDER, Recorder
from workbench.transformation.recording import Relay, recorded

GONE = (
    "This notebook has a new session on it: temporary views, cached data, "
    "settings of spark.conf and registered functions are gone."
)
_sessions: dict[Hashable, SparkSession] = {}  # of this process, by the server


@dataclass(frozen=True, kw_only=True)
class Server:
    """How a client finds its server again, and what people are told about it."""

    identity: Hashable  #: equal for what leads to the same server, before and after its restarts
    has_changed: Callable[[], bool]  #: whether another server has taken the place of the one that we know
    find: Callable[[], DefaultChannelBuilder]  #: waits for the server; raises SparkError when it does not come
    tell: Callable[[str], None]
    ready: Callable[[SparkSession], None] = lambda _: None  #: registers in a new session what ours have
    last_words: Callable[[], str] = lambda: ""  #: a sentence about why it ended, if that is known
    settings: Mapping[str, str] = field(default_factory=dict)  #: variables that errors name, with their values


class RecoveringClient(SparkConnectClient):  # type: ignore[misc]
    """A client whose session is made anew, in place, when its server was restarted: frames stay usable."""

    _session_id: str
    _session: SparkSession
    _server: Server
    _recorder: Recorder
    _is_stopped: bool
    _restarted: str  #: when its server was last restarted, as people read it
    _rebuilding: threading.RLock
    _attempts: dict[str, int]  #: how often an operation was sent
    _cancelled: set[str]  #: operations that an interrupt has asked the server to end

    @property
    def is_closed(self) -> bool:
        """Whether `spark.stop()` was called. PySpark takes a session that was lost for closed, too."""
        return self._is_stopped

    def close(self) -> None:
        """Called by `spark.stop()`: from now on nothing is recovered."""
        self._is_stopped = True
        super().close()

    def _cleanup_ml_cache(self) -> None:
        """Called when the process ends: nobody waits for a server then. The session takes its models with it."""

    def _ready(self) -> str:
        """Follow a server that was restarted, before anything is sent; returns the id of the session."""
        if not self._is_stopped and self._server.has_changed():
            self._recover(self._session_id)
        return self._session_id

    def _recover(self, session_id: str) -> None:
        """Make a new session on the server that is there now, unless *session_id* has been replaced already."""
        with self._rebuilding:
            if session_id != self._session_id:
                return
            self._builder = self._server.find()
            self._session_id = self._session._session_id = str(uuid.uuid4())  # noqa: SLF001
            self._server_session_id = None
            self._closed = False
            self._plan_compression_threshold = self._plan_compression_algorithm = None
            # The old channel waits ever longer between its attempts, and threads may still use it.
            self._open_channel()
            super()._analyze(method="spark_version")
            self._server.ready(self._session)
            self._restarted = time.strftime("%H:%M:%S")
        self._server.tell(f"Spark was restarted. {GONE}")

    def _open_channel(self) -> None:
        """Go on over a channel of its own: also when an interrupt has broken in, which may leave the old one locked."""
        self._channel = self._builder.toChannel()
        self._internal_stub = _CountingStub(self._channel, self._attempts)
        self._artifact_manager = ArtifactManager(
            self._user_id, self._session_id, self._channel, self._builder.metadata()
        )

    def _may_follow(self, error: BaseException) -> bool:
        return is_lost(error) and not self._is_stopped and not self._is_explaining

    @property
    def _is_explaining(self) -> bool:
        """Whether PySpark asks for more about an error now: then there is one already."""
        return bool(getattr(self.thread_local, "inside_error_handling", False))

    # What changes nothing, or the same thing twice: it is asked again.

    def _analyze(self, method: str, **kwargs: Any) -> Any:
        return self._again(lambda: super(RecoveringClient, self)._analyze(method, **kwargs))

    def config(self, operation: Any) -> Any:
        """Called for `spark.conf`."""
        return self._again(lambda: super(RecoveringClient, self).config(operation))

    def _again(self, ask: Callable[[], Any]) -> Any:
        session_id = self._session_id if self._is_explaining else self._ready()
        try:
            with HeldInterrupt(broken=self._open_channel):
                return ask()
        except Exception as error:  # noqa: BLE001 - what is not lost is raised
            if not self._may_follow(error):
                raise self._explained(error) from None
        self._recover(session_id)
        with HeldInterrupt(broken=self._open_channel):
            return ask()

    def add_artifacts(self, *paths: str, pyfile: bool, archive: bool, file: bool) -> None:
        """Called for files of people, which go to the session of now."""
        self._ready()
        with HeldInterrupt(broken=self._open_channel):
            super().add_artifacts(*paths, pyfile=pyfile, archive=archive, file=file)

    def cache_artifacts(self, blobs: list[bytes]) -> Any:
        """Called for local data, which go to the session of now."""
        self._ready()
        with HeldInterrupt(broken=self._open_channel):
            return super().cache_artifacts(blobs)

    # What is executed: run again only if it reads, or was refused before it began.

    def _execute_plan_request_with_metadata(self, operation_id: str | None = None) -> Any:
        self._ready()
        # Named from the start: progress and Cancel know it before the first answer.
        return super()._execute_plan_request_with_metadata(operation_id or str(uuid.uuid4()))

    def _follow(self, req: Any) -> None:
        """Address a request that nobody has sent yet to the session of now."""
        if req.session_id != self._session_id:
            req.session_id = self._session_id
            req.client_observed_server_side_session_id = self._server_session_id or ""

    def _execute(self, req: Any) -> None:
        self._follow(req)
        try:
            with self._recorded(req), self._held(req):
                super()._execute(req)
        except Exception as error:  # noqa: BLE001 - what is not lost is raised
            if not self._may_follow(error):
                raise self._explained(error) from None
            again = self._next_request(req, error, has_given=False)
            with self._held(again):
                super()._execute(again)

    def _execute_and_fetch(self, req: Any, observations: Any, self_destruct: bool = False) -> Any:
        try:
            return super()._execute_and_fetch(req, observations, self_destruct)
        except _GaveRows as given:
            # Nobody has seen the rows yet: the whole answer is collected anew.
            again = self._next_request(req, given.error, has_given=False)
            return super()._execute_and_fetch(again, observations, self_destruct)

    def _execute_and_fetch_as_iterator(self, req: Any, observations: Any, progress: Any = None) -> Iterator[Any]:
        has_given = False
        self._follow(req)
        try:
            for each in self._fetch(req, observations, progress):
                has_given = has_given or isinstance(each, pa.RecordBatch)
                yield each
        except Exception as error:  # noqa: BLE001 - what is not lost is raised
            if not self._may_follow(error):
                raise self._explained(error) from None
            again = self._next_request(req, error, has_given=has_given)
        else:
            return
        yield from self._fetch(again, observations, progress)

    def _fetch(self, req: Any, observations: Any, progress: Any) -> Iterator[Any]:
        with (
            self._recorded(req) as relay,
            closing(super()._execute_and_fetch_as_iterator(req, observations, relay(progress))) as answers,
        ):
            while True:
                # Not around the `yield`: what is done with the rows is interrupted as anything is.
                with self._held(req):
                    each = next(answers, None)
                if each is None:
                    return
                if isinstance(each, pa.RecordBatch):
                    self._recorder.add_rows(req.operation_id, each.num_rows)
                yield each

    def _held(self, req: Any) -> HeldInterrupt:
        """While the server is asked, Ctrl-C cancels the operation of *req* there, and is raised when it has ended."""
        operation = req.operation_id

        def cancel() -> None:
            self._cancelled.add(operation)
            super(RecoveringClient, self).interrupt_operation(operation)

        return HeldInterrupt(cancel, broken=self._open_channel)

    def interrupt_operation(self, op_id: str) -> list[str] | None:
        """Called by PySpark when an interrupt breaks in, too: the server was asked by the first, and may not answer."""
        if op_id in self._cancelled and threading.current_thread() is threading.main_thread():
            return []
        found: list[str] | None = super().interrupt_operation(op_id)
        return found

    def _next_request(self, req: Any, error: Exception, *, has_given: bool) -> Any:
        """The request to send to the new session, when it may be sent."""
        was_refused = is_refused(error) and self._attempts.get(req.operation_id, 1) <= 1
        if not was_refused:
            if not is_read(req.plan):
                raise SparkRestarted(
                    f"Spark ended while this ran ({condition(error)}); it may or may not have been done. {self._server.last_words()}".rstrip(),
                    remedy="See whether it was done before you run it again. The next cell has a new session.",
                ) from None
            if has_given:
                raise _GaveRows(error) from None
            self._server.tell(
                f"Spark ended while this ran; it only reads, so it is run again. {self._server.last_words()}"
            )
        self._attempts.pop(req.operation_id, None)
        self._recover(req.session_id)
        again = self._execute_plan_request_with_metadata()
        again.plan.CopyFrom(req.plan)
        return again

    def _explained(self, error: Exception) -> Exception:
        if isinstance(error, PySparkException) and not getattr(error, "__notes__", None):
            note = explanation(error, self._server.settings, restarted=self._restarted)
            if note:
                error.add_note(note)
        return error

    @contextmanager
    def _recorded(self, req: Any) -> Iterator[Callable[[Any], Relay]]:
        """Record the operation of *req*; gives what passes on its progress."""
        operation = req.operation_id
        try:
            with recorded(self._recorder, operation, lambda: self.interrupt_operation(operation)) as relay:
                yield relay
        finally:
            self._cancelled.discard(operation)
        self._attempts.pop(operation, None)


class _GaveRows(Exception):
    """A query ended with its server after rows had been handed on."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _CountingStub:
    """PySpark's stub, which also counts how often each operation was sent."""

    def __init__(self, channel: Any, attempts: dict[str, int]) -> None:
        self._stub = base_pb2_grpc.SparkConnectServiceStub(channel)
        self._attempts = attempts

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._stub, name)
        if name not in {"ExecutePlan", "ReattachExecute"}:
            return call

        def counted(request: Any, **options: Any) -> Any:
            self._attempts[request.operation_id] = self._attempts.get(request.operation_id, 0) + 1
            return call(request, **options)

        return counted


def find_session(identity: Hashable) -> SparkSession | None:
    """The session that this process has on a server, which is then the current one."""
    session = _sessions.get(identity)
    if session is None or session.is_stopped:
        return None
    _make_current(session)
    return session


def make_session(builder: DefaultChannelBuilder) -> SparkSession:
    """Make a session, which is then the current one."""
    session = SparkSession.builder.channelBuilder(builder).create()
    _make_current(session)
    return session


def _make_current(session: SparkSession) -> None:
    # PySpark would keep the first that there was.
    SparkSession._default_session = SparkSession._active_session.session = session  # noqa: SLF001


def adopt(session: SparkSession, server: Server, recorder: Recorder = RECORDER) -> None:
    """Give the client of a new session progress and recovery."""
    client = session.client
    attempts: dict[str, int] = {}
    vars(client).update(
        _session=session,
        _server=server,
        _recorder=recorder,
        _is_stopped=False,
        _restarted="",
        _rebuilding=threading.RLock(),
        _attempts=attempts,
        _cancelled=set(),
        _internal_stub=_CountingStub(client._channel, attempts),  # noqa: SLF001
    )
    # In place, because PySpark offers no way to make a session with a client of ours.
    client.__class__ = RecoveringClient
    _sessions[server.identity] = session
