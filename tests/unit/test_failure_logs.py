from __future__ import annotations

import os

from tests.services.failure_logs import LAST_LINES, MOST_BYTES, MOST_FILES, last_lines


def test_the_ends_of_logs_that_were_written_to_are_told_the_newest_first(tmp_path):
    (tmp_path / "home" / "logs").mkdir(parents=True)
    older, newer, quiet = (tmp_path / "home" / "logs" / f"{name}.log" for name in ("older", "newer", "quiet"))
    older.write_text("\n".join(f"line {n}" for n in range(100)))
    newer.write_bytes(b"x" * (MOST_BYTES + 1) + b"\nthe \xff end\n")
    quiet.write_text("of the test before")
    (tmp_path / "home" / "empty.log").touch()
    (tmp_path / "home" / "gone.log").symlink_to(tmp_path / "nowhere")
    segments = [tmp_path / "home" / "logs" / f"{n:020}.log" for n in range(MOST_FILES + 1)]
    for path in segments:
        path.write_bytes(b"\0\0\0\x1f of a topic")
    for path, at in ((quiet, 100), (older, 200), (newer, 300), *((path, 400) for path in segments)):
        os.utime(path, (at, at))

    (first, end), (second, lines) = last_lines(tmp_path / "home" / "logs", since=150)

    assert (first, second) == (newer, older)
    assert end.splitlines()[-1] == "the \ufffd end"
    assert lines.splitlines() == [f"line {n}" for n in range(100 - LAST_LINES, 100)]
