"""Durations, sizes and numbers as people read them, and the sentences of a card."""

from __future__ import annotations

import signal as signals
from collections.abc import Iterable, Mapping
from datetime import datetime

from nbtasks.jupyter.ansi import one_line
from nbtasks.jupyter.shown import Line, Piece, Shown
from nbtasks.outcome import Outcome, Variable
from nbtasks.status import Status

_NAMES = 12  # names in one sentence
_EARLIER = 3  # attempts before the last one that are told of
_WORTH_SAYING = 1 << 20  # bytes from which on a size is mentioned


def duration(seconds: float) -> str:
    """How long something took: ``0.35 s``, ``4 s``, ``0:42``, ``6:20``, ``1 h 12``, ``3 d 4 h``."""
    seconds = max(0.0, seconds)
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    return clock(seconds)


def clock(seconds: float) -> str:
    """A running time or a time left: ``0:04``, ``6:20``, ``1 h 12``, ``3 d 4 h``."""
    whole = int(max(0.0, min(seconds, 1e12)))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    if whole < 86400:
        return f"{whole // 3600} h" + (f" {whole // 60 % 60:02d}" if whole // 60 % 60 else "")
    return f"{whole // 86400:,} d" + (f" {whole // 3600 % 24} h" if whole // 3600 % 24 else "")


def size(count: float) -> str:
    """Bytes in steps of 1024, as ``free -h`` counts: ``12 B``, ``820 kB``, ``2.1 GB``."""
    count, units = max(0.0, count), ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1024
        del units[0]
    return f"{count:,.0f} {units[0]}" if units[0] == "B" or count >= 99.5 else f"{count:.3g} {units[0]}"


def number(value: float) -> str:
    """A count: whole where it is whole, with commas from ten thousand on."""
    if value == int(value):
        return f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    return f"{value:.4g}"


def plural(count: int, what: str) -> str:
    """``1 line``, ``12 lines``."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def listed(names: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    words = list(names)
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def moment(when: float) -> str:
    """A point in time in the reader's own zone: ``2026-11-20 22:06``."""
    return datetime.fromtimestamp(when).strftime("%Y-%m-%d %H:%M")


def moment_near(when: float, now: float) -> str:
    """As `moment`, shorter: ``22:06`` within the day of `now`, else ``2026-11-20``."""
    day, time = moment(when).split()
    return time if day == moment(now).split()[0] else day


def facts(task: Shown, now: float) -> tuple[str, ...]:
    """What stands behind the status on the first line: how long, which attempt, when, and why in short."""
    outcome, status = task.outcome, task.status
    if status is Status.RUNNING:
        found = [clock(now - task.started) if task.started else "", _attempt(task), *_usage(task)]
    elif outcome is None:
        found = [_without_status(task.reason, status).partition("; ")[0]]
    else:
        found = [_how_long(outcome), _attempt(task) if outcome.attempt > 1 else "", _cores(outcome), _peak(outcome)]
        found.append(moment(outcome.ended) if outcome.ended else "")
        if status is Status.SUCCEEDED:
            found.insert(1, task.reason)
    return tuple(text for text in map(one_line, found) if text)


def _usage(task: Shown) -> list[str]:
    """What a running task takes of processor and memory, with all its processes."""
    usage = task.usage
    if usage is None:
        return []
    return ["" if usage.cores is None else _cores_words(usage.cores), size(usage.memory)]


def _cores_words(cores: float) -> str:
    return "idle" if cores < 0.05 else f"{cores:.1f} cores".replace("1.0 cores", "1 core")


def _cores(outcome: Outcome) -> str:
    """How many cores were busy, when it was more than one."""
    parallel = outcome.seconds > 1 and outcome.cpu > 1.25 * outcome.seconds
    return _cores_words(outcome.cpu / outcome.seconds) if parallel else ""


def standing(task: Shown) -> list[Line]:
    """The sentences about a task that has not ended: why it is not further, and how earlier attempts ended."""
    lines: list[Line] = []
    if task.outcome is None and task.status in (Status.WAITING, Status.QUEUED):
        lines.append((Piece(task.reason.partition("; ")[2]),))
    elif task.status is Status.RUNNING:
        lines.append((Piece(task.reason.removeprefix(_attempt(task)).lstrip(", ")),))
    lines += map(_earlier, task.earlier[-_EARLIER:])
    return [line for line in lines if line[0].text]


def _earlier(outcome: Outcome) -> Line:
    failure = outcome.failure
    if failure is None or outcome.kind:
        why = outcome.reason or outcome.kind
    else:
        why = f"{failure.type.removeprefix('builtins.')}: {failure.message}".removesuffix(": ")
    return (Piece(f"attempt {outcome.attempt} failed after {duration(outcome.seconds)}: {why}"),)


def _without_status(reason: str, status: Status) -> str:
    rest = reason.removeprefix(str(status))
    return rest.lstrip(" ,:") if rest != reason and rest[:1] in ("", " ", ",", ":") else reason


def _attempt(task: Shown) -> str:
    return f"attempt {task.attempt} of {task.spec.retries + 1}" if task.spec.retries else ""


def _peak(outcome: Outcome) -> str:
    # A task that died of its memory says so in a sentence of its own.
    worth = outcome.peak_memory >= 100 * _WORTH_SAYING and outcome.kind not in ("lost", "killed")
    return f"peak {size(outcome.peak_memory)}" if worth else ""


def _how_long(outcome: Outcome) -> str:
    if outcome.kind == "upstream" or not outcome.started:
        return "did not start" if outcome.status is not Status.SUCCEEDED else ""
    took = duration(outcome.seconds)
    if outcome.status is Status.SUCCEEDED:
        return f"in {took}"
    if outcome.status is Status.CANCELLED:
        return f"after {took}" + (", with what it had" if outcome.has_value or _given(outcome) else "")
    told = outcome.reason.startswith("timed out")  # in the sentence below
    named = outcome.kind in ("lost", "killed") or (outcome.kind == "timed out" and not told)
    return f"{outcome.kind} after {took}" if named else f"after {took}"


def _given(outcome: Outcome) -> list[Variable]:
    return [variable for variable in outcome.variables if not variable.left_out]


def ending(task: Shown, value_shown: bool) -> list[Line]:
    """The sentences about how a task ended. `value_shown`: its value stands elsewhere on the card."""
    outcome = task.outcome
    if outcome is None:
        return [(Piece(task.reason),)] if task.status is Status.FAILED and task.reason else []
    lines: list[Line] = []
    if outcome.status is Status.CANCELLED and task.reason:
        lines.append((Piece(_without_status(task.reason, task.status)),))
    elif outcome.status is Status.FAILED and (outcome.kind or outcome.failure is None):
        lines.append(death(outcome))
    if outcome.has_value and not value_shown and outcome.status is not Status.FAILED:
        said = "value" if task.spec.kind == "cell" else "returned"
        lines.append((Piece(f"{said} {outcome.preview or 'a value'}"),))
    return [line for line in lines if any(piece.text.strip() for piece in line)]


def death(outcome: Outcome) -> Line:
    """Why a task failed that raised nothing of its own: the reason, and what it does not say yet."""
    reason = outcome.reason
    rest = reason.removeprefix(outcome.kind)
    if outcome.kind and rest != reason and rest[:1] in ("", ",", ":"):  # the first line has the word already
        reason = rest.lstrip(" ,:")
    said = reason.lower()
    how = peak = ""
    if outcome.signal is not None and "signal" not in said:
        how = f"killed by signal {outcome.signal}{_signal_name(outcome.signal)}"
    elif outcome.exit_code is not None and outcome.signal is None and "exit" not in said:
        how = f"exit code {outcome.exit_code}"
    if outcome.peak_memory and "peak" not in said and outcome.kind in ("lost", "killed"):
        peak = f"peak memory {size(outcome.peak_memory)}"
    text = ", ".join(filter(None, (how, reason, peak)))
    before, oom, after = text.partition("out of memory")
    return (Piece(before), Piece(oom, "strong"), Piece(after)) if oom else (Piece(text),)


def _signal_name(number: int) -> str:
    try:
        return f" ({signals.Signals(number).name})"
    except ValueError:
        return ""


def variables(task: Shown, kept: Mapping[str, str]) -> list[Line]:
    """What came back, what was kept, what was left out. `kept`: names this notebook did not bind, and why."""
    outcome = task.outcome
    if outcome is None:
        return []
    given = _given(outcome)
    failed = outcome.status is Status.FAILED
    came = [v for v in given if v.bind and not failed and v.name not in kept]
    stayed = [v for v in given if v not in came]
    lines: list[Line] = []
    if came:
        lines.append((Piece("brought back "), *_names(came, {})))
    if stayed:
        lines.append((Piece("kept in "), Piece("task.vars", "code"), Piece(": "), *_names(stayed, kept)))
    reasons: dict[str, list[Variable]] = {}
    for variable in outcome.variables:
        if variable.left_out:
            reasons.setdefault(variable.left_out.removeprefix("because "), []).append(variable)
    for why, those in reasons.items():
        names = _names([Variable(name=variable.name or "the value of its last line") for variable in those], {})
        lines.append((Piece("left out "), *names, Piece(f" because {why}")))
    return lines


def _names(variables: list[Variable], kept: Mapping[str, str]) -> Line:
    pieces: list[Piece] = []
    for variable in variables[:_NAMES]:
        pieces += [Piece(", ")] if pieces else []
        about = [variable.preview] if variable.preview else []
        about += [size(variable.size)] if variable.size >= _WORTH_SAYING else []
        notes = ["changed in place"] if variable.changed else []
        notes += [kept[variable.name]] if kept.get(variable.name) else []
        text = (" " + ", ".join(about) if about else "") + (f" ({'; '.join(notes)})" if notes else "")
        pieces += [Piece(variable.name, "code"), Piece(text)]
    if len(variables) > _NAMES:
        pieces.append(Piece(f" and {len(variables) - _NAMES} more"))
    return tuple(piece for piece in pieces if piece.text)


def foot(task: Shown, ref: str, now: float) -> Line:
    """The last line: what one can do. `ref` is as much of the id as is unique in its queue."""
    if not task.status.ended:
        return Piece(f"as of {moment(now)}; "), Piece(f"%task {ref}", "code"), Piece(" shows now")
    if task.status is Status.SUCCEEDED:
        result = "" if task.spec.kind == "cell" else ".result()"
        return Piece(f'nbtasks.get("{ref}"){result}', "code"), Piece(" finds it from any kernel")
    if task.outcome is not None and task.outcome.kind == "upstream":
        return (Piece("when the task that it needs is retried, this one runs too"),)
    again = Piece(f"%task {ref} retry", "code"), Piece(" runs it again")
    if task.outcome is None or task.outcome.kind or task.outcome.failure is None or task.spec.kind == "notebook":
        return again
    return *again, Piece("; "), Piece(f"%task {ref} here", "code"), Piece(" in this kernel, for %debug")
