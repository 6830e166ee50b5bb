"""``python -m spanctl.local.engine``: run one flow run, as ``python -m prefect.engine`` does.

The local stack's worker starts it for each of its flow runs. What opens Prefect's API, where a
secret holds it, is read here: the worker leaves it out of the environment that it hands on.
"""

import runpy
import sys
import warnings

from spanctl.errors import SpanctlError
from spanctl.orchestration import compat, keys
from spanctl.settings import resolve

# Here, not in a function: a process pool's child reads this module before it imports Prefect.
compat.keep_folder_out()


def open_api() -> None:
    """Read what opens the API, where a secret holds it, and keep it in this process's memory.

    Raises:
        SystemExit: It could not be read; the message says why.
    """
    try:
        kept = keys.read(resolve())
    except SpanctlError as error:
        sys.exit(f"what opens the Prefect API could not be read: {error.message}; {error.hint}")
    if kept:
        from spanctl.flows import opening

        opening.open_api(kept)


def main() -> None:
    """Run the flow run that Prefect's variables in the environment name, in this process."""
    open_api()
    from spanctl.flows import engines

    engines.label_run()
    engines.end_at_once()
    engines.leave_to_successor()
    # That the engine was imported before it is run is meant so: else each run's log begins with it.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")
    # This module stays the main one: a process pool's child begins with it, not with Prefect.
    runpy.run_module("prefect.engine", run_name="__main__")


if __name__ == "__main__":
    main()
