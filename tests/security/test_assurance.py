"""Servers without protection, put in the place of ours: `workbench doctor --security` finds each."""

from __future__ import annotations

import os
import ssl
import struct
from functools import partial
from pathlib import Path

import pytest

from hub import assurance
from tests.services.certificates import Authority
from tests.services.impostors import answering
from workbench.security.assurance import Kind, NotProtected, Site, State, examine, kafka, postgres, spark
from workbench.security.assurance.hops import kafka_hop, registry_hop, warehouse_hop
from workbench.security.assurance.http import refuses_strangers
from workbench.security.assurance.tls import Server, has_tls, refuses_plaintext
from workbench.settings import Settings

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
AUTHENTICATION_OK = b"R" + struct.pack(">ii", 8, 0)
IN_CLEAR = b"R" + struct.pack(">ii", 8, 3)
MD5 = b"R" + struct.pack(">ii", 12, 5) + b"salt"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


def context_of(authority: Authority, name: str, **options: object) -> ssl.SSLContext:
    pair = authority.issue(name, **options)  # type: ignore[arg-type]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


def settings(monkeypatch: pytest.MonkeyPatch, home: Path, **variables: str) -> Settings:
    for name, value in {"WORKBENCH_HOME": str(home), **variables}.items():
        monkeypatch.setenv(name, value)
    return Settings.load()


@pytest.mark.parametrize("reply", [b"", OK, b"\x00\x00\x00\x04\x00\x00\x00\x01"])
def test_a_server_without_tls_in_the_place_of_the_broker_is_found(monkeypatch, tmp_path, authority, reply):
    with answering(reply) as port:
        found = settings(
            monkeypatch, tmp_path, KAFKA_BROKERS=f"localhost:{port}", WORKBENCH_KAFKA_CA_FILE=str(authority.file)
        )
        row = kafka_hop(Site.of(found, None))

    assert row.is_broken
    assert "there is no TLS" in row.lacks[0].why


@pytest.mark.parametrize("fault", ["another authority", "another name", "expired", "ends soon"])
def test_a_certificate_that_is_not_good_is_found(tmp_path, authority, fault):
    signer = Authority(tmp_path, "theirs") if fault == "another authority" else authority
    days = {"expired": -1, "ends soon": 3}.get(fault, 30)
    host = "elsewhere" if fault == "another name" else "localhost"
    with answering(b"", context=context_of(signer, fault.replace(" ", "-"), host=host, days=days)) as port:
        server = Server(host="127.0.0.1", port=port, name="localhost", authority=authority.file)
        with pytest.raises(NotProtected, match="ends in" if fault == "ends soon" else "is not good"):
            has_tls(server)


def test_a_good_certificate_is_told_with_its_days(authority):
    with answering(b"", context=context_of(authority, "good", days=30)) as port:
        server = Server(host="127.0.0.1", port=port, name="localhost", authority=authority.file)
        assert "good for 29 days" in has_tls(server)
        assert refuses_plaintext(server) == "plaintext is refused"


def test_a_broker_that_tells_strangers_of_its_topics_is_found(authority):
    with answering(b"\x00\x00\x00\x04\x00\x00\x00\x01", context=context_of(authority, "open")) as port:
        server = Server(host="127.0.0.1", port=port, name="localhost", authority=authority.file)
        with pytest.raises(NotProtected, match="has not logged in"):
            kafka.refuses_strangers(server)


def test_a_port_that_also_answers_in_clear_is_found():
    with answering(OK) as port, pytest.raises(NotProtected, match="in clear"):
        refuses_plaintext(Server(host="127.0.0.1", port=port, name="localhost"))


@pytest.mark.parametrize("reply", [AUTHENTICATION_OK, IN_CLEAR, MD5, OK])
def test_a_postgresql_that_asks_for_less_than_scram_is_found(reply):
    with answering(reply) as port, pytest.raises(NotProtected, match="lets ada in"):
        postgres.asks_for_scram(Server(host="127.0.0.1", port=port, name=""), "ada", "analytics", over_tls=False)


def test_a_warehouse_elsewhere_without_tls_is_found(monkeypatch, tmp_path):
    with answering(b"N") as port:
        variables = {"DW_HOST": "127.0.0.1", "DW_PORT": str(port), "DW_USER": "ada", "DW_PASSWORD": "x"}
        found = settings(monkeypatch, tmp_path, WORKBENCH_WAREHOUSE_SSLMODE="require", **variables)
        row = warehouse_hop(Site.of(found, None))

    assert row.is_broken
    assert "declined SSLRequest" in row.lacks[0].why


def test_another_program_on_the_port_of_the_embedded_warehouse_is_found(monkeypatch, tmp_path):
    with answering(b"R" + struct.pack(">ii", 23, 10) + b"SCRAM-SHA-256\0\0") as port:
        variables = {"DW_HOST": "127.0.0.1", "DW_PORT": str(port), "DW_USER": "ada", "DW_PASSWORD": "x"}
        (tmp_path / "run").mkdir(mode=0o700)
        (tmp_path / "run" / "embedded.env").write_text("DW_HOST='127.0.0.1'\n")
        # It looks like the warehouse in all it says, but is no process of the workbench.
        site = Site(settings=settings(monkeypatch, tmp_path, **variables), pid=os.getppid())
        row = warehouse_hop(site)

    assert row.is_broken
    assert "no process of this workbench" in row.lacks[0].why


@pytest.mark.parametrize("reply", [OK, b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n", b"nonsense\r\n"])
def test_an_http_server_that_lets_strangers_in_is_found(reply):
    with answering(reply) as port, pytest.raises(NotProtected):
        refuses_strangers(f"http://127.0.0.1:{port}/hub/api/users")


@pytest.mark.parametrize("reply", [b"", OK, b"\x00" * 8 + b"\x05" + b"java.io.EOFException at NettyRpcHandler"])
def test_a_driver_that_does_not_ask_for_its_secret_is_found(reply):
    with answering(reply) as port, pytest.raises(NotProtected):
        spark.driver_refuses_strangers("127.0.0.1", port)


def test_a_connect_server_that_is_none_is_found():
    with answering(OK) as port:
        row = examine(Kind.HOP, "spark", partial(spark.connect_refuses_strangers, "127.0.0.1", port))

    assert row.is_broken


def test_a_python_daemon_that_takes_any_secret_is_found():
    with answering(struct.pack(">i", 2) + b"ok") as port, pytest.raises(NotProtected):
        spark.python_refuses_strangers("127.0.0.1", port)


def test_a_registry_that_asks_for_no_login_is_told_and_is_no_fault(monkeypatch, tmp_path):
    with answering(OK) as port:
        found = settings(monkeypatch, tmp_path, WORKBENCH_REGISTRY_URL=f"http://127.0.0.1:{port}")
        row = registry_hop(Site.of(found, None))

    assert (row.state, row.is_broken) == (State.NOT_PROTECTED, False)


def test_the_hub_with_a_certificate_and_a_persons_server_are_proved(encrypted_hub, monkeypatch):
    variables = {
        "WORKBENCH_HUB_TLS": "generated",
        "WORKBENCH_HUB_PORT": str(encrypted_hub.ports.proxy),
        "WORKBENCH_HUB_PUBLIC_URL": encrypted_hub.url,
    }
    found = settings(monkeypatch, encrypted_hub.home, **variables)
    assert encrypted_hub.process is not None
    site = Site.of(found, encrypted_hub.process.pid)
    rows = {row.subject: row for row in assurance.rows(site)}

    assert rows["proxy"].state is State.PROTECTED, rows["proxy"]
    assert any("certificate for" in each for each in rows["proxy"].proved)
    assert rows["people's servers"].state is State.PROTECTED, rows["people's servers"]
    assert "1 running" in rows["people's servers"].proved
    assert encrypted_hub.ports.proxy not in {each.port for each in site.others()}
    broken = {name: row.lacks for name, row in rows.items() if row.is_broken}
    # Here the identity provider is not started by whoever starts the hub.
    assert set(broken) <= {"demo identity provider"}, broken


def test_a_hub_without_tls_in_the_place_of_the_proxy_is_found(encrypted_hub, monkeypatch):
    with answering(OK) as port:
        variables = {
            "WORKBENCH_HUB_TLS": "generated",
            "WORKBENCH_HUB_PUBLIC_URL": encrypted_hub.url,
        }
        found = settings(monkeypatch, encrypted_hub.home, **variables)
        server = Server(
            host="127.0.0.1",
            port=port,
            name="hub.localhost",
            authority=encrypted_hub.authority,
        )
        assert found.hub.tls == "generated"
        row = examine(Kind.HOP, "proxy", partial(has_tls, server), partial(refuses_plaintext, server))

    assert row.is_broken
    assert len(row.lacks) == 2
