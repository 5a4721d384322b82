"""The command `python -m experiments.evaluate`."""

import sys

from experiments.evaluation.command import main

if __name__ == '__main__':
    sys.exit(main())
