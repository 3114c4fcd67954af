"""``python -m deepbabysit`` is the command ``deepbabysit``."""

import sys

from deepbabysit.cli import main

if __name__ == "__main__":
    sys.exit(main())
