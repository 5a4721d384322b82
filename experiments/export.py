"""The command `python -m experiments.export`."""

import sys

from experiments.models.export import main

if __name__ == '__main__':
    sys.exit(main())
