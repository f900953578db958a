"""`python -m training.lab`, for machines that have torch and numpy and nothing of the node's."""

import sys

from training.lab import main

if __name__ == "__main__":
    sys.exit(main())
