"""Secrets are taken out of what a notebook puts out, in the forms that programs give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from workbench.errors import WorkbenchError
from workbench.masking import secret_forms

LEAST_CHARACTERS = 4


class Redactor:
    """Replaces secrets in texts; knows each as it is, in base64, hex, URLs, JSON, HTML and `repr`.

    Raises:
        WorkbenchError: for a secret that is too short to be told from other text.
    """

    def __init__(self, secrets: Mapping[str, SecretStr]) -> None:
        for name, secret in secrets.items():
            if len(secret.get_secret_value()) < LEAST_CHARACTERS:
                raise WorkbenchError(
                    f"the secret {name} has fewer than {LEAST_CHARACTERS} characters and cannot be kept out of outputs",
                    remedy="Use a longer one.",
                )
        found = {form: name for name, secret in secrets.items() for form in secret_forms(secret.get_secret_value())}
        # The longest first: one form may be part of another.
        self._names = dict(sorted(found.items(), key=lambda each: -len(each[0])))
        self._longest = max(map(len, self._names), default=0)

    def redacted(self, text: str) -> str:
        """*text* with the name of a secret in the place of its value."""
        for form, name in self._names.items():
            if form in text:
                text = text.replace(form, f"[secret {name}]")
        return text

    def cleaned(self, value: Any) -> Any:
        """*value*, of JSON, with every text in it redacted, keys of objects too."""
        if not self._names:
            return value
        if isinstance(value, str):
            return self.redacted(value)
        if isinstance(value, Mapping):
            return {self.redacted(key): self.cleaned(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.cleaned(each) for each in value]
        return value

    def split(self, text: str) -> tuple[str, str]:
        """*text* without what may be the beginning of a secret at its end, and that end.

        A kernel cuts what is printed into messages wherever it likes.
        """
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-length:]
            if any(form.startswith(end) for form in self._names):
                return text[:-length], end
        return text, ""

    def redacted_tail(self, text: str) -> str:
        """*text*, whose beginning was cut off, redacted, and without what may be the end of a secret there."""
        text = text.lstrip("\N{REPLACEMENT CHARACTER}")  # the rest of a character that the cut has divided
        lengths = range(min(self._longest - 1, len(text)), 0, -1)
        begin = next((each for each in lengths if any(form.endswith(text[:each]) for form in self._names)), 0)
        while (end := self._end_across(text, begin)) > begin:
            begin = end
        return self.redacted(text[begin:])

    def _end_across(self, text: str, position: int) -> int:
        """Where a secret ends that begins before *position* and ends behind it; *position* when there is none."""
        for form in self._names:
            found = text.find(form, max(0, position - len(form) + 1), position + len(form) - 1)
            if 0 <= found < position:
                return found + len(form)
        return position
