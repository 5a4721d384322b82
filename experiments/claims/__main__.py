"""The command `python -m experiments.claims`."""

import sys

from experiments.claims.command import main

if __name__ == '__main__':
    sys.exit(main())
