"""`python -m swbench.norms.calibrate`: the former name of `swbench.solvers.calibrate`."""

import sys

from swbench.solvers.calibrate import main

if __name__ == "__main__":
    main(*sys.argv[1:])
