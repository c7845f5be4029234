from __future__ import annotations

import datetime as dt
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hub.certificate import CertificateWatch
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


def test_a_pair_of_files_is_taken_once_and_only_when_it_fits(tmp_path, caplog):
    first, other = (ensure_certificates(tmp_path / name).server.read_bytes() for name in ("first", "other"))
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    watch = CertificateWatch(certificate, key)
    assert not watch.look()

    for half in (certificate, key):
        half.write_bytes(first)
    assert [watch.look(), watch.look()] == [True, False]

    key.write_bytes(other)
    assert [watch.look(), watch.look()] == [False, False]
    certificate.write_bytes(other)
    assert [watch.look(), watch.look()] == [True, False]
    assert len(caplog.messages) == 2  # there were none, and the halves did not fit


def test_files_of_ours_are_made_anew_at_a_look(tmp_path, monkeypatch):
    server = ensure_certificates(tmp_path).server
    watch = CertificateWatch(server, server, lambda: ensure_certificates(tmp_path))
    assert [watch.look(), watch.look()] == [True, False]

    monkeypatch.setattr(certificates, "RENEW_BEFORE_DAYS", certificates.SERVER_DAYS + 1)
    before = server.read_bytes()
    assert watch.look()
    assert server.read_bytes() != before
