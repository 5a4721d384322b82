"""The command `python -m experiments.predict`."""

import sys

from experiments.evaluation.predict import main

if __name__ == '__main__':
    sys.exit(main())
