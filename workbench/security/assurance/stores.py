"""What lies on the disk under WORKBENCH_HOME: keys, the files of the servers, the audit log, checkpoints, scratch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from workbench.security.assurance.files import all_private, begins_encrypted, is_private, on_encrypted_disk
from workbench.security.assurance.rows import Kind, NotProtected, Row, examine, not_in_use
from workbench.security.assurance.site import Site
from workbench.security.audit import AuditLog
from workbench.security.audit.proof import anchors, verification
from workbench.security.audit.proof.signing import SigningKey
from workbench.security.keyset.opening import Keys
from workbench.security.subjects.keys import SubjectKeys
from workbench.security.subjects.store import SubjectStore

IO_ENCRYPTION = "spark.io.encryption.enabled"


def keys_store(site: Site) -> Row:
    """The keyset, the root key beside it, passwords, tokens and private keys of certificates."""
    folder = site.home / "keys"
    if not folder.is_dir():
        return not_in_use(Kind.STORE, "keys", "nothing has been started here yet")
    return examine(Kind.STORE, "keys", partial(all_private, folder), partial(_keyset, site), partial(_root_key, site))


def subject_keys_store(site: Site) -> Row:
    """The keys of subjects, which encrypt columns of the warehouse."""
    store, name = SubjectStore.of(site.home), "keys of subjects"
    if not store.exists:
        return not_in_use(Kind.STORE, name, "no policies encrypt columns by subject")
    return examine(Kind.STORE, name, partial(is_private, store.path), partial(_subject_keys, site))


def addresses_store(site: Site) -> Row:
    """What running processes are told: addresses, passwords and tokens of this run."""
    folder = site.home / "run"
    if not folder.is_dir():
        return not_in_use(Kind.STORE, "addresses and tokens", "nothing has been started here yet")
    return examine(Kind.STORE, "addresses and tokens", partial(all_private, folder), partial(on_encrypted_disk, folder))


def logs_store(site: Site) -> Row:
    """What the servers print."""
    folder = site.home / "logs"
    if not folder.is_dir():
        return not_in_use(Kind.STORE, "logs", "nothing has been started here yet")
    return examine(Kind.STORE, "logs", partial(all_private, folder), partial(on_encrypted_disk, folder))


def warehouse_store(site: Site) -> Row:
    """PostgreSQL's files, or the file of DuckDB."""
    settings, name = site.settings.warehouse, "warehouse files"
    if settings.dialect == "duckdb":
        if settings.file is None or not settings.file.exists():
            return not_in_use(Kind.STORE, name, "there is no DuckDB file yet")
        file = settings.file
        return examine(Kind.STORE, name, partial(is_private, file), partial(_duckdb_is_encrypted, file))
    data = site.home / "postgres" / "data"
    if not data.is_dir():
        return not_in_use(Kind.STORE, name, "the warehouse is elsewhere")
    owner = data.stat().st_uid
    private = partial(is_private, data, others=(owner,) if _runs_here(site) else ())
    return examine(Kind.STORE, name, private, partial(on_encrypted_disk, data))


def broker_store(site: Site) -> Row:
    """The log of the embedded broker."""
    data = site.home / "kafka" / "data"
    if not data.is_dir():
        return not_in_use(Kind.STORE, "broker's log", "the broker is elsewhere")
    folder = partial(is_private, site.home / "kafka")
    return examine(Kind.STORE, "broker's log", folder, partial(on_encrypted_disk, data))


def audit_store(site: Site) -> Row:
    """The audit log: who may read it, and whether it is as it was written."""
    log = AuditLog.of(site.home).path
    if not log.exists():
        return not_in_use(Kind.STORE, "audit log", "nothing has been recorded yet")
    checks = partial(_chain, site), partial(_anchored, site), partial(on_encrypted_disk, log.parent)
    return examine(Kind.STORE, "audit log", partial(all_private, log.parent), *checks)


def checkpoints_store(site: Site) -> Row:
    """What flows with engine stream keep between their batches."""
    folder = site.home / "checkpoints"
    if not folder.is_dir():
        return not_in_use(Kind.STORE, "checkpoints", "no flow has engine stream")
    return examine(Kind.STORE, "checkpoints", partial(is_private, folder), partial(on_encrypted_disk, folder))


def scratch_store(site: Site) -> Row:
    """What the Spark server of jobs shuffles and spills."""
    folder = site.home / "spark"
    if not (folder / "scratch").is_dir():
        return not_in_use(Kind.STORE, "spark scratch", "no Spark server of jobs has run here")
    return examine(Kind.STORE, "spark scratch", partial(is_private, folder), partial(_spills_encrypted, folder))


def backups_store(site: Site) -> Row:
    """Full backups and what was written since, where WORKBENCH_BACKUP_FOLDER puts them."""
    folder = site.settings.backup.folder
    if folder is None:
        return not_in_use(Kind.STORE, "backups", "WORKBENCH_BACKUP_FOLDER is not set: none are made")
    if not folder.is_dir():
        return not_in_use(Kind.STORE, "backups", f"there is nothing at {folder} yet")
    return examine(Kind.STORE, "backups", partial(all_private, folder), partial(_backups_encrypted, folder))


def stores(site: Site) -> Iterator[Row]:
    """All of this module."""
    for store in (
        keys_store,
        subject_keys_store,
        addresses_store,
        warehouse_store,
        broker_store,
        audit_store,
        checkpoints_store,
        scratch_store,
        logs_store,
        backups_store,
    ):
        yield store(site)


def _keyset(site: Site) -> str:
    keys = Keys.of(site.home, site.settings.keys)
    if not keys.file.exists and not keys.inventory.path.exists():
        return ""
    keyset = keys.file.read()
    keys.inventory.check(keyset.inventory)
    return f"the keyset opens with the root key {keys.file.root.name}"


def _subject_keys(site: Site) -> str:
    keys = SubjectKeys(site.home, Keys.of(site.home, site.settings.keys))
    # One is opened, so that it is known to be wrapped by this keyset.
    for kind, fingerprint, _ in keys.store.headers(("", b""), 1):
        keys.find(kind, [fingerprint.hex()])
    held, erased = keys.store.counts()
    return f"{held:,} keys, wrapped by the keyset; {erased:,} destroyed"


def _root_key(site: Site) -> str:
    settings = site.settings.keys
    file = settings.file(site.home)
    if settings.root != "file":
        return f"the root key is with {settings.root}"
    if not file.is_relative_to(site.home):
        return "the root key is outside of WORKBENCH_HOME"
    raise NotProtected(
        "the root key lies beside the keyset: who copies the folder can decrypt all",
        remedy="Set WORKBENCH_KEYS_ROOT to vault or aws-kms, or WORKBENCH_KEYS_ROOT_FILE to a file elsewhere.",
        promised=False,
    )


def _runs_here(site: Site) -> bool:
    """Whether the embedded server runs: where we are root it does so as another user, who owns its files."""
    return any("workbench.conf" in " ".join(each.command) for each in site.listeners)


def _duckdb_is_encrypted(file: Path) -> str:
    import duckdb

    try:
        duckdb.connect(str(file), read_only=True).close()
    except duckdb.Error as error:
        if "encrypt" in str(error).lower():
            return "DuckDB does not open it without its key"
        raise NotProtected(
            f"DuckDB cannot tell whether {file} is encrypted while another process has it",
            remedy="Look again when nobody writes.",
        ) from None
    raise NotProtected(f"{file} opens without a key", remedy="Move it away: the workbench makes an encrypted one.")


def _chain(site: Site) -> str:
    key = site.home / "keys" / "audit-signing"
    keys = [SigningKey.read(key).public] if key.is_file() else []
    report = verification.verify(AuditLog.of(site.home).path, keys, anchors.readable_anchors_of(site.settings.audit))
    if report.problems:
        raise NotProtected(
            f"the audit log is not as it was written: {report.problems[0]}",
            remedy="`workbench audit verify` has all that was found. Keep a copy of the folder.",
        )
    return f"a chain of {report.events:,} events, as {report.checkpoints:,} signed checkpoints have it"


def _anchored(site: Site) -> str:
    if anchors.anchors_of(site.settings.audit):
        return "its checkpoints are anchored elsewhere, too"
    raise NotProtected(
        "no anchor: who has the signing key can write all of it anew",
        remedy="Set one of WORKBENCH_AUDIT_ANCHOR_FILE, _SYSLOG and _DATABASE_URL.",
        promised=False,
    )


def _spills_encrypted(folder: Path) -> str:
    lines = (folder / "spark.properties").read_text(encoding="utf-8").splitlines()
    said = dict(line.split(None, 1) for line in lines if len(line.split(None, 1)) == 2)
    if said.get(IO_ENCRYPTION) == "true":
        return f"what is shuffled and spilled is encrypted (AES, {said.get('spark.io.encryption.keySizeBits', '128')} bits)"
    raise NotProtected(
        f"the Spark server was started without {IO_ENCRYPTION}",
        remedy=f"Set {IO_ENCRYPTION} to true in the profile, as spark_conf/base.conf has it.",
    )


def _backups_encrypted(folder: Path) -> str:
    """Each file begins as encrypted data does; the keyset stands there too, under its root key."""
    files = sorted(folder.rglob("*.enc"))
    for file in files:
        begins_encrypted(file)
    return f"{len(files)} files are encrypted"
