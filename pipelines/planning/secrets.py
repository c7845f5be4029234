"""Secrets are read where and when they are needed, and nothing keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from pipelines.parameters import SecretReference
from workbench.errors import WorkbenchError


def read_secret(reference: SecretReference, environment: Mapping[str, str], *, remedy: str) -> SecretStr:
    """The secret that is meant.

    Args:
        reference: where it is.
        environment: where secrets of the scheme `env` are.
        remedy: what to do when it is not there.

    Raises:
        WorkbenchError: when it is not there.
    """
    try:
        if reference.scheme == "env":
            return SecretStr(environment[reference.name])
        return SecretStr(Path(reference.name).read_text(encoding="utf-8").rstrip("\n"))
    except (KeyError, OSError, UnicodeDecodeError):
        raise WorkbenchError(f"the secret {reference} is not there", remedy=remedy) from None
