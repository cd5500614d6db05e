"""The command line: `python -m swbench SUITE`."""

from swbench.cli import main

if __name__ == "__main__":
    main()
