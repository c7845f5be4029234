"""Flows in the store: who may take one, for how long, and what becomes of what people want."""

from __future__ import annotations

import threading

import pytest

from pipelines.states import FlowState
from pipelines.store.database import Store
from pipelines.store.flows.asking import want_running, want_stopped
from pipelines.store.flows.holding import (
    FlowClaim,
    FlowEnd,
    read_failed,
    read_orders,
    renew_flows,
    settle_stopped,
    take_flow,
    write_end,
    write_running,
    write_started,
)
from pipelines.store.flows.listing import list_flows, read_flow_row
from tests.services.pipelines_store import emptied, new_store, store_server
from workbench.errors import ClaimLost, StoreError


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with store_server(tmp_path_factory.mktemp("postgres") / "home") as server, new_store(server) as store:
        yield store


@pytest.fixture
def store(shared: Store) -> Store:
    return emptied(shared)


def start(store: Store, name: str = "f", **more: bool) -> bool:
    with store.transaction() as connection:
        return want_running(connection, name, "ada", **more)


def stop(store: Store, name: str = "f") -> bool:
    with store.transaction() as connection:
        return want_stopped(connection, name, "grace")


def take(store: Store, worker: str = "one", *changed: str) -> FlowClaim | None:
    with store.transaction() as connection:
        return take_flow(connection, worker, changed)


def end(store: Store, claim: FlowClaim, state: FlowState, *, delay: float = 0.0, generation: int = 0) -> None:
    with store.transaction() as connection:
        write_end(connection, claim, ending(state, generation or claim.generation, delay))


def ending(state: FlowState, generation: int, delay: float = 0.0) -> FlowEnd:
    return FlowEnd(
        state=state, generation=generation, reason="why", last_lines="last line", delay_seconds=delay, failures=3
    )


def look(store: Store, name: str = "f") -> dict[str, object]:
    with store.transaction() as connection:
        found = read_flow_row(connection, name)
    assert found is not None
    return found


def lose(store: Store) -> None:
    """Let all leases end."""
    with store.transaction() as connection:
        connection.exec_driver_sql("UPDATE pipelines.flows SET lease_until = clock_timestamp() - interval '1 second'")


def test_a_flow_is_one_workers_at_a_time_and_each_worker_gets_another(store: Store):
    for name in ("a", "b", "c"):
        assert start(store, name)
    found: list[FlowClaim | None] = []
    threads = [threading.Thread(target=lambda n=n: found.append(take(store, f"w{n}"))) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert sorted(each.name for each in found if each) == ["a", "b", "c"]
    assert take(store) is None


def test_a_lease_that_is_not_renewed_is_anothers_and_the_first_writes_nothing_more(store: Store):
    start(store)
    zombie = take(store, "one")
    with store.transaction() as connection:
        write_started(connection, zombie, "hash")
        write_running(connection, zombie)
    with store.transaction() as connection:
        renew_flows(connection, "one", ["f"])
    assert (take(store, "two"), look(store)["state"]) == (None, "running")

    lose(store)
    assert look(store)["state"] == "lost"
    heir = take(store, "two")
    assert heir.fence == zombie.fence + 1
    assert look(store)["reason"] == "worker one does not beat any more"
    for write in (
        lambda connection: write_started(connection, zombie, "hash"),
        lambda connection: write_running(connection, zombie),
        lambda connection: write_end(connection, zombie, ending(FlowState.FAILED, zombie.generation)),
    ):
        with pytest.raises(ClaimLost), store.transaction() as connection:
            write(connection)
    with store.transaction() as connection:
        assert read_orders(connection, "one") == {}
        assert read_orders(connection, "two")["f"].fence == heir.fence
        write_started(connection, heir, "hash")
    assert look(store)["restarts"] == 1


def test_what_has_ended_waits_for_its_time_and_starts_at_once_when_somebody_asks(store: Store):
    start(store)
    claim = take(store)
    with store.transaction() as connection:
        write_started(connection, claim, "hash")
    end(store, claim, FlowState.WAITING, delay=60)
    row = look(store)
    assert (row["state"], row["reason"], row["last_lines"]) == ("waiting", "why", "last line")
    assert 30 < (row["next_start_at"] - row["since"]).total_seconds() <= 60
    assert take(store) is None

    assert start(store)
    again = take(store)
    assert (again.generation, again.failures) == (claim.generation + 1, 0)
    end(store, again, FlowState.WAITING, delay=0)
    assert take(store).failures == 3


def test_what_has_failed_is_taken_with_another_file_or_when_somebody_asks(store: Store):
    start(store)
    claim = take(store)
    with store.transaction() as connection:
        write_started(connection, claim, "bad")
    end(store, claim, FlowState.FAILED)
    with store.transaction() as connection:
        assert read_failed(connection) == {"f": "bad"}

    assert take(store) is None
    assert take(store, "one", "other") is None
    again = take(store, "one", "f")
    assert look(store)["reason"] == "its file has changed"
    end(store, again, FlowState.FAILED)
    assert start(store)
    assert take(store) is not None


def test_to_ask_twice_changes_nothing_and_a_restart_is_seen_by_who_runs_it(store: Store):
    assert not stop(store, "unknown")
    start(store)
    claim = take(store)
    with store.transaction() as connection:
        write_started(connection, claim, "hash")

    assert not start(store)
    assert start(store, anew=True)
    with store.transaction() as connection:
        (order,) = read_orders(connection, "one").values()
    assert (order.is_wanted, order.generation, order.asked_by) == (True, claim.generation + 1, "ada")
    assert look(store)["state"] == "starting"

    assert stop(store)
    assert not stop(store)
    with store.transaction() as connection:
        (order,) = read_orders(connection, "one").values()
    assert (order.is_wanted, order.asked_by) == (False, "grace")
    assert look(store)["state"] == "stopping"
    end(store, claim, FlowState.STOPPED, generation=claim.generation + 2)
    assert (look(store)["state"], take(store)) == ("stopped", None)


@pytest.mark.parametrize("state", [FlowState.STOPPED, FlowState.FAILED, FlowState.WAITING])
def test_what_somebody_asks_for_while_a_worker_writes_how_it_ended_counts(store: Store, state: FlowState):
    start(store)
    claim = take(store)
    stop(store)
    start(store)
    end(store, claim, state, delay=60, generation=claim.generation + 1)
    assert look(store)["state"] == "waiting"
    again = take(store)

    stop(store)
    end(store, again, state, delay=60)
    assert look(store)["state"] == "stopped"


def test_what_a_dead_worker_was_to_stop_is_stopped(store: Store):
    start(store)
    take(store)
    stop(store)
    with store.transaction() as connection:
        settle_stopped(connection)
    assert look(store)["state"] == "stopping"

    lose(store)
    with store.transaction() as connection:
        settle_stopped(connection)
    assert (look(store)["state"], take(store)) == ("stopped", None)


@pytest.mark.parametrize("name", ["../x", "a/b", ".a", "a\n", ""])
def test_a_name_that_leads_out_of_a_folder_is_not_kept(store: Store, name: str):
    with pytest.raises(StoreError):
        start(store, name)


def test_all_flows_are_those_with_a_file_and_those_that_somebody_asked_for(store: Store):
    start(store, "gone")
    with store.transaction() as connection:
        rows = list_flows(connection, ("new",))

    assert [(each["name"], each["state"], each["has_file"]) for each in rows] == [
        ("gone", "waiting", False),
        ("new", "stopped", True),
    ]
    assert rows[0].keys() == rows[1].keys()
