"""The command `python -m experiments.figures`."""

import sys

from experiments.report.figures import main

if __name__ == '__main__':
    sys.exit(main())
