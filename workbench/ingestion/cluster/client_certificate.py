"""The certificate that we show to brokers: checked before it is sent, and rewritten for Java.

Brokers say little of a certificate that they refuse, so what can be known here is said here.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import KafkaError
from workbench.ingestion.cluster.connection_errors import setting

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

    from workbench.ingestion.cluster.connection import KafkaConnection


def check_client_certificate(connection: KafkaConnection) -> None:
    """Find what is wrong with the client's certificate and key without asking a broker.

    Raises:
        KafkaError: when a file cannot be read, the key's password is wrong, the key is not that of
            the certificate, or the certificate has expired or is not valid yet.
    """
    if not (connection.is_encrypted and connection.certificate_file):
        return
    certificate, key = _read_chain(connection)[0], _read_key(connection)
    name = certificate.subject.rfc4514_string()
    if key.public_key() != certificate.public_key():
        raise KafkaError(
            f"{connection.key_file} is not the key of the client certificate {name} ({connection.certificate_file})",
            remedy=f"Set {setting(connection, 'key_file')} to the key that the certificate was made with.",
        )
    now = dt.datetime.now(dt.UTC)
    if certificate.not_valid_after_utc < now:
        raise KafkaError(
            f"our client certificate {name} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC ({connection.certificate_file})",
            remedy=f"Have it renewed, and put the new one into {setting(connection, 'certificate_file')}.",
        )
    if certificate.not_valid_before_utc > now:
        raise KafkaError(
            f"our client certificate {name} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC ({connection.certificate_file})",
            remedy="Check the clock of this machine, or wait.",
        )


def java_keystore(connection: KafkaConnection) -> tuple[str, str]:
    """Certificate chain and private key as PEM texts that Kafka's Java client takes (KIP-651).

    The key is PKCS 8 and not encrypted: Java 17 cannot read the encryption that OpenSSL uses by default.

    Raises:
        KafkaError: when one of the files cannot be read.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    chain = "".join(each.public_bytes(Encoding.PEM).decode() for each in _read_chain(connection))
    key = _read_key(connection).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return chain, key.decode()


def _read_chain(connection: KafkaConnection) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    file = Path(connection.certificate_file)
    try:
        return load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no PEM certificate in it"
        raise KafkaError(
            f"the client certificate {file} cannot be read: {reason}",
            remedy=f"Set {setting(connection, 'certificate_file')} to a PEM file that begins with -----BEGIN CERTIFICATE-----.",
        ) from None


def _read_key(connection: KafkaConnection) -> PrivateKeyTypes:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    file = Path(connection.key_file)
    password = connection.key_password.get_secret_value().encode() or None
    try:
        content = file.read_bytes()
        encrypted = b"ENCRYPTED" in content
        return load_pem_private_key(content, password if encrypted else None)
    except OSError as error:
        reason, remedy = error.strerror, f"Set {setting(connection, 'key_file')} to a file that this user may read."
    except TypeError:
        reason, remedy = "it is encrypted", f"Set {setting(connection, 'key_password')}."
    except ValueError:
        reason = "the password is wrong" if encrypted and password else "there is no PEM key in it"
        remedy = f"Check {setting(connection, 'key_password' if encrypted and password else 'key_file')}."
    raise KafkaError(f"the key {file} of the client certificate cannot be read: {reason}", remedy=remedy)
