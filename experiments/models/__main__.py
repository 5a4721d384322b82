"""The command `python -m experiments.models`."""

import sys

from experiments.models.command import main

if __name__ == '__main__':
    sys.exit(main())
