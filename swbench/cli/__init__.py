"""The command line: the only place that prints, parses arguments and exits."""

import sys


def main() -> None:
    """Run the command line and exit: 0 ok, 1 regression or failed self-test, 2 the user's mistake, 3 a failed cell, 130 interrupted."""
    from swbench.cli.app import start

    sys.exit(start(sys.argv[1:]))
