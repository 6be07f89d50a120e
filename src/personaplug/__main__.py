"""`python -m personaplug` is the `personaplug` command."""

from __future__ import annotations

from personaplug.cli import main

if __name__ == "__main__":
    main()
