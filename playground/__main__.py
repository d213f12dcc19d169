"""`python -m playground`: see playground/cli/."""

import sys

if __name__ == "__main__":
    from playground.cli import main

    sys.exit(main(sys.argv[1:]))
