"""The command `python -m experiments.report`."""

import sys

from experiments.report.page import main

if __name__ == '__main__':
    sys.exit(main())
