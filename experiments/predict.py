"""The command `python -m experiments.predict`."""

import sys

from experiments.models.predict import main

if __name__ == '__main__':
    sys.exit(main())
