from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from workbench.errors import PortTaken
from workbench.runtime import ports
from workbench.runtime.ports import any_free, choose, is_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_free_port_is_taken_as_it_is():
    port = any_free()

    assert choose(port) == port


def test_a_taken_default_gives_way(taken):
    assert choose(taken) != taken
    assert not is_free(taken)


def test_a_taken_port_that_was_asked_for_is_an_error(taken):
    with pytest.raises(PortTaken, match=rf"port {taken} \(DW_PORT\) is in use"):
        choose(taken, variable="DW_PORT", asked_for=True)


def test_an_address_of_another_machine_is_not_called_a_taken_port():
    with pytest.raises(PortTaken, match=r"nothing can listen on 192\.0\.2\.1"):
        choose(any_free(), variable="WORKBENCH_HUB_PORT", asked_for=True, host="192.0.2.1")


def test_a_port_that_is_given_out_is_none_that_connections_go_out_from(monkeypatch):
    assert {any_free() for _ in range(20)} <= set(ports.UNASKED)

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        monkeypatch.setattr(ports, "UNASKED", range(port, port + 1))
        monkeypatch.setattr(ports, "TRIES", 1)
        assert any_free() != port


@pytest.mark.skipif(sys.platform != "linux", reason="ports are marked in Linux's abstract namespace")
def test_two_processes_that_choose_at_once_do_not_choose_the_same():
    port = any_free()
    program = f"from workbench.runtime.ports import choose; print(choose({port}), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        theirs = int(other.stdout.readline())
        other.communicate("\n")

    assert is_free(port)
    assert theirs != port
    assert choose(port) == port


@pytest.mark.skipif(sys.platform != "linux", reason="ports are marked in Linux's abstract namespace")
def test_a_port_is_free_again_for_others_when_the_process_that_chose_it_has_ended():
    program = "from workbench.runtime.ports import any_free; print(any_free())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert choose(int(ended.stdout)) == int(ended.stdout)


def test_a_port_is_given_out_once():
    given = [any_free() for _ in range(50)]

    assert len(set(given)) == len(given)
