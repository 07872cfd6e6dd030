"""``python -m nbtasks``: the command line."""

from nbtasks.cli import main

main()
