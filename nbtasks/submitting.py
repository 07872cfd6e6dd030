"""From a function and its arguments to a task in the queue: the spec, the parts, and who is told."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import msgspec

from nbtasks import config, context, handle, listings, payload, processes, run, timing, wishes
from nbtasks.config import Settings
from nbtasks.errors import OptionError
from nbtasks.frames import Part
from nbtasks.handle import Task, new_task
from nbtasks.options import Fields
from nbtasks.previews import preview
from nbtasks.queue.directory import Claim, Queue
from nbtasks.spec import Spec
from nbtasks.watching import watcher_of

_SUMMARY = 80  # characters
_PLAIN = 10**18
_KEPT = 256  # functions whose pickles are kept


class Here(NamedTuple):
    """What stays the same from one submit to the next."""

    settings: Settings
    pid: int
    queue: Queue
    env: str
    bell: str
    defaults: Fields
    forced: Fields


_here: Here | None = None


def here() -> Here:
    """Queue, environment and bell of this process. Raises QueueError when there can be no queue."""
    global _here
    settings = config.settings()
    if _here is None or _here.settings is not settings or _here.pid != os.getpid() or not _is_there(_here.queue):
        queue = Queue.open()
        bell = watcher_of(queue).name
        defaults = {"lane": settings.lane, "grace": settings.grace, "host": processes.host_name(), "pid": os.getpid()}
        # In place there is nobody who would wait for the moment of a retry.
        forced = {"retry_delay": 0.0, "due": None} if settings.engine == "inline" else {}
        _here = Here(settings, os.getpid(), queue, config.env_tag(), bell, defaults, forced)
    return _here


def _is_there(queue: Queue) -> bool:
    return queue.disk.exists(queue.layout.mark)


# The pipeline whose block is open here. In a task: what it submits belongs to its own.
group_now: ContextVar[str | None] = ContextVar("nbtasks-group", default=None)


def group_here() -> str | None:
    """The run of a pipeline that a task submitted here and now belongs to, or None."""
    running = run.current()
    return group_now.get() or (running.spec.group if running else None)


# Calls.


class Call(NamedTuple):
    """A function's arguments, ready to be put; nothing is in the queue yet."""

    parts: list[Part]
    references: tuple[str, ...]
    summary: str


def pack(
    function: tuple[Part, ...],
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    given: tuple[Any, ...] | None = None,
) -> Call:
    """Pickle the arguments. Raises PayloadError, naming the one that cannot be; `given` are those that somebody wrote."""
    arguments = payload.dump("arguments", (args, kwargs), references=True, where="the arguments")
    check_arguments(arguments, args if given is None else given, kwargs)
    return Call([*function, arguments], arguments.references, summarize(name, args, kwargs))


def check_arguments(packed: Part, args: tuple[Any, ...], kwargs: Mapping[str, Any], word: str = "argument") -> None:
    """Raise OptionError when one of the arguments, or whatever `word` says, holds a task of another queue."""
    if packed.references:
        _check_parents(here().queue, packed.references, lambda id: _argument_with(id, args, kwargs, word))


def name_of(function: Any) -> str:
    """What a task of this function is called. Raises OptionError when it is none."""
    if not callable(function):
        kind = type(function).__name__
        raise OptionError(
            f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} cannot be called: give the function and its arguments, submit(train, x), "
            "not what it returned, submit(train(x))"
        )
    named = getattr(function, "func", function)  # functools.partial
    name = getattr(named, "__name__", None) or type(named).__name__
    return "lambda" if name == "<lambda>" else str(name)


_parts: dict[int, tuple[object, tuple[Part]]] = {}


def parts_of(function: Any) -> tuple[Part, ...]:
    """The pickled function, and its lines when it stands in no file.

    Of one that slots import by its name it is kept; others may have changed since.
    """
    known = _parts.get(id(function))
    if known is not None and known[0] is function and _is_importable(function):
        return known[1]
    part = payload.dump("function", function, where=f"the function {name_of(function)}")
    if not _is_importable(function):
        lines = listings.lines_of(function)
        return (part,) if lines is None else (part, lines)
    if len(_parts) >= _KEPT:
        _parts.clear()
    _parts[id(function)] = (function, (part,))
    return (part,)


def _is_importable(function: Any) -> bool:
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if module is None or name is None or module == "__main__":
        return False
    cloudpickle = sys.modules["cloudpickle"]
    return getattr(sys.modules.get(module), name, None) is function and not cloudpickle.list_registry_pickle_by_value()


def summarize(name: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> str:
    """One line about a call: ``train(1, epochs=20)``."""
    texts: list[str] = []
    room = _SUMMARY - len(name)
    for key, value in [*((None, value) for value in args), *kwargs.items()]:
        text = _brief(value) if key is None else f"{key}={_brief(value)}"
        room -= len(text) + 2
        if room < 0:
            texts.append("…")
            break
        texts.append(text)
    return f"{name}({', '.join(texts)})"


def _brief(value: Any) -> str:
    if value is None or (type(value) is int and -_PLAIN < value < _PLAIN):  # the usual ones, in a tenth of the time
        return repr(value)
    return f"{value.name} {value.short}" if isinstance(value, Task) else preview(value)


# Putting.


def put_call(call: Call, name: str, fields: Fields, frozen: str = "", claim: Claim | None = None) -> Task[Any]:
    """Put a packed call into this process's queue; its handle. `frozen` is the context if it was captured before."""
    at = here()
    spec = make_spec(at, call, name, fields, frozen)
    store(at, spec, call.parts, claim)
    return new_task(at.queue, spec)


_ONLY_PYTHON = (
    "engine threads: a time limit stops Python code only; what waits in C ends with its process, once no other task is in it. "
    "Where that matters: nbtasks worker -e processes"
)


def make_spec(at: Here, call: Call, name: str, fields: Fields, frozen: str = "") -> Spec:
    """The spec of a packed call, with a new id. Raises OptionError when it hangs on a task of another queue."""
    queue = at.queue
    if "after" in fields:
        _check_parents(queue, fields["after"], lambda id: "after")
    if at.settings.engine == "threads" and "timeout" in fields:
        warnings.warn(_ONLY_PYTHON, stacklevel=2)
    return Spec(
        id=queue.new_id(), env=at.env, bell=at.bell, parents=call.references, summary=call.summary,
        context=frozen or context.capture(queue.blobs), group=group_here(),
        **{"name": name, **at.defaults, **wishes.resolve(timing.resolve(fields), name), **at.forced},
    )  # fmt: skip


def store(at: Here, spec: Spec, parts: Sequence[Part], claim: Claim | None = None) -> None:
    """Put a call into this process's queue, and run it here when the engine is ``inline``."""
    at.queue.put(spec, parts, claim)
    if at.settings.engine == "inline":
        from nbtasks.engines.inline import run_inline  # brings what runs tasks; elsewhere only slots need it

        run_inline(at.queue, spec)


def put(queue: Queue, spec: Spec, parts: Sequence[Part], claim: Claim | None = None) -> Task[Any]:
    """Put a call with a ready spec, such as a cell's; its handle. What only this process knows is filled in."""
    known = msgspec.structs.replace(
        spec,
        bell=watcher_of(queue).name,
        host=spec.host or processes.host_name(),
        pid=spec.pid or os.getpid(),
        group=spec.group or group_here(),
    )
    _check_parents(queue, known.dependencies)
    queue.put(known, parts, claim)
    return new_task(queue, known)


def _check_parents(queue: Queue, ids: Iterable[str], where: Callable[[str], str] = lambda id: "") -> None:
    """Refuse tasks that are not in `queue`; `where` says which argument has one."""
    for id in ids:
        if not queue.disk.exists(queue.layout.call(id)):
            place, at = where(id), next((root for root, known, _ in list(handle._handles) if known == id), "")
            what = f"{place} holds the task {id}, which" if place else f"the task {id}"
            raise OptionError(
                f"{what} is not in {queue.root}{f' but in {at}' if at not in ('', queue.root) else ''}: a task can wait "
                "only for tasks of its own queue. Give its value instead: .result()"
            )


def _argument_with(id: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], word: str) -> str:
    labelled = [*((f"{word} {number}", value) for number, value in enumerate(args, 1))]
    for label, value in [*labelled, *((f"{word} {name!r}", value) for name, value in kwargs.items())]:
        if id in payload.dump("arguments", value, references=True).references:
            return label
    return ""


Summon = Callable[[Queue, str, str], None]


def _summon(queue: Queue, lane: str, env: str) -> None:
    """Start a worker for a lane, unless that is switched off. The task is stored: a failure here is only a warning."""
    if config.settings().engine == "inline":
        return
    from nbtasks.worker.autostart import ensure_worker  # brings subprocess, which only a first submit needs

    try:
        ensure_worker(queue, lane, env)
    except OSError as error:
        warnings.warn(
            f"no worker could be started ({error}); the tasks wait until one is: nbtasks worker -l {lane}", stacklevel=2
        )


Queue.summon = _summon
