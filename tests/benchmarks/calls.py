"""The functions that every peer runs. Importable, because Huey and ProcessPoolExecutor find functions by name."""

from __future__ import annotations

import time


def nothing(number: int) -> int:
    """Give the number back."""
    return number


def count(numbers: list[int]) -> int:
    """How many there are."""
    return len(numbers)


def nap_of(number: int) -> int:
    """Take 5 ms, and give the number back."""
    time.sleep(0.005)
    return number
