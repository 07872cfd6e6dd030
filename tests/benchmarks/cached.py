"""The cache: how fast arguments are looked through, and how soon the value of a call that ran before is usable."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

_SIZE = 1 << 30  # bytes of the result
_ROUNDS = 7

_HIT = """
import json, time
import numpy as np
import nbtasks

@nbtasks.task(cache=True)
def large(size):
    return np.ones(size // 8)

def usable():
    started = time.perf_counter()
    value = large.submit({size}).result(120)
    assert value[0] == value[-1] == 1 and value.nbytes == {size}
    return (time.perf_counter() - started) * 1000

large.submit({size}).result(120)
print(json.dumps([usable() for _ in range({rounds})]))
"""


def hits() -> list[float]:
    """Milliseconds from submit to the use of a value of 1 GB that is in the cache, in a process that did not make it."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "NBTASKS_QUEUE": f"{folder}/.nbtasks", "NBTASKS_IDLE_EXIT": "5"}
        code = _HIT.format(size=_SIZE, rounds=_ROUNDS)
        found = []
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", code], env=environ, cwd=folder, capture_output=True, check=True
            )
            found = json.loads(done.stdout)
        stop = [sys.executable, "-m", "nbtasks", "-q", folder, "stop", "--now", "--wait", "--timeout", "30"]
        subprocess.run(stop, env=environ, check=True, stdout=subprocess.DEVNULL)
        return found


def rates() -> dict[str, float]:
    """GB a second at which a digest is made, by what it is of."""
    import numpy as np
    import pandas as pd

    from nbtasks.cache_look import Look
    from nbtasks.cache_modules import Modules

    array = np.random.default_rng(0).random(32 << 20)  # 256 MiB
    values = {
        "an array": array,
        "a DataFrame": pd.DataFrame(array.reshape(-1, 16)),
        "every other column of an array": array.reshape(-1, 16)[:, ::2],
    }

    def rate(count: int, run: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return count / statistics.median(times) / 1e9

    found = {"SHA-256 alone, one thread": rate(array.nbytes, lambda: hashlib.sha256(array.view(np.uint8)))}
    for name, value in values.items():
        count = array.nbytes // 2 if "other" in name else array.nbytes
        found[name] = rate(count, lambda value=value: Look(Modules(None, {})).add(value))  # type: ignore[misc,arg-type]
    return found


def print_cached() -> None:
    """The lines of docs/benchmarks.md."""
    listed = ", ".join(f"{name} {rate:.1f}" for name, rate in rates().items())
    print(f"\nlooking through arguments, GB a second: {listed} (aim ≥ 1)")
    found = hits()
    print(
        f"\na cache hit with a value of 1 GB: {statistics.median(found):.1f} ms until it is usable, {max(found):.1f} at most "
        f"(median of {len(found)}; aim ≤ 50)"
    )


if __name__ == "__main__":
    print_cached()
