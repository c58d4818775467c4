"""``python -m sws_compress`` is the command line."""

from __future__ import annotations

import sys

from sws_compress.cli import main

if __name__ == "__main__":
    sys.exit(main())
