"""Everything that can be done to an audit log by who can write its files: all of it is found, and by what is told."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.services.audit_forger import OLD_LINE, Forgery, new_key, renamed
from workbench.security.audit import Action, AuditLog, Event, read_events
from workbench.security.audit.lines import NOTHING, Seal, digest, sealed
from workbench.security.audit.proof.checkpoints import Checkpoint
from workbench.security.audit.proof.signing import hand_over
from workbench.security.audit.proof.verification import Verdict
from workbench.security.audit.retention import removable, remove_segments

OUR_FILE, ELSEWHERE = "checkpoints.log", "elsewhere.log"
TAMPERINGS: dict[str, tuple[Callable[[Forgery], None], str, str]] = {}


def tampering(kind: str, proof: str = "") -> Callable[[Callable[[Forgery], None]], Callable[[Forgery], None]]:
    """A way to tamper, what `verify` calls it, and where the checkpoint is that proves it."""

    def add(function: Callable[[Forgery], None]) -> Callable[[Forgery], None]:
        TAMPERINGS[function.__name__] = (function, kind, proof)
        return function

    return add


@tampering("change")
def an_event_is_changed(at: Forgery) -> None:
    lines = at.lines()
    at.put([*lines[:4], renamed(lines[4]), *lines[5:]])


@tampering("change", OUR_FILE)
def the_last_event_is_changed(at: Forgery) -> None:
    lines = at.lines()
    at.put([*lines[:-1], renamed(lines[-1])])


@tampering("change", OUR_FILE)
def an_event_is_changed_and_all_after_it_chained_anew(at: Forgery) -> None:
    lines = at.lines()
    at.rechain([*lines[:4], renamed(lines[4]), *lines[5:]])


@tampering("change")
def a_blank_is_added(at: Forgery) -> None:
    lines = at.lines()
    at.put([*lines[:4], lines[4].replace(b'"gh-', b'"gh- '), *lines[5:]])


@tampering("change")
def a_time_is_changed(at: Forgery) -> None:
    lines = at.lines()
    fields = json.loads(lines[4])
    fields["event"]["time"] += 1
    at.put([*lines[:4], json.dumps(fields, separators=(",", ":")).encode() + b"\n", *lines[5:]])


@tampering("deletion")
def an_event_is_deleted(at: Forgery) -> None:
    lines = at.lines()
    at.put([*lines[:4], *lines[5:]])


@tampering("change", OUR_FILE)
def an_event_is_deleted_and_the_rest_chained_anew(at: Forgery) -> None:
    lines = at.lines()
    at.rechain([*lines[:4], *lines[5:]])


@tampering("deletion")
def the_first_line_is_deleted(at: Forgery) -> None:
    at.put(at.lines()[1:])


@tampering("deletion")
def the_first_segment_is_deleted(at: Forgery) -> None:
    at.closed[0].unlink()


@tampering("deletion")
def a_segment_in_the_middle_is_deleted(at: Forgery) -> None:
    at.closed[1].unlink()


@tampering("truncation", OUR_FILE)
def the_segment_that_is_written_is_deleted(at: Forgery) -> None:
    at.log.path.unlink()


@tampering("order")
def two_events_are_exchanged(at: Forgery) -> None:
    lines = at.lines()
    at.put([*lines[:4], lines[5], lines[4], *lines[6:]])


@tampering("change", OUR_FILE)
def two_events_are_exchanged_and_chained_anew(at: Forgery) -> None:
    lines = at.lines()
    at.rechain([*lines[:4], lines[5], lines[4], *lines[6:]])


@tampering("order")
def two_segments_are_exchanged(at: Forgery) -> None:
    first, second, aside = *at.closed[:2], at.closed[0].with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


@tampering("file")
def a_segment_is_renamed(at: Forgery) -> None:
    at.closed[0].rename(at.closed[0].with_name(f"events-{1:015d}.jsonl"))


@tampering("file")
def a_segment_is_a_link_to_a_file_elsewhere(at: Forgery) -> None:
    elsewhere = at.closed[0].rename(at.home / "elsewhere")
    (at.log.path.parent / f"events-{9:015d}.jsonl").symlink_to(elsewhere)


@tampering("order")
def an_event_is_written_twice(at: Forgery) -> None:
    lines = at.lines()
    at.put([*lines[:5], *lines[4:]])


@tampering("change", OUR_FILE)
def an_event_is_inserted_and_the_rest_chained_anew(at: Forgery) -> None:
    lines = at.lines()
    at.rechain([*lines[:4], renamed(lines[3]), *lines[4:]])


@tampering("insertion")
def an_event_of_the_old_form_is_inserted(at: Forgery) -> None:
    lines = at.lines()
    at.put([*lines[:4], OLD_LINE, *lines[4:]])


@tampering("insertion")
def an_event_of_the_old_form_is_appended(at: Forgery) -> None:
    with at.log.path.open("ab") as file:
        file.write(OLD_LINE)


@tampering("insertion")
def an_event_of_the_old_form_is_appended_and_an_honest_writer_goes_on(at: Forgery) -> None:
    with at.log.path.open("ab") as file:
        file.write(OLD_LINE)
    at.write(1)


@tampering("insertion")
def bytes_without_a_meaning_are_inserted(at: Forgery) -> None:
    lines = at.lines()
    at.put([*lines[:4], b"\0" * 100 + b"\n", *lines[4:]])


@tampering("insertion")
def something_is_added_to_a_closed_segment(at: Forgery) -> None:
    with at.closed[0].open("ab") as file:
        file.write(b"more")


@tampering("change", OUR_FILE)
def an_event_is_passed_off_as_a_line_that_a_crash_has_torn(at: Forgery) -> None:
    lines = at.lines()
    torn, previous, seal = lines[4][:50], digest(lines[3]), Seal.of_line(lines[4])
    assert seal is not None
    told = Event.of(Action.AUDIT_LINE_TORN, actor="audit", resource="audit", bytes=len(torn), sha256=digest(torn))
    made = [torn + b"\n", sealed(told, Seal(previous, 5, seal.time))]
    for number, line in enumerate(lines[5:], 6):
        made.append(sealed(Event.of_line(line), Seal(digest(made[-1]), number, seal.time)))
    at.put([*lines[:4], *made])


@tampering("truncation", OUR_FILE)
def the_last_ten_events_are_cut_off(at: Forgery) -> None:
    at.put(at.lines()[:-10])


@tampering("truncation", OUR_FILE)
def the_log_is_emptied(at: Forgery) -> None:
    at.put([])


@tampering("change", OUR_FILE)
def the_end_is_cut_off_and_honest_writers_go_on(at: Forgery) -> None:
    at.put(at.lines()[:-10])
    at.write(20)
    at.checkpointer.tick(is_forced=True)


@tampering("truncation", ELSEWHERE)
def log_and_checkpoints_are_cut_off_together(at: Forgery) -> None:
    at.put(at.lines()[:-10])
    first, second, _ = at.checkpoints.read_bytes().splitlines(keepends=True)
    at.checkpoints.write_bytes(first + second)


@tampering("truncation", ELSEWHERE)
def everything_but_the_key_is_deleted_and_begun_anew(at: Forgery) -> None:
    at.put([])
    at.checkpoints.unlink()
    at.write(5)
    at.checkpointer.tick(is_forced=True)


@tampering("key", OUR_FILE)
def another_key_signs_a_forged_log(at: Forgery) -> None:
    lines = at.lines()
    at.rechain([*lines[:4], *lines[5:]])
    at.resign(new_key())


@tampering("key", ELSEWHERE)
def another_key_signs_a_forged_log_and_takes_the_place_of_ours(at: Forgery) -> None:
    lines, key = at.lines(), new_key()
    at.rechain([*lines[:4], *lines[5:]])
    at.resign(key)
    key.replace(at.checkpointer.key_path)


@tampering("key")
def another_key_is_handed_over_to_without_the_old_one(at: Forgery) -> None:
    key, other = new_key(), new_key()
    forged = {**hand_over(other, key), "old": at.key.public}
    at.log.record(Action.AUDIT_KEY_ROTATED, actor="operator:evil", resource="audit", **forged)
    key.replace(at.checkpointer.key_path)
    at.checkpointer.tick(is_forced=True)


@tampering("fork", ELSEWHERE)
def the_stolen_key_signs_a_forged_log(at: Forgery) -> None:
    lines = at.lines()
    at.rechain([*lines[:4], renamed(lines[4]), *lines[5:]])
    at.resign(at.key)


@tampering("checkpoint")
def a_checkpoint_is_changed(at: Forgery) -> None:
    content = at.checkpoints.read_bytes()
    at.checkpoints.write_bytes(content.replace(b'"number":2', b'"number":4'))


@tampering("checkpoint", OUR_FILE)
def a_checkpoint_is_deleted(at: Forgery) -> None:
    first, _, third = at.checkpoints.read_bytes().splitlines(keepends=True)
    at.checkpoints.write_bytes(first + third)


@tampering("checkpoint", OUR_FILE)
def the_first_checkpoint_is_deleted(at: Forgery) -> None:
    at.checkpoints.write_bytes(b"".join(at.checkpoints.read_bytes().splitlines(keepends=True)[1:]))


@tampering("checkpoint", OUR_FILE)
def two_checkpoints_are_exchanged(at: Forgery) -> None:
    first, second, third = at.checkpoints.read_bytes().splitlines(keepends=True)
    at.checkpoints.write_bytes(first + third + second)


@tampering("fork", ELSEWHERE)
def all_checkpoints_are_deleted(at: Forgery) -> None:
    at.checkpoints.unlink()


@tampering("clock")
def the_clock_of_a_line_goes_back(at: Forgery) -> None:
    last = at.lines()[-1]
    seal = Seal.of_line(last)
    assert seal is not None
    event = Event.of(Action.LOGOUT, actor="gh-evil", resource="hub")
    with at.log.path.open("ab") as file:
        file.write(sealed(event, Seal(digest(last), seal.sequence + 1, seal.time - 3_600_000)))


@tampering("clock", OUR_FILE)
def the_clock_of_a_checkpoint_goes_back(at: Forgery) -> None:
    at.resign(at.key, lambda each: replace(each, time=each.time - 3_600_000 * (each.number == 2)))


@pytest.mark.parametrize("name", sorted(TAMPERINGS))
def test_it_is_found_and_the_checkpoint_that_proves_it_is_named(tmp_path: Path, name: str):
    tamper, kind, proof = TAMPERINGS[name]
    at = Forgery(tmp_path)
    assert at.verify().verdict is Verdict.WHOLE

    tamper(at)

    report = at.verify()
    assert report.verdict is Verdict.TAMPERED
    found = [each for each in report.problems if each.kind == kind and proof in each.proof]
    assert found, [str(each) for each in report.problems]
    assert all(("checkpoint" in each.proof) == bool(proof) or not proof for each in found)


def test_there_are_more_than_twenty_kinds():
    assert len(TAMPERINGS) >= 35


@pytest.mark.parametrize(
    "change", [lambda old: old[:-40] + b"\n", lambda old: OLD_LINE + old, lambda old: old.replace(b"old", b"new")]
)
def test_what_was_written_before_there_were_seals_is_sealed_as_it_was_then(tmp_path: Path, change):
    at = Forgery(tmp_path, 3 * OLD_LINE)
    report = at.verify()
    assert (report.verdict, report.events) == (Verdict.WHOLE, 34)
    assert [each.actor for each in read_events(at.log.path)][:4] == [*["gh-old"] * 3, "audit"]
    first = at.closed[0]

    old, mark, sealed_lines = first.read_bytes().partition(b'{"event":')
    first.write_bytes(change(old) + mark + sealed_lines)

    assert "change" in {each.kind for each in at.verify().problems}


def test_every_bit_of_a_line_counts(tmp_path: Path):
    at = Forgery(tmp_path)
    lines = at.lines()
    for place in range(0, len(lines[7]), 17):
        for bit in (1, 128):
            changed = bytearray(lines[7])
            changed[place] ^= bit
            at.put([*lines[:7], bytes(changed), *lines[8:]])
            assert at.verify().verdict is Verdict.TAMPERED, (place, bit)


def test_every_length_to_which_it_is_cut_is_found(tmp_path: Path):
    at = Forgery(tmp_path)
    content = b"".join(at.lines())
    for size in range(len(content) - 1500, len(content) - 1, 97):
        at.put([content[:size]])
        assert at.verify().verdict is Verdict.TAMPERED, size


FLIP = st.tuples(st.integers(0, 9), st.integers(0, 1_000_000), st.integers(0, 7))  # which file, where, which bit
STEPS = ("event", "batch", "checkpoint", "torn", "clock", "key", "remove")


def take(at: Forgery, step: str) -> None:
    """What honest processes, crashes and clocks do to a log."""
    if step == "event":
        at.write(1)
    elif step == "batch":
        at.log.append(*(Event.of(Action.LOGOUT, actor="é\u2028\U0001f600", resource="hub", ü="\x00") for _ in range(5)))
    elif step == "checkpoint":
        at.checkpointer.tick(is_forced=True)
    elif step == "torn":
        with at.log.path.open("ab") as file:
            file.write(b'{"event":{"activity_id":1,\r"\x00')
        with at.checkpoints.open("ab") as file:
            file.write(b'{"hash":"12')
    elif step == "clock":
        now = time.time_ns()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time_ns", lambda: now - 10_000_000_000)
            at.write(1)
    elif step == "key":
        at.checkpointer.rotate_key("operator:ada")
    elif files := removable(at.log, datetime.now(UTC) + timedelta(days=1)):
        remove_segments(at.checkpointer, files[: len(files) // 2 + 1], "operator:ada")


def is_checkpoint(content: bytes, place: int) -> bool:
    return Checkpoint.of_line(line_at(content, place)) is not None


@settings(max_examples=15)
@given(st.lists(st.sampled_from(STEPS), max_size=25), st.lists(FLIP, min_size=4, max_size=4))
def test_whatever_happens_honestly_it_is_whole_and_any_bit_that_is_changed_is_found(steps, flips):
    with tempfile.TemporaryDirectory() as folder:
        at = Forgery(Path(folder))
        for step in steps:
            take(at, step)
        take(at, "event")
        take(at, "checkpoint")
        report = at.verify()
        assert (report.verdict, [str(each) for each in report.problems]) == (Verdict.WHOLE, [])
        files = [*at.closed, at.log.path, at.checkpoints]
        for which, where, bit in flips:
            path = files[which % len(files)]
            content = path.read_bytes()
            place = where % (len(content) - 1)
            # What a crash has left of a checkpoint is nobody's, and may be anything.
            if path == at.checkpoints and not is_checkpoint(content, place):
                continue
            # So may what it then stands behind: the bytes of the checkpoint before are all there.
            if path == at.checkpoints and content[place : place + 1] == b"\n" and not is_checkpoint(content, place + 1):
                continue
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            assert at.verify().verdict is Verdict.TAMPERED, (path.name, place)
            path.write_bytes(content)


def line_at(content: bytes, place: int) -> bytes:
    """The line that the byte is of."""
    return content[content.rfind(b"\n", 0, place) + 1 : content.find(b"\n", place) + 1]


def test_events_that_nobody_sealed_are_not_read_as_events(tmp_path: Path):
    at = Forgery(tmp_path)
    an_event_of_the_old_form_is_appended(at)
    at.write(1)

    assert "gh-old" not in {each.actor for each in read_events(at.log.path)}


def test_an_anchor_that_cannot_be_read_leaves_it_in_doubt(tmp_path: Path):
    at = Forgery(tmp_path)
    at.anchor.path.unlink()

    report = at.verify()

    assert report.verdict is Verdict.UNKNOWN
    assert "elsewhere.log" in report.doubts[0]


def test_without_a_checkpoint_or_a_key_it_cannot_be_told(tmp_path: Path):
    log = AuditLog.of(tmp_path)
    log.record(Action.LOGOUT, actor="gh-ada", resource="hub")
    at = Forgery(tmp_path / "other")

    from workbench.security.audit.proof.verification import verify

    assert verify(log.path, []).verdict is Verdict.UNKNOWN
    assert verify(tmp_path / "nothing", []).verdict is Verdict.UNKNOWN
    assert at.verify(keys=[]).verdict is Verdict.UNKNOWN


def test_an_older_key_that_was_handed_over_is_trusted_and_the_newer_through_it(tmp_path: Path):
    at = Forgery(tmp_path)
    oldest = at.key.public
    for _ in range(2):
        at.checkpointer.rotate_key("operator:ada")
        at.write(3)
    at.checkpointer.tick(is_forced=True)

    assert at.key.public != oldest
    assert at.verify(keys=[oldest]).verdict is Verdict.WHOLE
    assert at.verify().verdict is Verdict.WHOLE
    assert at.verify(keys=[new_key().public]).verdict is Verdict.TAMPERED


def test_strangers_lines_in_the_anchor_are_no_checkpoints(tmp_path: Path):
    at = Forgery(tmp_path)
    with at.anchor.path.open("ab") as file:
        file.write(b"Jan  5 09:12:44 host sshd[1]: nothing of ours\n")
        file.write(b'{"hash":"' + b"0" * 600 + b'"} ' + b"A" * 86 + b"==\n")

    assert at.verify().verdict is Verdict.WHOLE


def test_the_key_is_private_and_one_that_others_can_read_is_refused(tmp_path: Path):
    from workbench.errors import AuditError
    from workbench.security.audit.proof.signing import SigningKey

    at = Forgery(tmp_path)
    path = at.checkpointer.key_path
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert at.key.as_pem().decode().splitlines()[1] not in repr(at.key)
    path.chmod(0o640)

    with pytest.raises(AuditError, match="can be read by others"):
        SigningKey.read(path)


def test_nonsense_that_somebody_signs_and_anchors_stops_nobody_who_verifies(tmp_path: Path):
    at, key = Forgery(tmp_path), new_key()
    good = Checkpoint.of_line(at.checkpoints.read_bytes().splitlines()[0])
    assert good is not None
    for change in (
        {"sequence": "x"},
        {"time": 1 << 900},
        {"number": None},
        {"hash": ["a"]},
        {"previous": 1},
        {"key": 7},
    ):
        with at.anchor.path.open("ab") as file:
            file.write(replace(good, **{"key": key.public, **change}).signed(key))

    assert at.verify().verdict is Verdict.WHOLE


def test_a_checkpoint_reads_nothing_that_its_key_did_not_sign():
    key = new_key()
    made = Checkpoint(
        hash=NOTHING, key=key.public, number=1, origin="workbench-audit/1", previous=NOTHING, sequence=1, time=1
    )  # fmt: skip
    line = made.signed(key)

    assert Checkpoint.of_line(line) == made
    assert Checkpoint.of_line(b"<86>Jan 5 host workbench-audit: " + line) == made
    assert Checkpoint.of_line(line.replace(b'"time":1', b'"time":2')) is None
    assert Checkpoint.of_line(replace(made, origin="other").signed(key)) is None
