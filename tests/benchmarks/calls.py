"""The functions that every peer runs. Importable, because Huey and ProcessPoolExecutor find functions by name."""

from __future__ import annotations

import time


def nothing(number: int) -> int:
    """Give the number back."""
    return number


def count(numbers: list[int]) -> int:
    """How many there are."""
    return len(numbers)


def nap() -> None:
    """Take 5 ms."""
    time.sleep(0.005)


def nap_of(number: int) -> int:
    """The same, for those that want an argument."""
    time.sleep(0.005)
    return number
