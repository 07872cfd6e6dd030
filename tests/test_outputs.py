"""A log and its events as the outputs of a notebook cell; and logs that are too long to be read whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nbtasks.logs import left_out, read_log, text_of, trim
from nbtasks.outputs import outputs

MB = 1 << 20


def display(at: int, text: str, **more: Any) -> dict[str, Any]:
    return {"kind": "display", "at": at, "data": {"text/plain": text}, "metadata": {}, **more}


def shown(found: list[dict[str, Any]]) -> list[Any]:
    """Short: texts of streams with their names, plain texts of displays."""
    return [
        (output["name"], output["text"]) if output["output_type"] == "stream" else output["data"]["text/plain"]
        for output in found
    ]


def test_text_and_displays_in_order() -> None:
    found = outputs(b"one\ntwo\n", [display(4, "figure"), display(8, "end")])
    assert shown(found) == [("stdout", "one\n"), "figure", ("stdout", "two\n"), "end"]
    assert found[1] == {"output_type": "display_data", "data": {"text/plain": "figure"}, "metadata": {}}


def test_the_value_has_its_number() -> None:
    (found,) = outputs(b"", [display(0, "3", output_type="execute_result", execution_count=7)])
    assert (found["output_type"], found["execution_count"]) == ("execute_result", 7)


def test_ranges_of_stderr() -> None:
    events = [{"kind": "stderr", "at": 2, "from": 2, "to": 4}, {"kind": "stderr", "at": 4, "from": 4, "to": 6}]
    assert shown(outputs(b"aabbccdd", events)) == [("stdout", "aa"), ("stderr", "bbcc"), ("stdout", "dd")]


def test_a_display_within_stderr() -> None:
    events = [{"kind": "stderr", "at": 0, "from": 0, "to": 4}, display(2, "here")]
    assert shown(outputs(b"aabb", events)) == [("stderr", "aa"), "here", ("stderr", "bb")]


def test_updates_reach_every_display_of_that_id() -> None:
    events = [
        display(0, "1", display_id="a"),
        display(0, "1", display_id="a"),
        display(0, "x", display_id="b"),
        {"kind": "update_display", "at": 0, "display_id": "a", "data": {"text/plain": "2"}, "metadata": {}},
        {"kind": "update_display", "at": 0, "display_id": "unknown", "data": {"text/plain": "3"}, "metadata": {}},
    ]
    assert shown(outputs(b"", events)) == ["2", "2", "x"]


def test_clearing_at_once_and_with_the_next() -> None:
    clear, wait = {"kind": "clear_output", "at": 3, "wait": False}, {"kind": "clear_output", "at": 3, "wait": True}
    assert shown(outputs(b"old", [clear])) == []
    assert shown(outputs(b"old", [wait])) == [("stdout", "old")]
    assert shown(outputs(b"oldnew", [wait])) == [("stdout", "new")]
    assert shown(outputs(b"old", [wait, display(3, "new")])) == ["new"]


def test_lines_written_over_show_what_was_last() -> None:
    assert shown(outputs(b"10%\r50%\r100%\nnext\r\nend", [])) == [("stdout", "100%\nnext\r\nend")]


def test_events_that_make_no_sense_are_passed_over() -> None:
    events: list[Any] = [
        {},
        {"kind": "display"},
        {"kind": "stderr", "from": "x"},
        {"kind": "new", "at": 1},
        display(99, "late"),
    ]
    assert shown(outputs(b"text", events)) == [("stdout", "text"), "late"]


def test_half_a_character_at_the_end() -> None:
    assert shown(outputs("é".encode()[:1], [])) == [("stdout", "�")]


def test_bounded() -> None:
    (found,) = outputs(b"x" * 5_000_000, [])
    assert len(found["text"]) < 1_100_000
    assert "4.0 MB left out" in found["text"]
    many = outputs(b"", [display(0, str(i)) for i in range(5000)])
    assert len(many) == 1001
    assert "4,000 outputs left out" in many[500]["text"]
    assert many[-1]["data"] == {"text/plain": "4999"}


def test_pieces_say_what_is_between() -> None:
    pieces = [(0, b"begin\n"), (1_000_006, b"end\n")]
    assert shown(outputs(pieces, [display(1_000_006, "x")])) == [
        ("stdout", "begin\n" + left_out(1_000_000)),
        "x",
        ("stdout", "end\n"),
    ]
    assert text_of(pieces) == "begin\n\n[… 1.0 MB left out …]\nend\n"


def test_holes_that_the_file_system_does_not_tell() -> None:
    assert shown(outputs(b"a" + b"\0" * 5000 + b"b", [])) == [("stdout", f"a{left_out(5000)}b")]


# ---------------------------------------------------------------------- logs


def test_a_log_is_read_whole_or_by_its_ends(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert read_log(str(log)) == []
    log.write_bytes(b"0123456789")
    assert read_log(str(log)) == [(0, b"0123456789")]
    assert read_log(str(log), limit=4) == [(0, b"01"), (8, b"89")]


def test_a_log_is_no_link_and_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to("secret")
    with pytest.raises(OSError, match="link"):
        read_log(str(tmp_path / "link"))
    os.mkfifo(tmp_path / "pipe")
    assert read_log(str(tmp_path / "pipe")) == []


def test_trimming_frees_the_middle_and_keeps_the_length(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"a" * MB + b"b" * 6 * MB + b"c" * MB)
    fd = os.open(log, os.O_RDWR | os.O_APPEND)
    assert trim(fd, 16 * MB) == 0, "within its limit"
    kept_from = trim(fd, 2 * MB)
    assert kept_from == 7 * MB
    assert os.fstat(fd).st_size == 8 * MB
    assert os.fstat(fd).st_blocks * 512 <= 2 * MB + 8192
    assert [(at, data[:1], len(data)) for at, data in read_log(str(log))] == [(0, b"a", MB), (7 * MB, b"c", MB)]
    os.write(fd, b"d" * 4 * MB)
    assert trim(fd, 2 * MB, kept_from) == 11 * MB
    assert os.fstat(fd).st_blocks * 512 <= 2 * MB + 8192
    (_, first), (at, last) = read_log(str(log))
    assert (first[:1], at, last[:1]) == (b"a", 11 * MB, b"d")
    os.close(fd)
