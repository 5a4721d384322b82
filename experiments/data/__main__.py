"""The command `python -m experiments.data`."""

import sys

from experiments.data.commands import main

if __name__ == '__main__':
    sys.exit(main())
