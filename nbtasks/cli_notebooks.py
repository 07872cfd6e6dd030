"""The verbs about notebooks: ``nbtasks refresh`` and ``enable``."""

from __future__ import annotations

import sys

import click

from nbtasks import cli_show
from nbtasks.jupyter import enable as startup
from nbtasks.jupyter import saved

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.command()
@click.argument("notebooks", nargs=-1, required=True, metavar="NOTEBOOK...", type=click.Path())
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when there is something to write.")
@_json
def refresh(notebooks: tuple[str, ...], check: bool, as_json: bool) -> int:
    """Write final cards into saved notebooks.

    For notebooks that were saved or closed while their tasks ran. Cards of ended tasks show how they ended, strips
    that can never live again are removed, and nothing else is changed. Fit for a pre-commit hook.
    """
    done, errors = saved.refresh_all(notebooks, write=not check)
    if as_json:
        cli_show.print_json([one.as_json() for one in done])
    else:
        for one in done:
            print(saved.said(one, check=check))
    for error in errors:
        print(f"nbtasks: {error}", file=sys.stderr)
    return 2 if errors else int(check and any(one.changed for one in done))


@click.command()
@click.option("--off", is_flag=True, help="Take it back.")
@click.option("--profile", default="default", show_default=True, help="The profile of IPython.")
def enable(off: bool, profile: str) -> int:
    """Load nbtasks in every kernel that starts.

    So that `%%background` is there without `%load_ext nbtasks`, and a notebook that is opened again finds its tasks.
    """
    path = startup.startup_file(profile)
    if not off:
        print(f"kernels and IPython load nbtasks from now on, by {startup.enable(profile)}")
        print("a kernel that runs already: %load_ext nbtasks, or restart it; to take this back: nbtasks enable --off")
    elif startup.disable(profile):
        print(f"kernels do not load nbtasks by themselves any more: {path} was removed")
    else:
        print(f"it was not enabled: there is no {path}")
    return 0
