"""The command `python -m experiments.sheets`."""

import sys

from experiments.preprocess.sheets import main

if __name__ == '__main__':
    sys.exit(main())
