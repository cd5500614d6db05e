"""The command line of swbench, from a checkout: `python bench.py SUITE`."""

from swbench.cli import main

if __name__ == "__main__":
    main()
