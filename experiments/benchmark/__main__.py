"""The command `python -m experiments.benchmark`."""

import sys

from experiments.benchmark.measure import main

if __name__ == '__main__':
    sys.exit(main())
