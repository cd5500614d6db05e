"""`python -m swbench.norms.calibrate`: the name that `swbench.solvers.calibrate` had."""

import sys

from swbench.solvers.calibrate import main

if __name__ == "__main__":
    main(*sys.argv[1:])
