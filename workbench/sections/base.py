"""What all sections share: how a variable is declared, and the types that several of them have."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SIZE = re.compile(r"\d+[kmgt]", re.IGNORECASE)  #: of memory or of a disk


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _memory(value: str) -> str:
    if not SIZE.fullmatch(value):
        raise ValueError("a size is a number and one of k, m, g, t, such as 2g")
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Port = Annotated[int, Field(ge=1, le=65535)]
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
Memory = Annotated[str, AfterValidator(_memory)]


def variable(name: str, default: Any, description: str) -> Any:
    """A field that the variable *name* sets; *description* stands in docs/settings.md."""
    return Field(default, validation_alias=name, description=description)


class Section(BaseSettings):
    """One group of variables; each field's alias is the name of its variable."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, case_sensitive=True, hide_input_in_errors=True
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        return []

    def label(self, field: str) -> str:
        """What people write to set *field*: its variable."""
        return str(type(self).model_fields[field].validation_alias)

    def as_environment(self) -> dict[str, str]:
        """The variables that were set, with their values, secrets in clear: for a child process only."""
        return {
            str(type(self).model_fields[name].validation_alias): as_text(getattr(self, name))
            for name in self.model_fields_set
        }


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach *host*: `localhost`, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def as_text(value: object) -> str:
    """How the value is written in a variable, secrets in clear."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
