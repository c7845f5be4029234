"""Everything that can be set, read once from the environment and `.env`, checked together.

Sources, the first that names a variable wins: the environment, `.env` in the working
folder, and `run/embedded.env` under WORKBENCH_HOME, which `workbench up` writes to tell
other processes of this user where the servers that it started can be reached.

Only this module reads these variables; library code is handed values.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from workbench.errors import SettingsError
from workbench.masking import remember
from workbench.sections import (
    ALERTS,
    SECTIONS,
    AuditSettings,
    BackupSettings,
    EmbeddedSettings,
    HubSettings,
    KafkaSettings,
    KeysSettings,
    LoginSettings,
    LogSettings,
    PipelinesSettings,
    PoliciesSettings,
    SchemaRegistrySettings,
    Section,
    SparkSettings,
    WarehouseSettings,
    is_loopback,
    variables,
)

EMBEDDED_ENV = "run/embedded.env"
WHERE_ALERTS_BELONG = (
    "Put it into the environment of `workbench up`, or into a file of mode 0600 that pipelines/alerts.yaml names "
    "as `file:/PATH`."
)
S = TypeVar("S", bound=Section)


class Settings(BaseModel):
    """All settings of a workbench: frozen, checked, and safe to print."""

    model_config = ConfigDict(frozen=True)

    home: Path
    kafka: KafkaSettings
    registry: SchemaRegistrySettings
    spark: SparkSettings
    warehouse: WarehouseSettings
    pipelines: PipelinesSettings
    policies: PoliciesSettings
    login: LoginSettings
    hub: HubSettings
    audit: AuditSettings
    embedded: EmbeddedSettings
    keys: KeysSettings
    backup: BackupSettings
    logs: LogSettings

    @classmethod
    def load(cls, *, embedded: bool = True, env_file: Path = Path(".env")) -> Self:
        """Read every source and check all of it.

        Args:
            embedded: whether servers started by `workbench up` count as configured.
            env_file: the file of `NAME=value` lines beside the environment.

        Raises:
            SettingsError: with every problem found, not only the first.
        """
        home = find_home()
        if problem := _foreign_file(env_file):
            # Nothing of it is read: it would decide where our passwords go.
            raise SettingsError([problem])
        files = [home / EMBEDDED_ENV, env_file] if embedded else [env_file]
        problems = _unknown_variables(env_file)
        sections: dict[str, Any] = {}
        for name, section in SECTIONS.items():
            sections[name], found = _read(section, [file for file in files if file.is_file()])
            problems += found
        problems += _exposure_problems(sections["hub"], sections["login"])
        sections["warehouse"] = sections["warehouse"].at(home, sections["keys"])
        if problems:
            raise SettingsError(problems)
        _mask_secrets(sections.values())
        return cls(home=home, **sections)

    @property
    def has_store(self) -> bool:
        """Whether there is a PostgreSQL for the runs of pipelines: one of their own, or the warehouse."""
        return bool(self.pipelines.database_url.get_secret_value()) or self.warehouse.dialect == "postgresql"

    def as_environment(self) -> dict[str, str]:
        """Every variable that was set, secrets in clear: for a child process only."""
        return {name: value for section in SECTIONS for name, value in getattr(self, section).as_environment().items()}


def log_settings(env_file: Path = Path(".env")) -> LogSettings:
    """How to log until all settings are read. What is wrong counts as unset: `Settings.load` tells."""
    try:
        files = [find_home() / EMBEDDED_ENV, env_file]
    except SettingsError:
        files = [env_file]
    if _foreign_file(env_file):
        files.remove(env_file)
    return _read(LogSettings, [file for file in files if file.is_file()])[0]


def _mask_secrets(sections: Iterable[Section]) -> None:
    """No log of this process shows a secret of the settings."""
    for section in sections:
        for name in type(section).model_fields:
            if isinstance(value := getattr(section, name), SecretStr):
                remember(value.get_secret_value())


def find_home() -> Path:
    """WORKBENCH_HOME, else the nearest `.workbench` at or above the working folder, else a new one here."""
    if value := os.environ.get("WORKBENCH_HOME"):
        home = Path(value).expanduser().absolute()
        if home.is_dir() and home.stat().st_mode & stat.S_ISVTX:
            # It is made private, which would lock everybody else out of /tmp.
            raise SettingsError([f"WORKBENCH_HOME is {home}, a folder for all users. Name a folder in it of your own."])
        return home
    here = Path.cwd()
    found = [folder / ".workbench" for folder in (here, *here.parents) if (folder / ".workbench").is_dir()]
    # Somebody else's folder, in /tmp for one, would decide where our passwords go.
    ours = (home for home in found if home.stat().st_uid == os.geteuid())
    home = next(ours, here / ".workbench")
    if home in found and home.stat().st_uid != os.geteuid():
        raise SettingsError([f"{home} belongs to another user. Set WORKBENCH_HOME to a folder of your own."])
    return home


def _foreign_file(env_file: Path) -> str:
    """Why another user may have written *env_file*; empty when none can have, or there is none."""
    try:
        found = env_file.stat()
    except OSError:
        return ""
    path = env_file.absolute()
    if found.st_uid not in {os.geteuid(), 0}:
        return f"{path} belongs to another user (uid {found.st_uid}). Remove it, or work in a folder of your own."
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} may be written by others (mode {stat.S_IMODE(found.st_mode):04o}). Run `chmod 600 {path}`."
    return ""


def _exposure_problems(hub: HubSettings, login: LoginSettings) -> list[str]:
    if login.is_demo and not is_loopback(hub.host):
        exposed = (
            f"WORKBENCH_HUB_HOST is {hub.host}, which other machines reach, but no identity provider is configured."
        )
        return [f"{exposed} Set GOOGLE_CLIENT_ID or GITHUB_CLIENT_ID with its secret, or listen on 127.0.0.1."]
    return []


def _unknown_variables(env_file: Path) -> list[str]:
    names = {name for name in os.environ if name.startswith("WORKBENCH_")}
    if env_file.is_file():
        keys = (line.partition("=")[0].strip() for line in env_file.read_text(encoding="utf-8").splitlines())
        names |= {key for key in keys if key.startswith("WORKBENCH_")}
    known = [*variables(), "WORKBENCH_HOME"]
    problems = []
    for name in sorted(names - set(known)):
        if name.startswith(ALERTS):
            if name not in os.environ:
                # Every notebook reads `.env`, and there are secrets in addresses of channels.
                problems.append(f"{name} is an address of alerts, and none is read from .env. {WHERE_ALERTS_BELONG}")
            continue
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]}?" if close else "docs/settings.md lists every variable."
        problems.append(f"{name} is not a setting. {hint}")
    return problems


def _read(section: type[S], files: list[Path]) -> tuple[S, list[str]]:
    """The section and its problems; a variable that cannot be parsed counts as unset for the other checks."""
    try:
        values, found = section(_env_file=files), []  # type: ignore[call-arg]
    except ValidationError as error:
        details = error.errors(include_url=False)
        found = [_describe(section, detail) for detail in details]
        defaults = {name: _field(section, name).default for name in (str(detail["loc"][0]) for detail in details)}
        values = section(_env_file=files, **defaults)  # type: ignore[call-arg]
    return values, found + values.problems()


def _field(section: type[Section], name: str) -> FieldInfo:
    return next(field for field in section.model_fields.values() if field.validation_alias == name)


def _describe(section: type[Section], detail: Any) -> str:
    name = str(detail["loc"][0])
    field = _field(section, name)
    value = "****" if field.annotation is SecretStr else repr(detail["input"])
    reason = detail["msg"].removeprefix("Value error, ")
    return f"{name} is {value}: {reason[0].lower()}{reason[1:]}. Correct or unset it ({field.description})."
