"""``python -m nbtasks``, and the console script ``nbtasks``: the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line that this process was started with; ends the process."""
    if "worker" in sys.argv[1:]:  # which starts this program again: before all is loaded, not after
        from nbtasks import processes

        processes.restart_with_room()
    from nbtasks import cli

    cli.main()


if __name__ == "__main__":
    main()
