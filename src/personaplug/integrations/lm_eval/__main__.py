"""`python -m personaplug.integrations.lm_eval`: the `lm_eval` command, knowing the model `personaplug`.

lm_eval finds models in its own table only, and has no entry points for those of others. Our tasks are there too, where
no other `--include_path` is given.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from personaplug.core.errors import PersonaplugError
from personaplug.core.registry import missing_extra

TASKS = Path(__file__).parent / "tasks"
"""The folder of the LaMP tasks, for lm_eval's `include_path`."""


def main() -> None:
    """Run lm_eval's command; what a user can cause is one line on stderr and exit code 2."""
    try:
        try:
            command = import_module("lm_eval.__main__")
            import_module("personaplug.integrations.lm_eval.adapter")  # adds itself to the table
        except ModuleNotFoundError as error:
            raise missing_extra("the lm_eval integration", error) from None
        if "--tasks" in sys.argv and "--include_path" not in sys.argv:
            sys.argv += ["--include_path", str(TASKS)]
        command.cli_evaluate()
    except PersonaplugError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
