"""docs/format.md, queue/layout.py and what lies on the disk are the same; a reader written from the page alone reads it."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
import pickle
import re
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from nbtasks import config, payload
from nbtasks import context as contexts
from nbtasks.needs import Needs
from nbtasks.outcome import Failure, Outcome, Variable
from nbtasks.queue import cache, layout, lookup, members, records, recovery, schedules
from nbtasks.queue.check import check
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import Layout
from nbtasks.queue.leases import Lease
from nbtasks.queue.members import Stop
from nbtasks.queue.needy import Needy
from nbtasks.queue.recurring import Timetable
from nbtasks.queue.tickets import Ticket, expiry_name, until_name
from nbtasks.recurrence import Every
from nbtasks.spec import NAME, Spec
from nbtasks.status import ENDED, Status
from tests.queue.tools import ADD, ENV, claim, end, finish, live_slot, put, started

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
SAMPLE = "20261120-220611-482913-k7q2"  # the id whose folders the page shows
TAR = Path(__file__).parent / "data" / "queue-format-1.tar.gz"


# The page, taken apart.


def tree() -> Iterator[str]:
    """Every path of the page's tree, with its placeholders; folders end in a slash."""
    block = PAGE.partition("```\n.nbtasks/\n")[2].partition("```")[0]
    folder = ""
    for line in block.splitlines():
        nested = line.startswith("│")
        names = re.split(r"\s{3,}", line.lstrip("│├└─ "))[0].strip()
        for group in re.split(r"\s{2}", names):
            first, *siblings = group.split(", ")
            base = f"{folder}{first}" if nested else first
            yield base
            for sibling in siblings:
                yield re.sub(r"\.\w+$", sibling, base) if sibling[0] == "." else f"{base.rpartition('/')[0]}/{sibling}"
        if not nested:
            folder = names


def table() -> dict[str, list[str]]:
    """The grammars of the page: name → the pieces of code in its second column."""
    rows = re.findall(r"^\| ([A-Z, ]+) \| (.+?) \|", PAGE.partition("## Names")[2].partition("## ")[0], re.MULTILINE)
    return {name.strip(): re.findall(r"`([^`]+)`", grammar) for name, grammar in rows}


GRAMMAR = {
    "RUN": layout.ID.pattern,
    "ID": layout.ID.pattern, "PARENT": layout.ID.pattern, "CHILD": layout.ID.pattern, "D": r"[1-9]\d*", "P": r"\d",
    "TICKET": rf"{layout.ID.pattern}\.[1-9]\d*\.\d+\.\d+", "EPOCHMS": r"\d+", "LANE": NAME.pattern,
    "ENV": layout.TAG.pattern, "NEED": r"(?:f|c|x[0-9a-z]+)", "STATUS": "(?:succeeded|failed|cancelled)",
    "WORKER": r"w-[0-9a-z-]+", "SLOT": r"[bsiw]-[0-9a-z-]+", "HASH": "[0-9a-f]{64}", "BOOT": r"[0-9a-z]+",
    "SCHEDULE": NAME.pattern, "FATE": f"(?:{'|'.join(schedules.FATES)})", "NAME": r"[0-9a-z-]+", "KEY": "[0-9a-f]{32}", "N": r"[1-9]\d*", "PLACE": "(?:workers|flush|clients|watch|tokens)",
}  # fmt: skip


def as_regex(path: str) -> re.Pattern[str]:
    path = re.escape(path).replace(re.escape("20261120-2206/11"), r"\d{8}-\d{4}/\d{2}").replace("/ab/", "/[0-9a-f]{2}/")
    return re.compile(re.sub(r"\b[A-Z]+\b", lambda word: GRAMMAR.get(word[0], word[0]), path))


# The page and the code.


def test_the_tree_has_every_folder_and_no_other() -> None:
    shown = {path.rstrip("/") for path in tree()}
    for folder in layout.FOLDERS:
        assert any(path == folder or path.startswith(f"{folder}/") for path in shown), f"{folder} is not on the page"
    files = {layout.MARK, layout.README, layout.GITIGNORE, "paused", "flushed"}
    assert {path for path in shown if "/" not in path} - set(layout.FOLDERS) == files
    tops = {folder.partition("/")[0] for folder in layout.FOLDERS}
    assert {path.partition("/")[0] for path in shown} == tops | files


def test_the_tree_has_every_path_that_the_code_makes() -> None:
    q, ticket, line, place = Layout("/q"), Ticket(SAMPLE, 3, 1), "default@py311@f", "default@py311"
    kinds = (layout.LOG, layout.EVENTS, layout.PROGRESS, layout.STARTED, layout.OUTCOME)
    made = {
        **{f"tasks/20261120-2206/11/ID.D.{kind}": q.file(SAMPLE, 3, kind) for kind in kinds},
        "tasks/20261120-2206/11/ID.call": q.call(SAMPLE),
        **{f"tasks/20261120-2206/11/ID.{kind}": q.spread(SAMPLE, kind) for kind in (layout.PLAN, layout.ITEMS)},
        "groups/NAME/RUN/ID": f"{q.group_folder('nightly')}/{SAMPLE}/{SAMPLE}",
        "waiting/parents/TICKET": f"{q.parents}/{ticket}",
        "waiting/until/EPOCHMS-TICKET": f"{q.until}/{until_name(1.5e9, ticket)}",
        "queued/LANE@ENV@NEED/P/20261120-2206/11/TICKET": f"{q.queued_folder(line, 5, SAMPLE)}/{ticket}",
        "running/SLOT/TICKET": f"{q.running_folder('s-1')}/{ticket}",
        "ended/20261120-2206/11/TICKET.STATUS": f"{q.ended_folder(SAMPLE)}/{ticket}.failed",
        "edges/PARENT/CHILD": f"{q.edges_folder(SAMPLE)}/{SAMPLE}",
        "cancel/ID": q.cancel_file(SAMPLE),
        "cells/KEY/ID": f"{q.cell_folder('0' * 32)}/{SAMPLE}",
        "cache/KEY/N": f"{q.cache_folder('0' * 32)}/12",
        "expires/EPOCHMS-ID": f"{q.expires}/{expiry_name(1.5e9, SAMPLE)}",
        "recurring/SCHEDULE.json": q.schedule("nightly_2"),
        "recurring/lock": q.schedules_lock(),
        "recurring/SCHEDULE/ID.call": q.schedule_call("nightly", SAMPLE),
        "recurring/SCHEDULE/ID.FATE": f"{q.schedule_folder('nightly')}/{SAMPLE}.made",
        "workers/WORKER/identity": q.identity("w-1"),
        "workers/WORKER/lock": q.lock("w-1"),
        "workers/auto/LANE@ENV.lock": q.auto_lock(place),
        "workers/auto/LANE@ENV.log": q.auto_log(place),
        "workers/auto/LANE@ENV.refused": q.auto_refused(place),
        "slots/SLOT/identity": q.identity("s-1"),
        "slots/SLOT/log": f"{q.slot_folder('s-1')}/log",
        "slots/SLOT/stop": q.stop("s-1"),
        "slots/SLOT/usage": q.usage("s-1"),
        "slots/SLOT/full": q.full("s-1"),
        "slots/SLOT/waits": q.waits("s-1", SAMPLE),
        "slots/SLOT/waits-ID": q.waits("b-1", SAMPLE),
        "needs/NEED.json": q.need("x7b204c8a20940785"),
        "tokens/gate": q.gate(),
        "tokens/limits/KEY/N": q.limit("api", 12),
        "tokens/rates/KEY": q.rate("api"),
        "tokens/locks/KEY": q.named_lock("db"),
        "slots/SLOT/trouble": q.trouble("b-1"),
        "slots/SLOT/died": q.died("b-1"),
        "slots/SLOT/unbegun": q.unbegun("b-1"),
        "bells/BOOT/LANE@ENV/NAME": f"{q.bells_of('b1', place)}/s-1",
        "bells/BOOT/LANE@ENV/idle/NAME": f"{q.bells_of('b1', place)}/idle/s-1",
        "bells/BOOT/PLACE/NAME": f"{q.bells_of('b1', 'clients')}/c-1",
        "blobs/ab/HASH": f"{q.blobs}/ab/{'0' * 64}",
        **{name: f"/q/{name}" for name in (layout.MARK, layout.README, layout.GITIGNORE)},
        "paused": q.paused,
        "flushed": q.flushed,
    }
    for shown, path in made.items():
        assert as_regex(shown).fullmatch(path.removeprefix("/q/")), (shown, path)
    reserved = {"damaged/", "tasks/20261120-2206/11/"}
    assert set(tree()) == set(made) | reserved


def test_the_grammars() -> None:
    rows = table()
    assert rows["ID"] == [layout.ID.pattern]
    assert rows["LANE"] == [NAME.pattern]
    assert rows["ENV"] == [layout.TAG.pattern]
    assert rows["TICKET"] == ["ID.D.F.L"]
    assert set(rows["STATUS"]) == {str(status) for status in ENDED}
    assert rows["SCHEDULE"] == [NAME.pattern]
    assert rows["FATE"] == list(schedules.FATES)
    assert rows["NEED"] == ["f", "c", "x"]
    assert rows["WORKER, SLOT"] == ["w-…", "s-…", "b-…", "i-…"]


def test_the_format_number_is_that_of_the_mark() -> None:
    assert f"\nFormat {layout.FORMAT}." in PAGE
    assert f'{{"format":{layout.FORMAT},"read":{layout.FORMAT},"write":{layout.FORMAT},"queue":UUID}}' in PAGE


@pytest.mark.parametrize(
    ("name", "kind"), [("spec", Spec), ("outcome", Outcome), ("failure", Failure), ("variable", Variable)]
)
def test_the_fields(name: str, kind: type[msgspec.Struct]) -> None:
    section = PAGE.partition("## Spec and outcome")[2].partition("\n## ")[0]
    listed = re.search(rf"^- {name}: (.*?)(?=^- |\Z)", section, re.MULTILINE | re.DOTALL)
    assert listed is not None
    assert re.findall(r"`(\w+)`", listed[1]) == list(kind.__struct_fields__)


# The page and the disk.


def a_busy_queue(root: Path) -> Queue:
    """Something of everything that the page shows."""
    queue = Queue(str(root))
    bells = [
        queue.bell(place, f"s-{n}")
        for n, place in enumerate(("workers", "flush", "clients", "watch", "tokens", f"default@{ENV}"))
    ]
    bells.append(queue.bell(f"default@{ENV}/idle", "s-9"))
    done, failing, dropped = put(queue), put(queue, retries=1, retry_delay=60.0), put(queue)
    big = Spec(id=queue.new_id(), name="big", env=ENV)
    queue.put(big, [ADD[0], payload.dump("arguments", ((np.arange(200_000),), {}))])
    end(queue, done)
    queue.disk.create(f"{queue.layout.cell_folder('0' * 32)}/{done.id}", [])
    cache.find(queue, "0" * 32, math.inf).claim(queue, done.id)
    finish(queue, failing, claim(queue), Status.FAILED)
    queue.cancel(dropped.id)
    running = claim(queue)
    for kind in (layout.LOG, layout.EVENTS, layout.PROGRESS):
        Path(queue.layout.file(running.id, 1, kind)).write_text("")
    started(queue, running)
    put(queue, after=(put(queue).id,))
    live_slot(queue, "w-1")
    live_slot(queue, "s-1", worker="w-1")
    members.request_stop(queue, "s-1", Stop(str(running), "cancel"))
    members.note_usage(queue, "s-1", members.Usage(ticket=str(running), memory=1 << 20, peak=1 << 21, cpu=0.5))
    members.note_full(queue, "s-1", 4096)
    members.note_waits(queue, "s-1", running.id, "db")
    queue.disk.make_folder(queue.layout.slot_folder("b-1"))
    members.note_waits(queue, "b-1", running.id, "db")
    needs = Needs(limits={"api": 2}, rates={"api": (30, 60.0)})
    put(queue, need=needs.code, needs=needs.fields)
    assert Needy(queue, [f"default@{ENV}"]).try_claim("s-1", fresh=True)
    assert Lease(queue.layout.named_lock("db")).try_take()
    members.note_unbegun(queue, "b-1", "it waits for a worker at rq+redis://host", [running.id])
    members.note_trouble(queue, "s-1", "rq+redis://host does not answer")
    queue.disk.create(queue.layout.died("s-1"), [])
    recovery.mark_flushed(queue, time.time())
    put(queue, expires=time.time() + 60)
    for kind in (layout.PLAN, layout.ITEMS):
        queue.disk.create(queue.layout.spread(str(running).partition(".")[0], kind), [b"[]"])
    queue.disk.create(f"{queue.layout.group_folder('weekly')}/{queue.new_id()}/{queue.new_id()}", [])
    spec = Spec(id=queue.new_id(), name="nightly", env=ENV, schedule="nightly")
    every = Every(seconds=60.0, start=time.time())
    entry = schedules.Entry(
        name="nightly", recurrence=every, tz="UTC", call=spec.id, registered=1.5e9, since=time.time() - 90
    )
    schedules.register(queue, entry, spec, ADD)
    Timetable(queue).look()
    Path(queue.layout.paused).touch()
    return queue


def leaves(root: str) -> Iterator[str]:
    for folder, _, names in os.walk(root):
        for name in names:
            yield os.path.relpath(f"{folder}/{name}", root)


def test_everything_on_the_disk_is_on_the_page_and_the_other_way_round(tmp_path: Path) -> None:
    queue = a_busy_queue(tmp_path / "q")
    patterns = {path: as_regex(path) for path in tree()}
    found = list(leaves(queue.root))
    for path in found:
        assert any(pattern.fullmatch(path) for pattern in patterns.values()), f"{path} is not on the page"
    written_by_workers = {
        "workers/WORKER/lock",
        "workers/auto/LANE@ENV.lock",
        "workers/auto/LANE@ENV.log",
        "workers/auto/LANE@ENV.refused",
        "slots/SLOT/log",
    }
    for shown, pattern in patterns.items():
        if not shown.endswith("/") and shown not in written_by_workers:
            assert any(map(pattern.fullmatch, found)), f"nothing on the disk is a {shown}"


def test_a_real_worker_leaves_nothing_that_is_not_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")  # it would outlive the test
    config.reset()
    code = "from nbtasks.worker.supervisor import run_worker; import sys; run_worker(sys.argv[1], burst=True, slots=2)"
    queue = Queue(str(tmp_path / "q"))
    spec = Spec(id=queue.new_id(), name="hello", env=config.env_tag())
    queue.put(spec, [payload.dump("function", print), payload.dump("arguments", (("hello",), {}))])
    seen: set[str] = set()
    worker = subprocess.Popen([sys.executable, "-c", code, queue.root], stderr=subprocess.PIPE)
    while worker.poll() is None:
        seen.update(leaves(queue.root))
    assert worker.stderr is not None
    assert worker.returncode == 0, worker.stderr.read().decode()
    worker.stderr.close()
    assert queue.record(spec.id).status is Status.SUCCEEDED
    assert queue.record(spec.id).read_log() == b"hello\n"
    patterns = [as_regex(path) for path in tree()]
    strange = {path for path in seen if not any(pattern.fullmatch(path) for pattern in patterns)}
    assert {path for path in strange if not path.rpartition("/")[2].startswith(".")} == set()


def test_the_name_of_a_need_can_be_made_from_the_page_alone() -> None:
    needs = Needs(
        fresh=True, limits={"b": 1, "a": 2}, rates={"api": (30, 60.0)}, resources={"licence": (1, 2), "gpu": (1, 1)}
    )
    content = (
        '{"fresh":true,"limits":{"a":2,"b":1},"rates":{"api":[30,60.0]},"resources":{"gpu":[1,1],"licence":[1,2]}}'
    )
    assert needs.content.decode() == content
    assert needs.code == f"x{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    assert layout.name_key("api") == hashlib.sha256(b"api").hexdigest()[:32]


# A reader of frames, written from the page alone.


def read_by_the_page(path: str, key: bytes, queue: str, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and unpickled parts of a frame."""
    data = Path(path).read_bytes()
    line, signature, rest = data.split(b"\n", 2)
    derived = hmac.digest(key, f"nbtasks 1\n{queue}\n{kind}".encode(), "sha256")
    assert hmac.new(derived, line, "sha256").hexdigest().encode() == signature
    header = json.loads(line)
    at = len(line) + 1 + 65
    base = -(-(at + sum(part["pickle"] for part in header["parts"])) // 4096) * 4096
    values = {}
    for part in header["parts"]:
        stream, rest = rest[: part["pickle"]], rest[part["pickle"] :]
        assert hashlib.sha256(stream).hexdigest() == part["sha256"]
        buffers = []
        for buffer in part.get("buffers", ()):
            if "blob" in buffer:
                blobs = path.partition("/tasks/")[0] + "/blobs"
                content = Path(blobs, buffer["blob"][:2], buffer["blob"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == buffer["blob"]
            else:
                content = data[base + buffer["at"] :][: buffer["size"]]
                assert zlib.crc32(content) == buffer["crc"]
            assert len(content) == buffer["size"]
            buffers.append(content)
        values[part["name"]] = pickle.loads(stream, buffers=buffers)
    return header, values


def test_a_reader_written_from_the_page_reads_calls_and_outcomes(tmp_path: Path) -> None:
    queue = Queue(str(tmp_path / "q"))
    small, large = np.arange(5000), np.arange(300_000)
    spec = Spec(id=queue.new_id(), name="train", env=ENV, retries=2)
    queue.put(spec, [ADD[0], payload.dump("arguments", ((small, large, small[:3]), {"x": 1}))])
    header, parts = read_by_the_page(queue.layout.call(spec.id), queue.key, queue.uuid, "call")
    assert header.keys() == {"nbtasks", "kind", "queue", "id", "spec", "parts"}
    assert (header["nbtasks"], header["kind"], header["queue"], header["id"]) == (1, "call", queue.uuid, spec.id)
    assert header["spec"] == {"id": spec.id, "name": "train", "env": ENV, "retries": 2}
    assert parts["function"] is sum
    args, kwargs = parts["arguments"]
    assert all(map(np.array_equal, args, (small, large, small[:3])))
    assert kwargs == {"x": 1}
    ticket = claim(queue)
    outcome = Outcome(id=spec.id, delivery=1, status=Status.SUCCEEDED, has_value=True)
    queue.finish(spec, ticket, "s-1", outcome, [payload.dump("value", small)])
    path = queue.layout.file(spec.id, 1, layout.OUTCOME)
    header, parts = read_by_the_page(path, queue.key, queue.uuid, "outcome")
    assert header["delivery"] == 1
    assert header["outcome"] == {"id": spec.id, "delivery": 1, "status": "succeeded", "has_value": True}
    assert np.array_equal(parts["value"], small)


# A queue that an earlier commit wrote.


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """The queue of tests/data, unpacked. tests/data/make_queue.py made it, and says what is in it."""
    with tarfile.open(TAR) as tar:
        tar.extractall(tmp_path, filter="fully_trusted")
    monkeypatch.setenv("NBTASKS_KEY_FILE", str(tmp_path / "key"))
    config.reset()
    return Queue(str(tmp_path / ".nbtasks"), create=False)


def old_task(queue: Queue, name: str) -> records.Record:
    (record,) = queue.records(name=name)
    return record


def old_value(queue: Queue, name: str) -> Any:
    record = old_task(queue, name)
    assert record.status is Status.SUCCEEDED
    frame = records.read_outcome_frame(queue, record.ticket)
    part = frame.parts.get("cell") or frame.parts["value"]
    return payload.load(part)


def test_an_old_queue_is_sound_and_tells_what_it_had(old: Queue) -> None:
    assert check(old, full=True) == []
    expected = {"succeeded": 4, "failed": 1, "cancelled": 1, "queued": 1, "waiting": 2, "running": 0}
    assert {str(status): count for status, count in lookup.counts(old).items()} == expected
    assert {record.name for record in old.records()} == {
        "none", "array", "retried", "cell", "failed", "cancelled", "queued", "child", "later",
    }  # fmt: skip


def test_the_values_of_an_old_queue(old: Queue) -> None:
    assert old_value(old, "none") is None
    assert np.array_equal(old_value(old, "array"), np.tile(np.arange(500), (400, 1)))
    assert old_value(old, "retried") == {"text": "ünïcode", "numbers": [1, 2.5, 1 + 2j], "nested": {"deep": (None,)}}
    assert old_value(old, "cell") == (0.9731, {"model": {"weights": [1, 2, 3]}, "history": ["a", "b"]})


def test_the_records_of_an_old_queue(old: Queue) -> None:
    retried = old_task(old, "retried")
    assert (retried.attempt, retried.ticket.delivery, retried.ticket.failures) == (2, 2, 1)
    assert retried.read_log() == b"second attempt\n"
    cell = old_task(old, "cell")
    assert cell.spec.kind == "cell"
    code = payload.load(records.read_call(old, cell.id).parts["cell"])
    assert (code.source, code.inputs) == ("model.fit()", {"model": {"weights": [0, 0, 0]}})
    assert cell.outcome is not None
    assert [(v.name, v.changed, v.bind) for v in cell.outcome.variables] == [
        ("model", True, True),
        ("history", False, True),
    ]
    assert cell.outcome.progress == {"bars": [{"id": 1, "desc": "epoch", "n": 20, "total": 20, "closed": True}]}
    assert cell.events() == [{"at": 0, "time": 1.5, "kind": "display", "data": {"text/plain": "0.9731"}}]
    failed = old_task(old, "failed")
    assert failed.outcome is not None
    assert failed.outcome.failure is not None
    assert (failed.outcome.failure.type, failed.outcome.failure.message) == ("ValueError", "no such column")
    frame = records.read_outcome_frame(old, failed.ticket)
    error = payload.load(frame.parts["exception"])
    assert isinstance(error, ValueError)
    assert old_task(old, "cancelled").outcome is None
    assert old_task(old, "child").reason == f"for queued {old_task(old, 'queued').short} (queued)"
    assert old_task(old, "later").reason.startswith("attempt 2 of 4 in ")


def test_what_was_queued_in_an_old_queue_runs(old: Queue) -> None:
    record = old_task(old, "queued")
    assert contexts.decode(old.blobs.read(record.spec.context)).environ == {"COLOUR": "blue"}
    claimer = Claimer(old, "s-1", [lookup.line_of(record.spec)])
    ticket = claimer.try_claim()
    assert ticket == record.ticket
    call = records.read_call(old, ticket.id)
    args, kwargs = payload.load(call.parts["arguments"])
    value = payload.load(call.parts["function"])(*args, **kwargs)
    assert value == 2_001_000
    assert finish(old, record.spec, ticket)
    child = old_task(old, "child")
    assert child.status is Status.QUEUED
    assert claimer.try_claim() == child.ticket
    waits = payload.load(records.read_call(old, child.id).parts["arguments"], lambda id: {record.id: 7}[id])
    assert waits == ((7, 1), {})
    assert old.cancel(old_task(old, "later").id)
    assert old.retry(old_task(old, "failed").id).delivery == 2


def test_the_id_of_a_moment_can_be_made_from_the_page_alone() -> None:
    # "the lowest 13 digits, the lowest first, of the SHA-256 of SCHEDULE, a line break and M, … to the base 36"
    moment = 1_795_212_371_482_913
    number = int(hashlib.sha256(f"nightly\n{moment}".encode()).hexdigest(), 16)
    digits = ""
    for _ in range(13):
        number, digit = divmod(number, 36)
        digits += "0123456789abcdefghijklmnopqrstuvwxyz"[digit]
    assert schedules.id_of("nightly", moment / 1e6) == f"20261120-220611-482913-{digits}"
