from __future__ import annotations

import datetime as dt
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from workbench.security import certificates
from workbench.security.certificates import ensure_certificates
from workbench.security.secrets import write_private


def test_the_files_are_private_and_made_once(tmp_path):
    files = ensure_certificates(tmp_path / "tls")
    before = {path: path.read_bytes() for path in (tmp_path / "tls").iterdir()}

    assert ensure_certificates(tmp_path / "tls") == files
    assert {path: path.read_bytes() for path in (tmp_path / "tls").iterdir()} == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in before} == {0o600}


def test_the_server_certificate_is_signed_by_the_authority_and_names_loopback(tmp_path):
    files = ensure_certificates(tmp_path)

    authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
    server = x509.load_pem_x509_certificates(files.server.read_bytes())[0]

    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert {str(each) for each in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}


def test_a_certificate_that_expires_soon_is_renewed_under_the_same_authority(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates, "SERVER_DAYS", 10)
    files = ensure_certificates(tmp_path)
    old, authority = files.server.read_bytes(), files.authority.read_bytes()
    monkeypatch.setattr(certificates, "SERVER_DAYS", 365)

    ensure_certificates(tmp_path)

    server = x509.load_pem_x509_certificates(files.server.read_bytes())[0]
    assert files.server.read_bytes() != old
    assert files.authority.read_bytes() == authority
    assert server.not_valid_after_utc > dt.datetime.now(dt.UTC) + dt.timedelta(days=300)


def test_other_hosts_lead_to_another_certificate_under_the_same_authority(tmp_path):
    files = ensure_certificates(tmp_path)
    authority = files.authority.read_bytes()

    ensure_certificates(tmp_path, hosts={"hub.example.com", "*.hub.example.com", "192.0.2.7"})

    server = x509.load_pem_x509_certificates(files.server.read_bytes())[0]
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"hub.example.com", "*.hub.example.com"}
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
    assert files.authority.read_bytes() == authority


@pytest.mark.parametrize("lost", ["ca.key", "ca.pem"])
@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_crash_while_the_authority_is_made_anew_leaves_no_pair_that_does_not_fit(
    tmp_path, monkeypatch, lost, written
):
    ensure_certificates(tmp_path)
    (tmp_path / lost).unlink()
    left = iter(range(written))

    def write_some(path, content):
        if next(left, None) is None:
            raise KeyboardInterrupt
        write_private(path, content)

    with monkeypatch.context() as crash:
        crash.setattr(certificates, "write_private", write_some)
        with pytest.raises(KeyboardInterrupt):
            ensure_certificates(tmp_path)

    files = ensure_certificates(tmp_path)

    authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
    chain = x509.load_pem_x509_certificates(files.server.read_bytes())
    assert chain[1] == authority
    chain[0].verify_directly_issued_by(authority)
    key = load_pem_private_key((tmp_path / "ca.key").read_bytes(), password=None)
    assert key.public_key() == authority.public_key()
