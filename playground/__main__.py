"""`python -m playground`: see playground/cli/."""

import sys

if __name__ == "__main__":
    try:
        from playground.cli import main

        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # while the libraries load
        sys.stderr.write("interrupted\n")
        sys.exit(130)
