"""``nbtasks key``: the key that signs tasks, carried to where an engine runs them."""

from __future__ import annotations

import click

from nbtasks import keys


@click.group()
def key() -> None:
    """Carry the key that signs your tasks to another machine.

    Whoever has it can run code as you: copy it by scp or the like, and remove the copy afterwards.
    """


@key.command("export")
@click.argument("file", type=click.Path())
def export(file: str) -> int:
    """Write a copy of the key to FILE, readable by you alone."""
    keys.export_key(file)
    print(f"{file} has the key: bring it to the other machine, run `nbtasks key import {file}` there, and remove it")
    return 0


@key.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--replace", is_flag=True, help="Set another key aside that is here.")
def import_(file: str, replace: bool) -> int:
    """Make the key in FILE yours on this machine."""
    print(f"the key is at {keys.import_key(file, replace=replace)}")
    return 0
