"""Where backups go, how often they are made, and how long they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from workbench.sections.base import AbsolutePath, CommaSeparated, Section, variable


class BackupSettings(Section):
    """Where encrypted backups go; without WORKBENCH_BACKUP_FOLDER none are made."""

    folder: AbsolutePath | None = variable(
        "WORKBENCH_BACKUP_FOLDER", None, "folder of backups, best on another disk; unset makes none"
    )
    include: CommaSeparated = variable(
        "WORKBENCH_BACKUP_INCLUDE", (), "files and folders outside of WORKBENCH_HOME that belong into backups"
    )
    every_hours: Annotated[float, Field(gt=0, le=24 * 31)] = variable(
        "WORKBENCH_BACKUP_EVERY_HOURS", 24, "hours between two full backups; changes are kept all the time"
    )
    incremental_hours: Annotated[float, Field(ge=0, le=24 * 31)] = variable(
        "WORKBENCH_BACKUP_INCREMENTAL_HOURS", 0, "hours until a backup of what has changed since the full one; 0: none"
    )
    keep_days: Annotated[float, Field(gt=0, le=3660)] = variable(
        "WORKBENCH_BACKUP_KEEP_DAYS", 14, "days back to which the warehouse can be restored"
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        relative = [each for each in self.include if not Path(each).is_absolute()]
        if relative:
            return [
                f"WORKBENCH_BACKUP_INCLUDE names {relative[0]}, which is no whole path. Write one that begins with /."
            ]
        return []
