"""An interrupt of a thread comes within the code that it is meant for, once, or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from nbtasks.worker.interrupting import ThreadPlace


def spin(turns: int) -> int:
    done = 0
    for _ in range(turns):
        done += 1
    return done


class Runner(threading.Thread):
    """Runs pieces of code of a place, one after the other, with steps between them that none may hit."""

    def __init__(self, code: Callable[[ThreadPlace], object], seconds: float) -> None:
        super().__init__()
        self.place: ThreadPlace | None = None
        self.code, self.until = code, time.monotonic() + seconds
        self.interrupted = self.left_alone = 0
        self.hit_between: list[int] = []

    def run(self) -> None:
        self.place = place = ThreadPlace()
        while time.monotonic() < self.until:
            self._one(place)
            try:
                spin(200)
            except KeyboardInterrupt:
                self.hit_between.append(place.serial)

    def _one(self, place: ThreadPlace) -> None:
        # As the waist does it, see `nbtasks.run`.
        try:
            try:
                place.begin()
                self.code(place)
                place.end()
                self.left_alone += 1
            except BaseException:
                place.end()
                self.interrupted += 1
        except KeyboardInterrupt:
            place.end()
            self.interrupted += 1


def harass(runner: Runner) -> None:
    """Interrupt it at every moment."""
    runner.start()
    while runner.is_alive():
        if (place := runner.place) is not None:
            place.interrupt(place.serial)
    runner.join()


def within_held(place: ThreadPlace) -> None:
    whole = False
    try:
        with place.held(lambda: False):
            spin(50)
            whole = True
    except KeyboardInterrupt:
        assert whole, "what is held is not interrupted"
        raise


@pytest.mark.parametrize(
    "code", [lambda place: spin(300), lambda place: None, within_held], ids=["long", "none", "held"]
)
def test_it_never_comes_behind_the_code(code: Callable[[ThreadPlace], object]) -> None:
    runner = Runner(code, 1.0)
    harass(runner)
    assert runner.hit_between == []
    assert runner.interrupted + runner.left_alone > 20


def test_one_for_a_task_that_has_ended_hits_no_other() -> None:
    place = ThreadPlace()
    place.begin()
    old = place.serial
    place.end()
    place.begin()
    assert not place.interrupt(old)
    assert spin(100) == 100
    place.end()
    assert not place.interrupt(place.serial)


def test_a_stop_that_came_while_it_was_held_comes_afterwards() -> None:
    place = ThreadPlace()
    place.begin()
    with pytest.raises(KeyboardInterrupt), place.held(lambda: True):
        assert not place.interrupt(place.serial)
    assert not place.interrupt(place.serial), "once"
    place.end()
