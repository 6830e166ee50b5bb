"""``python -m spanctl.local.launch server|worker ...``: run ``prefect server|worker ...`` sooner.

Prefect's worker gives up when its API doesn't answer, and takes over a second to import. Here it is
imported while the server still starts, and runs once the API answers.
"""

import gc
import os
import runpy
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Final

from spanctl.errors import SpanctlError
from spanctl.local import engine, scheduling
from spanctl.local.probes import api_answers
from spanctl.local.processes import MARK
from spanctl.local.state import Folder
from spanctl.orchestration import keys
from spanctl.orchestration.settings import api_settings

_WAIT: Final = 120.0
_POLL: Final = 0.05
_ALLOCATIONS: Final = 50_000  # between two collections; Python's 700 cost a tenth of the start
_IMPORTED: Final = ("prefect.cli.worker", "prefect.workers.process", "prefect.cli._worker_utils")


def main() -> None:
    """Run Prefect's command line with the arguments of this process.

    Raises:
        SystemExit: It is a worker, and the API did not answer within two minutes, or what opens it
            could not be read; or it is the server, and what is to open it could not be read.
    """
    gc.set_threshold(_ALLOCATIONS, 10, 10)
    # A shell that starts spanctl in the background has SIGINT ignored, and a worker stops by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[1] == "worker":
        engine.open_api()
        _wait_for_api()
        _start_our_engine()
    else:
        scheduling.let_in()
        _close_server()
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__")


def _start_our_engine() -> None:
    """Have each flow run be one process, of ours, that reads itself what opens the API."""
    from spanctl.flows import engines

    engines.start_with(engine.__name__)
    engines.label_claimed()
    engines.report_once()


def _close_server() -> None:
    """Have the stack's own server open to its owner only."""
    from spanctl.local import guard

    try:
        guard.close(keys.read_file(Folder(Path(os.environ[MARK])).auth))
    except SpanctlError as error:
        sys.exit(f"{error.message}; {error.hint}")


def _wait_for_api() -> None:
    for name in _IMPORTED:
        import_module(name)
    api = api_settings(os.environ["PREFECT_API_URL"])
    deadline = time.monotonic() + _WAIT
    while api and not api_answers(api):
        if time.monotonic() > deadline:
            sys.exit(f"the Prefect API at {api.url} did not answer within {_WAIT:.0f} s")
        time.sleep(_POLL)


if __name__ == "__main__":
    main()
