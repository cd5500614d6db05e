"""The command line: the only place that prints, parses arguments and exits."""

import sys


def main() -> None:
    """Run the command line and exit: 0 ok, 1 regression or failed self-test, 2 the user's mistake,
    3 a failed cell, 130 interrupted.
    """
    if sys.platform == "win32":
        sys.exit(_refused_on_windows())
    try:
        from swbench.cli.app import start
        from swbench.cli.signals import ignore
        from swbench.cli.streams import hold_everything, open_closed, settle

        open_closed()
        hold_everything()
        code = start(sys.argv[1:])
        ignore()
        settle()
    except KeyboardInterrupt:  # before `start` could listen, or after it
        code = 130
    sys.exit(code)


def _refused_on_windows() -> int:
    """Workers are started, watched and ended by means of Unix; on Windows its Linux has them."""
    print("swbench: it runs on Linux; on Windows install and run it inside WSL", file=sys.stderr)
    return 2
