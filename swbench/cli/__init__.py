"""The command line: the only package that prints, parses arguments and exits."""

import sys


def main() -> None:
    """Run the command line and exit: 0 ok, 1 regression or failed self-test, 2 the user's mistake,
    3 a failed cell, 130 interrupted.
    """
    if sys.platform == "win32":
        sys.exit(_refused_on_windows())
    try:
        from swbench.cli.app import start
        from swbench.cli.signals import ignore_signals
        from swbench.cli.streams import flush_stderr, install_stand_ins, open_missing_streams

        open_missing_streams()
        install_stand_ins()
        code = start(sys.argv[1:])
        ignore_signals()
        flush_stderr()
    except KeyboardInterrupt:  # before `start` could listen, or after it
        code = 130
    sys.exit(code)


def _refused_on_windows() -> int:
    """Workers need Unix system calls, which Windows has inside WSL. Returns the exit code."""
    print("swbench: it needs Linux; on Windows install and run it inside WSL", file=sys.stderr)
    return 2
