"""``make bench``: prints the tables of docs/benchmarks.md. Takes some minutes."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time

from tests.benchmarks import cached, dashboard, engines, noops, notebook, notebook_tasks, pipelines, prompt

AIMS = {"ProcessPoolExecutor": 0.35, "Huey/SQLite": 3.0}


def print_noops(count: int, rounds: int) -> None:
    """The table of no-ops."""
    rates = noops.measure(count, rounds)
    own = statistics.median(rates["nbtasks"])
    print(f"\n{count:,} no-ops submitted one by one and read back, {noops.SLOTS} slots, median of {rounds} rounds\n")
    print("| | tasks a second (each round) | nbtasks is | aim |\n|---|---|---|---|")
    for side, found in rates.items():
        median = statistics.median(found)
        every = ", ".join(f"{rate:,.0f}" for rate in found)
        ratio = "" if side == "nbtasks" else f"{own / median:.2f} ×"
        aim = f"≥ {AIMS[side]:g} ×" if side in AIMS else ""
        print(f"| {side} | {median:,.0f} ({every}) | {ratio} | {aim} |")


def print_import(rounds: int = 15) -> None:
    """What ``import nbtasks`` costs over a bare interpreter."""

    def seconds(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - started

    pairs = [(seconds("pass"), seconds("import nbtasks")) for _ in range(rounds)]
    extra = statistics.median(own - bare for bare, own in pairs) * 1000
    print(f"\n`import nbtasks`: {extra:.1f} ms over bare Python (median of {rounds}; aim ≤ 20 ms)")


def print_notebook() -> None:
    """What a thousand live tasks on show cost the cells of a notebook."""
    found = notebook.measure()
    extra = found["with"] - found["without"]
    print(
        f"\na cell `1+1` with 1,000 live tasks on show: {found['with']:.1f} ms, without {found['without']:.1f} ms: "
        f"{extra:.1f} ms more (medians; aim ≤ 5 ms); {found['rate'] / 1000:.0f} kB/s on the wire (aim ≤ 50)"
    )


def print_pipelines() -> None:
    """What tasks that hang on each other cost."""
    found = pipelines.measure()
    ratio = (found["chain"] + found["chain again"]) / (found["rounds"] + found["again"])
    print(
        f"\na chain of 1,000 no-ops: {found['chain']:.2f} s, {found['chain again']:.2f} s; 1,000 rounds of submit and wait: "
        f"{found['rounds']:.2f} s, {found['again']:.2f} s: {ratio:.2f} × (aim ≤ 1.5 ×)\n"
        f"2,000 children of one: {found['out']:.2f} s; a child of 2,000: {found['in']:.2f} s; 2,000 that hang on nothing: {found['lone']:.2f} s"
    )


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {os.cpu_count()} cores")
    print_import()
    prompt.print_prompt()
    print_notebook()
    print_pipelines()
    dashboard.print_dashboard()
    cached.print_cached()
    print_noops(chosen.count, chosen.rounds)
    notebook_tasks.print_table()
    engines.print_table(count=min(chosen.count, engines.COUNT), rounds=min(chosen.rounds, engines.ROUNDS))


if __name__ == "__main__":
    main()
