"""Execute notebooks as a person would run them, in a queue of their own, and print what came back.

    python notebooks/run.py notebooks/01-background-cells.ipynb [--output executed.ipynb] [--timeout SECONDS]

Everything lies in a temporary folder: queue, key, settings. Worker and folder are gone afterwards.
Exit code 1 when a cell fails that was not meant to.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def main(arguments: list[str] | None = None) -> int:
    """Run every notebook that was named, one after another, each in a fresh queue."""
    parser = argparse.ArgumentParser(description="Execute notebooks and print what came back.")
    parser.add_argument("notebook", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, help="write the executed notebook here (one notebook only)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds that one cell may take (default 600)")
    options = parser.parse_args(arguments)
    if options.output and len(options.notebook) > 1:
        parser.error("--output takes one notebook")
    for path in options.notebook:
        if not path.is_file():
            parser.error(f"there is no notebook {path}")
    return max([run_notebook(path, options.output, options.timeout) for path in options.notebook])


def run_notebook(path: Path, output: Path | None, timeout: float) -> int:
    """0 when all cells of `path` ran; its outputs are printed either way."""
    notebook = nbformat.read(path, as_version=4)
    print(f"Executing {path} ({len(notebook.cells)} cells) ...\n", flush=True)
    begun = time.monotonic()
    failure = ""
    with tempfile.TemporaryDirectory(prefix="nbtasks-demo-") as folder:
        environment = surroundings(folder)
        for steps in path.parent.glob(
            "steps"
        ):  # the notebooks that are run by others, beside them as in the repository
            shutil.copytree(steps, os.path.join(folder, steps.name))
        # Sockets in our own folder: to a port, others on this machine could connect.
        config = Config({"KernelManager": {"transport": "ipc", "ip": os.path.join(folder, "kernel")}})
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=timeout, resources=resources, config=config)
        try:
            client.execute(env=environment)
        except CellExecutionError as error:
            failure = f"{path}: a cell failed: {error.ename}: {error.evalue}"
        finally:
            stop_workers(environment)
    print_cells(notebook)
    if output:
        nbformat.write(notebook, output)
    print(failure or f"{path}: all cells ran, in {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if failure else 0


def surroundings(folder: str) -> dict[str, str]:
    """The environment of the kernel and of the worker that it starts: this interpreter, and `folder` for all files."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NBTASKS_")}
    environment["NBTASKS_QUEUE"] = os.path.join(folder, ".nbtasks")
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        environment[name] = os.path.join(folder, name.lower())
    environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment.get("PATH", os.defpath)
    return environment


def stop_workers(environment: dict[str, str]) -> None:
    """End the worker that the notebook started, before its folder is removed."""
    command = [sys.executable, "-m", "nbtasks", "stop"]
    try:
        stopped = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        print("The worker did not stop within a minute.", file=sys.stderr)
        return
    if stopped.returncode:
        print(f"nbtasks stop: {stopped.stderr.strip()}", file=sys.stderr)


def print_cells(notebook: nbformat.NotebookNode) -> None:
    """Headings of the text, then each executed cell with its outputs as text."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            print(*[f"{line}\n" for line in cell.source.splitlines() if line.startswith("#")], sep="", end="")
        elif cell.cell_type == "code" and cell.execution_count:
            print(f"In [{cell.execution_count}]:")
            print(textwrap.indent(cell.source, "    "))
            for output in cell.outputs:
                print(textwrap.indent(as_text(output), "  | ", lambda _: True))
            print()


def as_text(output: nbformat.NotebookNode) -> str:
    """One output of a cell, for a terminal; colours only where they can be seen."""
    if output.output_type == "stream":
        text = output.text
    elif output.output_type == "error":
        text = "\n".join(output.traceback)
    else:
        pictures = [f"[{kind}]" for kind in output.data if kind.startswith("image/")]
        text = "\n".join([output.data.get("text/plain", ""), *pictures])
    text = text.strip("\n")
    return text if sys.stdout.isatty() else COLOURS.sub("", text)


if __name__ == "__main__":
    sys.exit(main())
