"""What can be done to a workbench that the audit log knows of, and how OCSF classifies it (schema.ocsf.io)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Outcome(StrEnum):
    """How it ended."""

    BEGUN = "begun"  #: written before it is done: what ended it follows, unless the process was killed
    SUCCESS = "success"
    REFUSED = "refused"
    FAILED = "failed"


class Class(IntEnum):
    """Classes of OCSF; the first digit is the category."""

    FILE_SYSTEM_ACTIVITY = 1001
    ACCOUNT_CHANGE = 3001
    AUTHENTICATION = 3002
    ENTITY_MANAGEMENT = 3004
    USER_ACCESS = 3005
    APPLICATION_LIFECYCLE = 6002
    API_ACTIVITY = 6003
    DATASTORE_ACTIVITY = 6005


class Action(StrEnum):
    """What can have happened."""

    LOGIN_SUCCEEDED = "login.succeeded"
    LOGIN_REFUSED = "login.refused"  #: the provider knows the person; our rules do not let them in
    LOGIN_FAILED = "login.failed"  #: nobody was proven to be anybody
    LOGOUT = "logout"
    ACCOUNT_LINKED = "account.linked"
    ACCOUNT_UNLINKED = "account.unlinked"
    MEMBERSHIP_REVOKED = "membership.revoked"
    RIGHTS_CHANGED = "rights.changed"  #: the role or the groups that a login or a check gave somebody
    USER_OFFBOARDED = "user.offboarded"
    USER_UNBLOCKED = "user.unblocked"
    USER_CHANGED = "user.changed"  #: this and the next five: through JupyterHub's API
    GROUP_CHANGED = "group.changed"
    TOKEN_CHANGED = "token.changed"  # noqa: S105 - no secret
    SHARE_CHANGED = "share.changed"
    SERVER_REQUESTED = "server.requested"
    HUB_CHANGED = "hub.changed"
    SERVER_STARTED = "server.started"
    SERVER_STOPPED = "server.stopped"
    SERVER_REFUSED = "server.refused"
    KERNEL_STARTED = "kernel.started"  #: as the server says that it runs in
    KERNEL_STOPPED = "kernel.stopped"
    CONTENTS_READ = "contents.read"  #: this and the next three: files, as the server says that they are in
    CONTENTS_WRITTEN = "contents.written"
    CONTENTS_RENAMED = "contents.renamed"
    CONTENTS_DELETED = "contents.deleted"
    KEYS_ROTATED = "keys.rotated"  #: those of auth_state
    KEYSET_CREATED = "keyset.created"  #: this and the next six: the keys that encrypt data at rest
    KEYSET_ROTATED = "keyset.rotated"
    KEYSET_PROMOTED = "keyset.promoted"
    KEYSET_REWRAPPED = "keyset.rewrapped"
    KEYSET_RETIRED = "keyset.retired"
    KEYSET_DESTROYED = "keyset.destroyed"
    KEYSET_ENABLED = "keyset.enabled"
    SUBJECT_KEYS_USED = "subject_keys.used"  #: columns of a table were decrypted
    SECRET_SET = "secret.set"  # noqa: S105 - no secret
    SECRET_REMOVED = "secret.removed"  # noqa: S105 - no secret
    POLICIES_APPLIED = "policies.applied"
    CREDENTIALS_GIVEN = "credentials.given"  #: a role of the warehouse with a new password, to its owner
    CREDENTIALS_REMOVED = "credentials.removed"
    DATA_EXPIRED = "data.expired"  #: rows that a table keeps no longer
    DATA_ERASED = "data.erased"  #: what tables have of a subject
    WORKBENCH_STARTED = "workbench.started"
    WORKBENCH_STOPPED = "workbench.stopped"
    HUB_CONFIGURED = "hub.configured"
    CODE_SHOWN = "code.shown"
    COMPONENT_STARTED = "component.started"
    RUN_STARTED = "run.started"  #: of a pipeline
    RUN_CANCELLED = "run.cancelled"
    RUN_REPAIRED = "run.repaired"
    RUNS_REMOVED = "runs.removed"  #: by retention, with their files
    OUTPUTS_READ = "outputs.read"  #: what steps have put out
    BACKFILL_STARTED = "backfill.started"
    BACKFILL_PAUSED = "backfill.paused"
    BACKFILL_RESUMED = "backfill.resumed"
    BACKFILL_CANCELLED = "backfill.cancelled"
    PIPELINE_PAUSED = "pipeline.paused"
    PIPELINE_RESUMED = "pipeline.resumed"
    POOL_RESIZED = "pool.resized"
    FLOW_STARTED = "flow.started"  #: somebody wants it kept running
    FLOW_STOPPED = "flow.stopped"
    FLOW_RESTARTED = "flow.restarted"
    ALERT_SILENCED = "alert.silenced"  #: nobody is told that it fires, for a while
    ALERT_UNSILENCED = "alert.unsilenced"
    WEBHOOK_ACCEPTED = "webhook.accepted"  #: it makes a run
    WEBHOOK_REFUSED = "webhook.refused"  #: nobody was proven to have the secret
    TOPICS_CHANGED = "topics.changed"
    DATA_QUERIED = "data.queried"
    DATA_WRITTEN = "data.written"
    DEAD_LETTERS_READ = "dead_letters.read"
    DEAD_LETTERS_CHANGED = "dead_letters.changed"
    BACKUP_CREATED = "backup.created"
    BACKUP_REMOVED = "backup.removed"  #: by retention
    BACKUP_RESTORED = "backup.restored"  #: in the log of the restored home
    BACKUP_KEY_ESCROWED = "backup.key_escrowed"
    AUDIT_BEGUN = "audit.begun"  #: the first sealed line
    AUDIT_LINE_TORN = "audit.line_torn"
    AUDIT_CLOCK_WENT_BACK = "audit.clock_went_back"
    AUDIT_KEY_ROTATED = "audit.key_rotated"
    AUDIT_REMOVED = "audit.removed"
    AUDIT_EXPORTED = "audit.exported"


@dataclass(frozen=True)
class Meaning:
    """How OCSF classifies an action, and what happens when its event cannot be written."""

    kind: Class
    activity: int  #: OCSF's `activity_id` within the class; 99 is another than it lists
    fails_closed: bool  #: without the event it is not done


def _of(kind: Class, *actions: tuple[Action, int], fails_closed: bool = True) -> dict[Action, Meaning]:
    return {action: Meaning(kind, activity, fails_closed) for action, activity in actions}


A = Action
#: Every action. What ends access, or tells of what has been, does not wait for a disk that is full.
MEANINGS: dict[Action, Meaning] = {
    **_of(Class.AUTHENTICATION, (A.LOGIN_SUCCEEDED, 1), (A.CODE_SHOWN, 99)),
    **_of(Class.AUTHENTICATION, (A.LOGIN_REFUSED, 1), (A.LOGIN_FAILED, 1), (A.LOGOUT, 2), fails_closed=False),
    **_of(Class.ACCOUNT_CHANGE, (A.ACCOUNT_LINKED, 99), (A.USER_UNBLOCKED, 2), (A.USER_CHANGED, 99)),
    **_of(Class.ACCOUNT_CHANGE, (A.ACCOUNT_UNLINKED, 99), (A.USER_OFFBOARDED, 5), fails_closed=False),
    **_of(Class.USER_ACCESS, (A.GROUP_CHANGED, 99), (A.SHARE_CHANGED, 99)),
    **_of(Class.USER_ACCESS, (A.POLICIES_APPLIED, 99), (A.CREDENTIALS_GIVEN, 1)),
    **_of(Class.USER_ACCESS, (A.RIGHTS_CHANGED, 99), (A.MEMBERSHIP_REVOKED, 2), fails_closed=False),
    **_of(Class.USER_ACCESS, (A.CREDENTIALS_REMOVED, 2), fails_closed=False),
    **_of(Class.ENTITY_MANAGEMENT, (A.TOKEN_CHANGED, 99), (A.KEYS_ROTATED, 3), (A.HUB_CHANGED, 3)),
    **_of(Class.ENTITY_MANAGEMENT, (A.KEYSET_ROTATED, 3), (A.KEYSET_PROMOTED, 3), (A.KEYSET_REWRAPPED, 3)),
    **_of(Class.ENTITY_MANAGEMENT, (A.KEYSET_RETIRED, 3), (A.KEYSET_DESTROYED, 4), (A.KEYSET_ENABLED, 3)),
    **_of(Class.ENTITY_MANAGEMENT, (A.SECRET_SET, 3), (A.SUBJECT_KEYS_USED, 2)),
    **_of(Class.ENTITY_MANAGEMENT, (A.SECRET_REMOVED, 4), fails_closed=False),
    # The first worker makes it: what it encrypts does not go in clear because a disk is full.
    **_of(Class.ENTITY_MANAGEMENT, (A.KEYSET_CREATED, 1), fails_closed=False),
    **_of(Class.APPLICATION_LIFECYCLE, (A.WORKBENCH_STARTED, 3), (A.WORKBENCH_STOPPED, 4), fails_closed=False),
    **_of(Class.APPLICATION_LIFECYCLE, (A.COMPONENT_STARTED, 3), (A.HUB_CONFIGURED, 8), fails_closed=False),
    **_of(Class.APPLICATION_LIFECYCLE, (A.SERVER_REQUESTED, 3), (A.SERVER_STARTED, 3)),
    **_of(Class.APPLICATION_LIFECYCLE, (A.SERVER_STOPPED, 4), (A.SERVER_REFUSED, 3), fails_closed=False),
    **_of(Class.APPLICATION_LIFECYCLE, (A.KERNEL_STARTED, 3), (A.KERNEL_STOPPED, 4), fails_closed=False),
    **_of(Class.FILE_SYSTEM_ACTIVITY, (A.CONTENTS_READ, 2), (A.CONTENTS_WRITTEN, 3), fails_closed=False),
    **_of(Class.FILE_SYSTEM_ACTIVITY, (A.CONTENTS_RENAMED, 5), (A.CONTENTS_DELETED, 4), fails_closed=False),
    **_of(Class.API_ACTIVITY, (A.RUN_STARTED, 1), (A.RUN_REPAIRED, 3), (A.BACKFILL_STARTED, 1)),
    **_of(Class.API_ACTIVITY, (A.BACKFILL_RESUMED, 3), (A.PIPELINE_RESUMED, 3), (A.POOL_RESIZED, 3)),
    **_of(Class.API_ACTIVITY, (A.RUN_CANCELLED, 3), (A.BACKFILL_PAUSED, 3), (A.BACKFILL_CANCELLED, 3)),
    **_of(Class.API_ACTIVITY, (A.PIPELINE_PAUSED, 3), (A.WEBHOOK_ACCEPTED, 1)),
    **_of(Class.API_ACTIVITY, (A.FLOW_STARTED, 3), (A.FLOW_STOPPED, 3), (A.FLOW_RESTARTED, 3)),
    **_of(Class.API_ACTIVITY, (A.ALERT_SILENCED, 1)),
    **_of(Class.API_ACTIVITY, (A.WEBHOOK_REFUSED, 1), (A.ALERT_UNSILENCED, 4), fails_closed=False),
    # Typed by who has the passwords of warehouse and broker: they could do it without the command.
    **_of(Class.DATASTORE_ACTIVITY, (A.DATA_QUERIED, 4), (A.DATA_WRITTEN, 5), fails_closed=False),
    **_of(Class.DATASTORE_ACTIVITY, (A.DEAD_LETTERS_READ, 1), (A.DEAD_LETTERS_CHANGED, 2), fails_closed=False),
    **_of(Class.API_ACTIVITY, (A.TOPICS_CHANGED, 3), fails_closed=False),
    **_of(Class.API_ACTIVITY, (A.RUNS_REMOVED, 4), (A.OUTPUTS_READ, 2), fails_closed=False),
    # A full disk does not keep from what may save the data; a copy of the root key waits for its event.
    **_of(Class.DATASTORE_ACTIVITY, (A.BACKUP_CREATED, 99), (A.BACKUP_REMOVED, 99), fails_closed=False),
    **_of(Class.DATASTORE_ACTIVITY, (A.DATA_EXPIRED, 7), (A.DATA_ERASED, 7)),
    **_of(Class.DATASTORE_ACTIVITY, (A.BACKUP_RESTORED, 99), fails_closed=False),
    **_of(Class.ENTITY_MANAGEMENT, (A.BACKUP_KEY_ESCROWED, 2)),
    **_of(Class.ENTITY_MANAGEMENT, (A.AUDIT_BEGUN, 1), (A.AUDIT_LINE_TORN, 99), (A.AUDIT_CLOCK_WENT_BACK, 99)),
    **_of(Class.ENTITY_MANAGEMENT, (A.AUDIT_KEY_ROTATED, 3), (A.AUDIT_REMOVED, 4), (A.AUDIT_EXPORTED, 2)),
}
del A
