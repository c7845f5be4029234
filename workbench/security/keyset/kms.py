"""A root key that never leaves AWS KMS.

Source: docs.aws.amazon.com/kms, Encrypt and Decrypt. Needs the extra `aws`; credentials and region
come from where boto3 looks for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workbench.errors import RootKeyUnavailable, WrongKey

REFUSED = {"InvalidCiphertextException", "IncorrectKeyException"}


@dataclass(frozen=True)
class KmsRoot:
    """A symmetric key, by id, ARN or `alias/NAME`."""

    key: str
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"aws-kms:{self.key}")

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """See `RootKey`."""
        return bytes(self._ask("encrypt", context, Plaintext=key)["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See `RootKey`."""
        return bytes(self._ask("decrypt", context, CiphertextBlob=wrapped)["Plaintext"])

    def _ask(self, operation: str, context: bytes, **fields: bytes) -> Any:
        try:
            import boto3
            from botocore.exceptions import BotoCoreError, ClientError
        except ModuleNotFoundError as error:
            raise RootKeyUnavailable(
                f"{error.name} is not installed", remedy="Install analytics-workbench[aws]."
            ) from None
        try:
            client = boto3.client("kms")
            return getattr(client, operation)(KeyId=self.key, EncryptionContext={"keyset": context.hex()}, **fields)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in REFUSED:
                raise WrongKey(
                    f"the key {self.name} does not unwrap the keyset: {code}", remedy="Name the key it was made with."
                ) from None
            raise self._unavailable(str(error)) from None
        except (BotoCoreError, ValueError) as error:
            raise self._unavailable(str(error)) from None

    def _unavailable(self, reason: str) -> RootKeyUnavailable:
        return RootKeyUnavailable(
            f"AWS KMS does not give the use of {self.name}: {reason[:300]}",
            remedy="Look whether region and credentials are set, and allow kms:Encrypt and kms:Decrypt on the key.",
        )
