"""Certificate authorities of this workbench's own, and the server certificates they sign.

The embedded broker has one, and the hub another, because people put the hub's into their browsers.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from workbench.security.secrets import private_folder, write_private

AUTHORITY_DAYS = 3650
SERVER_DAYS = 365
RENEW_BEFORE_DAYS = 30
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files, all of mode 0600."""

    authority: Path  #: certificate to trust
    server: Path  #: private key (PKCS 8), server certificate and authority in one file

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Where the files of *folder* are, whether or not they have been made."""
        return cls(authority=folder / "ca.pem", server=folder / "server.pem")


def ensure_certificates(
    folder: Path, *, hosts: Collection[str] = LOOPBACK_HOSTS, owner: str = "embedded servers"
) -> CertificateFiles:
    """Return the files in *folder*; make the authority once, and the server's anew before it expires.

    *hosts* are the names and addresses that clients dial, `*.name` included; when they change, the
    server's certificate is made anew too. *owner* is what a list of authorities shows.
    """
    private_folder(folder)
    files = CertificateFiles.of(folder)
    authority_key = folder / "ca.key"
    if not (files.authority.exists() and authority_key.exists()):
        # Before the new key is there: a crash never leaves a key beside what another one has signed.
        files.server.unlink(missing_ok=True)
        files.authority.unlink(missing_ok=True)
        _make_authority(authority_key, files.authority, owner)
    if not _is_current(files.server, hosts):
        _make_server(authority_key, files, hosts)
    return files


def _make_authority(key_file: Path, certificate_file: Path, owner: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"analytics workbench, {owner}")])
    usage = x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(name, name, key, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    write_private(key_file, _key_pem(key))
    write_private(certificate_file, certificate.public_bytes(Encoding.PEM))


def _make_server(authority_key_file: Path, files: CertificateFiles, hosts: Collection[str]) -> None:
    authority_pem = files.authority.read_bytes()
    authority = x509.load_pem_x509_certificate(authority_pem)
    authority_key = load_pem_private_key(authority_key_file.read_bytes(), password=None)
    assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        _builder(name, authority.subject, key, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        # The broker is a client of its own controller listener too.
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    write_private(files.server, _key_pem(key) + certificate.public_bytes(Encoding.PEM) + authority_pem)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ; a certificate of the last hour is valid on a machine that is behind.
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _is_current(file: Path, hosts: Collection[str]) -> bool:
    if not file.exists():
        return False
    certificate = x509.load_pem_x509_certificates(file.read_bytes())[0]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    lasts = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC) > dt.timedelta(days=RENEW_BEFORE_DAYS)
    return lasts and set(names) == {_general_name(host) for host in hosts}


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
