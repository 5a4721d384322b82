"""The command `python -m experiments.claims`."""

import sys

from experiments.claims.command import main
from experiments.claims.parallel import prepare

if __name__ == '__main__':
    prepare()
    sys.exit(main())
