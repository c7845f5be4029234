"""The errors of the workbench that more than one part of it knows.

An error of one part alone is a class there; what people see of it inherits from one of these, as
`NotProtected` of `workbench.security.assurance` does.

    WorkbenchError
    ├── SettingsError            a variable is missing, wrong, or contradicts another
    ├── ComponentError           an embedded server cannot be prepared or started
    │   ├── PortTaken
    │   ├── NoDiskSpace
    │   ├── JavaMissing
    │   ├── ClusterError         Spark's cluster is not there, refuses, or lacks what was asked for
    │   ├── JarsError            a jar cannot be fetched, or is not the one in the lock
    │   └── DataFolderError      a data folder is damaged or of another version
    ├── AuditError               an event cannot be written, so that what it tells of is refused
    ├── KafkaError               the cluster refused or did not answer
    │   ├── KafkaUnavailable     it did not answer: waiting may help
    │   └── NoSuchTopic          it has no topic of that name
    ├── WarehouseError           the warehouse refused or did not answer
    │   ├── WarehouseUnavailable it did not answer, or asks to try again: waiting may help
    │   ├── TakenOver            another worker owns a partition now; nothing was written
    │   └── RowsRefused          single rows do not fit the table; nothing was written
    ├── SparkError               no session could be had
    │   └── SparkRestarted       the server ended while something ran that may write
    ├── QueryRefused             a cell of SQL is wrong, or was refused
    ├── StepRefused              a step cannot do with a frame what was asked
    ├── ExpectationFailed        a table breaks an expectation of the severity stop
    ├── IdentityError            somebody cannot be let in
    │   ├── ProviderUnavailable  the identity provider does not answer: waiting may help
    │   ├── ProviderRefused      the identity provider says no, or sent what proves nothing
    │   ├── AccountTaken         the account belongs to another person of the hub
    │   └── NameChanged          the account got another name in the midst of its login
    ├── StoreError               the store of pipelines refused, or was asked what cannot be
    │   ├── StoreUnavailable     it did not answer, or asks to try again: waiting may help
    │   ├── StoreTooNew          a newer version of the workbench has changed its tables
    │   ├── ClaimLost            another worker has the step now; nothing was written
    │   └── NoSuchRun            it has no run, schedule, pool or backfill of that name
    ├── DefinitionError          files of pipelines are wrong
    ├── AlertsRefused            a file of alerts is wrong
    ├── MonitorError             what the monitor keeps cannot be read or written
    ├── NotAgreed                something would be replaced or made that nobody has agreed to; nothing was written
    ├── PoliciesRefused          a file of policies is wrong, or does not fit the tables
    ├── ParametersRefused        values of a run do not fit its parameters
    ├── KeysetError              the keyset cannot be used, or not be changed as was asked
    │   └── RootKeyUnavailable   the root key is not there, or who keeps it does not answer
    ├── SecretUnavailable        a secret is not where its reference says, or may not be read
    ├── EncryptionError          what is encrypted cannot be read; nothing of it was handed out
    │   ├── WrongKey             it was encrypted with another key
    │   ├── UnknownKeyVersion    the keyset has no such version
    │   ├── KeyDisabled          the version is disabled or destroyed
    │   ├── OtherContext         it was encrypted for another place
    │   ├── SubjectErased        its subject was erased, and with it the key
    │   ├── UnknownSubjectKey    its subject has no key here, or another one
    │   ├── Truncated            its end is missing
    │   ├── Corrupt              a part of it is not what was written
    │   └── UnsupportedFormat    it is of no format that this version reads
    ├── BackupError              a backup cannot be made, found, proved or restored
    └── NotebookFailed           a notebook ran and did not succeed

Each says what happened, with the value, and what to do about it:

>>> raise WorkbenchError("port 5439 is in use", remedy="Set DW_PORT to a free port.")
Traceback (most recent call last):
    ...
workbench.errors.WorkbenchError: port 5439 is in use
  Remedy: Set DW_PORT to a free port.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class WorkbenchError(Exception):
    """Base of all; `message` says what happened and `remedy` what to do about it."""

    exit_code = 2  #: of the command that ends with it: it could not do what was asked

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message}\n  Remedy: {remedy}" if remedy else message)


class SettingsError(WorkbenchError):
    """One or more settings are missing or wrong; `problems` holds every one of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(_listed("the settings", problems))


class ComponentError(WorkbenchError):
    """A server that the workbench runs itself could not be prepared or started."""


class PortTaken(ComponentError):
    """Another program listens on a port that was asked for by name."""


class NoDiskSpace(ComponentError):
    """The disk under WORKBENCH_HOME has less room than the servers need to start."""


class JavaMissing(ComponentError):
    """Neither a Java of version 17 or later nor the bundled runtime is there."""


class ClusterError(ComponentError):
    """Spark's cluster does not answer, refuses us, or cannot give what was asked for; a restart does not help."""


class JarsError(ComponentError):
    """A jar could not be fetched, or its sha256 is not the one in spark_conf/jars.lock."""


class DataFolderError(ComponentError):
    """A server's data folder is damaged, half-written or of another version."""


class AuditError(WorkbenchError):
    """The audit log cannot be written or read; what has to be in it is not done."""


class KafkaError(WorkbenchError):
    """The Kafka cluster refused a request or did not answer."""


class KafkaUnavailable(KafkaError):
    """The cluster did not answer, or sends nothing: waiting may help, another setting does not."""


class NoSuchTopic(KafkaError):
    """The cluster has no topic of that name."""


class WarehouseError(WorkbenchError):
    """The SQL warehouse refused a request or did not answer."""


class WarehouseUnavailable(WarehouseError):
    """The warehouse did not answer, or asks to try again: waiting may help, correcting a query does not."""


class TakenOver(WarehouseError):
    """Another worker has claimed a partition; nothing was written."""


class RowsRefused(WarehouseError):
    """Single rows do not fit the table; nothing was written.

    Args:
        message: what was said about them.
        reasons: why, by the number of the row.
        deletions: the same of tombstones whose rows the table does not let go.
        remedy: what to do.
    """

    def __init__(
        self, message: str, *, reasons: Mapping[int, str], deletions: Mapping[int, str] | None = None, remedy: str = ""
    ) -> None:
        self.reasons = dict(reasons)
        self.deletions = dict(deletions or {})
        super().__init__(message, remedy=remedy)


class SparkError(WorkbenchError):
    """No Spark session could be had."""


class SparkRestarted(SparkError):
    """The Spark server ended while something ran that may write: it may or may not have been done."""


class QueryRefused(WorkbenchError):
    """A statement of a cell of SQL was refused.

    Args:
        message: what was said about it.
        statement: which one of the cell, counted from 0.
        position: the character of that statement that it is about, counted from 0; None when nobody knows.
        code: PostgreSQL's SQLSTATE or Spark's condition, such as TABLE_OR_VIEW_NOT_FOUND.
        remedy: what to do.
    """

    def __init__(
        self, message: str, *, statement: int = 0, position: int | None = None, code: str = "", remedy: str = ""
    ) -> None:
        self.statement, self.position, self.code = statement, position, code
        super().__init__(message, remedy=remedy)


class StepRefused(WorkbenchError):
    """A step cannot do with this frame what was asked; nothing was computed."""


class ExpectationFailed(WorkbenchError):
    """A table breaks an expectation of the severity `stop`."""

    exit_code = 1  # the check worked, and has found something


class IdentityError(WorkbenchError):
    """Somebody cannot be let in."""


class ProviderUnavailable(IdentityError):
    """The identity provider does not answer, or answers nonsense: says nothing about the person."""


class ProviderRefused(IdentityError):
    """The identity provider says no, or what it sent does not prove who somebody is."""


class AccountTaken(IdentityError):
    """The account at the provider belongs to another person of the hub."""


class NameChanged(IdentityError):
    """The account's name at the hub became another one in the midst of its login."""


class StoreError(WorkbenchError):
    """The store of pipelines refused a request, or was asked for what cannot be."""


class StoreUnavailable(StoreError):
    """The store did not answer, or asks to try again: the whole transaction may be tried again."""


class StoreTooNew(StoreError):
    """The tables were made by a newer version of the workbench."""


class ClaimLost(StoreError):
    """A step that a worker had claimed is another's now, or nobody's; nothing was written."""


class NoSuchRun(StoreError):
    """The store has no run, schedule, pool or backfill of that name."""


class DefinitionError(WorkbenchError):
    """Files of pipelines are wrong; the text of each of `problems` is `FILE:LINE: field: what, and the remedy`."""

    exit_code = 1

    def __init__(self, problems: Sequence[Any]) -> None:
        self.problems = tuple(problems)
        super().__init__(_listed("pipelines", problems))


class NotAgreed(WorkbenchError):
    """A file would be replaced, or a folder made a project, and nobody has said that it may; nothing was written."""


class AlertsRefused(WorkbenchError):
    """Alerts are wrong; the text of each of `problems` is `FILE:LINE: field: what, and the remedy`."""

    exit_code = 1

    def __init__(self, problems: Sequence[Any]) -> None:
        self.problems = tuple(problems)
        super().__init__(_listed("alerts", problems))


class MonitorError(WorkbenchError):
    """What the monitor keeps of metrics and alerts cannot be read or written."""


class PoliciesRefused(WorkbenchError):
    """Policies are wrong; the text of each of `problems` is `FILE:LINE: field: what, and the remedy`."""

    exit_code = 1

    def __init__(self, problems: Sequence[Any]) -> None:
        self.problems = tuple(problems)
        super().__init__(_listed("policies", problems))


class ParametersRefused(WorkbenchError):
    """Values that a run was given do not fit its parameters; `problems` holds every one of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            "the parameters are refused:" + "".join(f"\n  - {problem}" for problem in problems),
            remedy="Give each parameter a value of its type.",
        )


class NotebookFailed(WorkbenchError):
    """A notebook ran and did not succeed: a cell raised, the kernel died, time was up; the output notebook shows where."""

    exit_code = 1


class BackupError(WorkbenchError):
    """A backup cannot be made, found, proved or restored; what was there before is as it was."""


class KeysetError(WorkbenchError):
    """The keyset cannot be read or written, or a change was asked for that would lose data."""


class RootKeyUnavailable(KeysetError):
    """The root key is not there, or the service that keeps it refuses or does not answer."""


class SecretUnavailable(WorkbenchError):
    """A secret is not where its reference says, or may not be read. No secret is in the message.

    Args:
        reference: where it should be.
        reason: what is wrong there, to be read after the reference.
        remedy: what to do.
    """

    def __init__(self, reference: str, reason: str, *, remedy: str = "") -> None:
        self.reference, self.reason = reference, reason
        super().__init__(f"the secret {reference} is not there: it {reason}", remedy=remedy)


class EncryptionError(WorkbenchError):
    """Something encrypted cannot be read. No part of it was handed out, and no file was written."""


class WrongKey(EncryptionError):
    """It was encrypted with another key, or what says so was damaged."""


class UnknownKeyVersion(EncryptionError):
    """The keyset, read again just now, has no version of that number."""


class KeyDisabled(EncryptionError):
    """The version it was encrypted with is disabled or destroyed."""


class OtherContext(EncryptionError):
    """It was encrypted for another context than the one it is read in: it was moved or exchanged."""


class SubjectErased(EncryptionError):
    """It is of a subject that was erased: its key is destroyed, and nobody can read it."""


class UnknownSubjectKey(EncryptionError):
    """Its subject has no key in this workbench, or another one than it was encrypted with."""


class Truncated(EncryptionError):
    """Its end is missing."""


class Corrupt(EncryptionError):
    """A part is not what was written; `chunk` is the first of 16 KiB that is not, counted from 0, or None for the header."""

    def __init__(self, message: str, *, chunk: int | None = None, remedy: str = "") -> None:
        self.chunk = chunk
        super().__init__(message, remedy=remedy)


class UnsupportedFormat(EncryptionError):
    """It does not begin as encrypted data does, or is of a newer format."""


def _listed(place: str, problems: Sequence[Any]) -> str:
    """How many problems there are in *place*, and each of them on a line of its own."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return f"{count} in {place}:" + "".join(f"\n  - {problem}" for problem in problems)
