"""Alerts of runs while a channel fails or hangs, or the scheduler is killed. Real PostgreSQL, endpoint and processes."""

from __future__ import annotations

import json
import threading
import uuid

import pytest

from pipelines.alerting.delivery import MOST_REFUSED, Post, deliver
from pipelines.states import State
from pipelines.store.claims.writing import finish
from pipelines.store.outbox import post, take_messages
from pipelines.store.records import Message, NewRun, NewStep, Outcome, Trigger
from pipelines.store.runs.making import PipelineLimits, make_runs, register
from pipelines.store.runs.stopping import repair
from pipelines.store.troubles import tell_too_long
from tests.services.notification_servers import http_endpoint
from tests.services.pipelines_project import running_site
from tests.services.pipelines_store import ask, claim, emptied
from tests.services.process_tree import kill, process_tree
from tests.services.workbench import STARTED_SECONDS, wait_until
from workbench.observability.notifications import sending
from workbench.resolving import References
from workbench.runtime.ports import LOOPBACK

DUE = "UPDATE pipelines.outbox SET not_before = now()"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        names = ("slack", "email")
        channels = "".join(f"  {name}: {{url: env:{name.upper()}}}\n" for name in names)
        site.file("pipelines/alerts.yaml", f"channels:\n{channels}")
        yield site


@pytest.fixture
def store(site):
    return emptied(site.store)


@pytest.fixture
def slack():
    with http_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def email():
    with http_endpoint() as endpoint:
        yield endpoint


def variables(**endpoints):
    return {name.upper(): f"json://{LOOPBACK}:{each.port}/" for name, each in endpoints.items()}


def begin(store, to=("slack",), pipeline="daily", **rule):
    """A run that nobody has claimed."""
    definition = {"name": pipeline, "alerts": {"to": list(to), **rule}}
    with store.transaction() as connection:
        sha256 = register(connection, pipeline, definition, PipelineLimits())
        new = NewRun(
            pipeline=pipeline, definition_sha256=sha256, steps=(NewStep(name="load"),),
            trigger=Trigger.MANUAL, event_id=uuid.uuid4().hex,
        )  # fmt: skip
        return make_runs(connection, [new])[new.key]


def run(store, state=State.FAILED, to=("slack",), pipeline="daily", **rule):
    """A run that ends so."""
    number = begin(store, to, pipeline, **rule)
    taken = claim(store)
    with store.transaction() as connection:
        error = "ValueError: no\x00" if state is State.FAILED else None
        finish(connection, taken, Outcome(state=state, cell=2, error=error), chance=lambda: 0.5)
    return number


def post_some(store, pipeline, count):
    """Messages to the channel slack of so many runs of a pipeline that have failed."""
    body = {"pipeline": pipeline, "run": 7, "state": "failed", "reason": None, "causes": []}
    with store.transaction() as connection:
        post(connection, [Message(f"{pipeline}/{number}", "alert-to:slack", body) for number in range(count)])


def query(store, text):
    with store.transaction() as connection:
        connection.exec_driver_sql(text)


def waiting(store):
    return ask(store, "SELECT count(*) FROM pipelines.outbox")[0][0]


def test_each_channel_gets_one_message_that_says_where_and_why(site, store, slack, email):
    number = run(store, to=("slack", "email"))
    post = Post(
        site.project.alerts,
        References(variables(slack=slack, email=email)),
        "https://hub.example.com/services/pipelines",
    )

    assert deliver(store, post) == 2
    assert deliver(store, post) == 0

    for endpoint in (slack, email):
        ((_, body),) = endpoint.requests
        assert body["title"] == f"daily: run {number} failed"
        assert "Step load, cell 2 ended failed: ValueError: no" in body["message"]
        assert f"https://hub.example.com/services/pipelines/runs/{number}" in body["message"]
    assert waiting(store) == 0


def test_who_was_told_of_a_failure_is_told_once_that_it_works_again(site, store, slack, email):
    post = Post(site.project.alerts, References(variables(slack=slack, email=email)))
    run(store, State.SUCCEEDED)
    run(store, to=("slack",))
    failed = run(store, to=("email", "slack"))
    run(store, State.CANCELLED)
    run(store, State.SUCCEEDED, pipeline="other")
    deliver(store, post)
    before = len(slack.requests), len(email.requests)

    good = run(store, State.SUCCEEDED, to=("email",))
    run(store, State.SUCCEEDED)
    deliver(store, post)

    for endpoint, count in zip((slack, email), before, strict=True):
        ((_, body),) = endpoint.requests[count:]
        assert body["title"] == f"daily: run {good} succeeded again"
        assert body["type"] == "info"
        assert f"Run {failed} had failed before." in body["message"]
    assert waiting(store) == 0
    assert ask(store, "SELECT * FROM pipelines.troubles") == []


def test_a_failure_that_nobody_was_told_of_is_not_told_to_be_over(site, store, slack):
    run(store, on=["lost"])
    run(store, to=())
    run(store, State.SUCCEEDED)

    deliver(store, Post(site.project.alerts, References(variables(slack=slack))))

    assert slack.requests == []
    assert waiting(store) == 0


def test_a_run_that_does_not_begin_in_time_is_told_once(site, store, slack):
    post = Post(site.project.alerts, References(variables(slack=slack)))
    begun, late, early = (begin(store, late=late) for late in ("1ms", "1ms", "1h"))
    claim(store)
    query(store, "UPDATE pipelines.runs SET created_at = created_at - interval '1 minute'")

    for _ in range(2):
        with store.transaction() as connection:
            tell_too_long(connection, {"1ms": 0.001, "1h": 3600}.__getitem__)
        deliver(store, post)

    ((_, body),) = slack.requests
    assert body["title"] == f"daily: run {late} late"
    assert f"Run {late} of daily has not begun 1ms after its time." in body["message"]
    events = ask(store, "SELECT run_id FROM pipelines.events WHERE kind = 'late'")
    assert events == [(late,)]
    assert begun < late < early


def test_a_run_that_does_not_end_in_time_is_told_once_for_each_rule(site, store, slack):
    post = Post(site.project.alerts, References(variables(slack=slack)))
    ended = run(store, State.SUCCEEDED, pipeline="ended", slow="1ms", overdue="1ms")
    slow = begin(store, pipeline="slow", slow="1ms", overdue="1h")
    claim(store)
    overdue = begin(store, pipeline="overdue", slow="1ms", overdue="2h")  # it has not begun
    query(store, f"UPDATE pipelines.runs SET created_at = created_at - interval '3 hours' WHERE id = {overdue}")
    durations = {"1ms": 0.001, "1h": 3600, "2h": 7200}

    for _ in range(2):
        with store.transaction() as connection:
            tell_too_long(connection, durations.__getitem__)
        deliver(store, post)

    told = {body["title"]: body["message"] for _, body in slack.requests}
    assert len(slack.requests) == len(told) == 2
    assert f"Run {slow} of slow has not ended 1ms after it began." in told[f"slow: run {slow} slow"]
    assert f"Run {overdue} of overdue has not ended 2h after its time." in told[f"overdue: run {overdue} overdue"]
    events = ask(store, "SELECT kind, run_id FROM pipelines.events WHERE kind IN ('slow', 'overdue') ORDER BY run_id")
    assert events == [("slow", slow), ("overdue", overdue)]
    assert ended < slow


def test_a_run_that_is_repaired_is_slow_from_then_on_and_not_overdue(site, store, slack):
    post = Post(site.project.alerts, References(variables(slack=slack)))
    number = run(store, State.SUCCEEDED, slow="1h", overdue="1h")
    hours = "started_at = started_at - interval '3 hours', created_at = created_at - interval '3 hours'"
    query(store, f"UPDATE pipelines.runs SET {hours} WHERE id = {number}")
    with store.transaction() as connection:
        repair(connection, number, by="ada", steps=["load"])
    claim(store)

    told = []
    for earlier in ("0 hours", "2 hours", "0 hours"):
        query(store, f"UPDATE pipelines.events SET at = at - interval '{earlier}' WHERE kind = 'repair'")
        with store.transaction() as connection:
            told.append(tell_too_long(connection, {"1h": 3600}.__getitem__))
    deliver(store, post)

    assert told == [0, 1, 0]
    assert [body["title"] for _, body in slack.requests] == [f"daily: run {number} slow"]


def test_only_ends_that_the_definition_names_are_told(site, store, slack):
    post = Post(site.project.alerts, References(variables(slack=slack)))
    run(store, State.FAILED, on=["succeeded", "lost"])
    good = run(store, State.SUCCEEDED, on=["succeeded"])
    run(store, State.SUCCEEDED)

    deliver(store, post)

    assert [body["title"] for _, body in slack.requests] == [f"daily: run {good} succeeded"]
    assert slack.requests[0][1]["type"] == "info"
    assert waiting(store) == 0


def test_a_channel_that_was_down_gets_all_that_waited_in_one_message_and_others_do_not_wait(site, store, slack, email):
    post = Post(site.project.alerts, References(variables(slack=slack, email=email)))
    slack.status = 500
    numbers = [run(store, to=("slack", "email"))]
    assert deliver(store, post) == 1
    numbers.append(run(store, to=("slack", "email")))
    deliver(store, post)
    numbers.append(run(store, to=("slack", "email")))
    deliver(store, post)
    assert len(email.requests) == 3
    tried = len(slack.requests)
    times = ask(
        store,
        "SELECT count(*), count(DISTINCT not_before), max(not_before) <= now() + interval '1 hour' FROM pipelines.outbox",
    )
    assert times == [(3, 1, True)], "they wait together"

    slack.status = 200
    assert deliver(store, post) == 0, "nothing is due yet"
    query(store, DUE)
    assert deliver(store, post) == 3

    ((_, body),) = slack.requests[tried:]
    assert body["title"] == "daily: 3 runs, 3 failed"
    assert all(f"Run {number} of daily" in body["message"] for number in numbers)
    assert waiting(store) == 0


def test_what_waited_is_due_once_a_newer_message_has_arrived(site, store, slack):
    post = Post(site.project.alerts, References(variables(slack=slack)))
    slack.status = 500
    run(store)
    deliver(store, post)
    slack.status = 200
    run(store, pipeline="other")

    assert (deliver(store, post), deliver(store, post)) == (1, 1)
    assert waiting(store) == 0


def test_a_message_that_a_channel_does_not_take_holds_up_no_other(site, store, slack):
    post = Post(site.project.alerts, References(variables(slack=slack)))
    run(store, pipeline="refused")
    run(store, pipeline="taken")
    slack.refuses = "refused"

    assert deliver(store, post) == 1
    assert [body["title"].partition(":")[0] for _, body in slack.requests] == ["taken"]
    run(store, pipeline="later")
    query(store, DUE)
    assert deliver(store, post) == 1

    slack.refuses = ""
    query(store, DUE)
    assert deliver(store, post) == 1
    assert waiting(store) == 0


def test_many_refused_messages_of_one_pipeline_are_one_group_and_hold_up_no_other(site, store, slack):
    sender = Post(site.project.alerts, References(variables(slack=slack)))
    post_some(store, "taken", 1)
    query(store, "UPDATE pipelines.outbox SET tries = 3")
    post_some(store, "refused", MOST_REFUSED)
    slack.refuses = "refused"

    assert deliver(store, sender) == 1

    assert [body["title"].partition(":")[0] for _, body in slack.requests] == ["taken"]
    assert waiting(store) == MOST_REFUSED


def test_one_that_was_refused_and_those_that_wait_for_the_channel_do_not_wait_for_each_other(site, store, slack):
    sender = Post(site.project.alerts, References(variables(slack=slack)))
    slack.refuses = "refused"
    post_some(store, "refused", 1)
    deliver(store, sender)
    query(store, "UPDATE pipelines.outbox SET not_before = now() + interval '50 minutes'")
    post_some(store, "fresh", 1)
    in_time = "SELECT key, not_before < now() + interval '40 seconds' FROM pipelines.outbox ORDER BY id"

    slack.status = 503
    deliver(store, sender)
    assert ask(store, in_time) == [("refused/0", False), ("fresh/0", True)]

    slack.status = 200
    query(store, f"{DUE} WHERE key = 'fresh/0'")
    assert deliver(store, sender) == 1
    assert ask(store, in_time) == [("refused/0", False)], "what was refused before is not tried at each success"

    # The channel was corrected: one arrives that it has refused, and none waits any longer.
    query(store, DUE)
    post_some(store, "refused-too", 1)
    deliver(store, sender)
    query(store, "UPDATE pipelines.outbox SET not_before = now() + interval '50 minutes' WHERE key = 'refused/0'")
    slack.refuses = ""
    query(store, f"{DUE} WHERE key = 'refused-too/0'")
    assert (deliver(store, sender), deliver(store, sender)) == (1, 1)


def test_a_channel_that_refuses_all_of_many_pipelines_is_down(site, store, slack):
    sender = Post(site.project.alerts, References(variables(slack=slack)))
    slack.refuses = "refused"
    for number in range(MOST_REFUSED + 1):
        post_some(store, f"refused-{number}", 1)

    deliver(store, sender)

    assert ask(store, "SELECT count(*), count(DISTINCT not_before) FROM pipelines.outbox") == [(MOST_REFUSED + 1, 1)]


def test_a_channel_that_hangs_does_not_hold_up_another(site, store, slack, email, monkeypatch):
    addresses = variables(slack=slack, email=email)
    addresses["SLACK"] += "?rto=120"  # it hangs for as long as the test wants
    for name in ("ANSWER_SECONDS", "SEND_SECONDS"):
        monkeypatch.setattr(sending, name, 120.0)
    post = Post(site.project.alerts, References(addresses))
    slack.hangs = threading.Event()
    run(store, to=("slack", "email"))
    delivery = threading.Thread(target=deliver, args=(store, post))
    delivery.start()

    wait_until(lambda: slack.requests and email.requests, 30, "the e-mail, while the other hangs")
    assert delivery.is_alive()
    slack.hangs.set()
    delivery.join(60)

    assert not delivery.is_alive()
    assert ask(store, "SELECT kind FROM pipelines.outbox") == [("alert-to:slack",)]


def test_a_channel_that_is_not_there_keeps_its_alert_until_it_is(site, store, slack, caplog):
    run(store, to=("pager",))
    deliver(store, Post(site.project.alerts, References(variables(slack=slack))))

    assert "has no channel pager" in caplog.text
    assert waiting(store) == 1


def test_a_scheduler_that_is_killed_while_it_sends_loses_nothing_and_sends_the_same_key(site, store, slack):
    slack.hangs = threading.Event()
    run(store)
    first = site.start("pipelines.scheduler", **variables(slack=slack))
    wait_until(lambda: slack.requests, STARTED_SECONDS, "a message that has arrived, and is not noted as sent")
    kill(process_tree(first.pid))
    first.wait(10)
    assert waiting(store) == 1

    hangs, slack.hangs = slack.hangs, None
    hangs.set()
    query(store, DUE)
    second = site.start("pipelines.scheduler", **variables(slack=slack))
    wait_until(lambda: not waiting(store), STARTED_SECONDS, "the message to be sent again")
    site.end(second)

    keys = {body["message"].rsplit("Key: ")[1] for _, body in slack.requests}
    assert len(slack.requests) == 2
    assert len(keys) == 1
    assert json.dumps(sorted(keys)).startswith('["alert/')


def test_a_scheduler_tells_of_a_run_that_is_late_once(site, store, slack):
    late = begin(store, late="1s")
    scheduler = site.start("pipelines.scheduler", **variables(slack=slack))
    wait_until(lambda: slack.requests and not waiting(store), STARTED_SECONDS, "the alert of a run that is late")
    site.end(scheduler)

    assert [body["title"] for _, body in slack.requests] == [f"daily: run {late} late"]
    assert ask(store, "SELECT count(*) FROM pipelines.events WHERE kind = 'late'") == [(1,)]


def test_two_schedulers_send_each_once(site, store, slack):
    post = Post(site.project.alerts, References(variables(slack=slack)))
    for number in range(6):
        run(store, pipeline=f"p{number}")
    threads = [threading.Thread(target=deliver, args=(store, post)) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)

    assert len(slack.requests) == 6
    with store.transaction() as connection:
        assert take_messages(connection) == ()
