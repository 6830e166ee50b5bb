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
from typing import Final

from spanctl.local import engine, scheduling
from spanctl.local.probes import api_answers
from spanctl.orchestration.compat import keep_folder_out

_WAIT: Final = 120.0
_POLL: Final = 0.05
_ALLOCATIONS: Final = 50_000  # between two collections; Python's 700 cost a tenth of the start
_IMPORTED: Final = ("prefect.cli.worker", "prefect.workers.process", "prefect.cli._worker_utils")


def main() -> None:
    """Run Prefect's command line with the arguments of this process.

    Raises:
        SystemExit: It is a worker, and the API did not answer within two minutes, or what opens it
            is in a secret that could not be read.
    """
    keep_folder_out()
    gc.set_threshold(_ALLOCATIONS, 10, 10)
    # A shell that starts spanctl in the background has SIGINT ignored, and a worker stops by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[1] == "worker":
        is_secret = engine.open_api()
        _wait_for_api()
        _start_our_engine(is_secret=is_secret)
    else:
        scheduling.let_in()
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


def _start_our_engine(*, is_secret: bool) -> None:
    """Have each flow run be one process, of ours, that reads itself what opens the API."""
    from spanctl.flows import engines, opening

    engines.start_with(engine.__name__)
    engines.label_claimed()
    if is_secret:
        opening.keep_out_of_environments()


def _wait_for_api() -> None:
    for name in _IMPORTED:
        import_module(name)
    url = os.environ["PREFECT_API_URL"].rstrip("/")
    deadline = time.monotonic() + _WAIT
    while not api_answers(url, os.environ):
        if time.monotonic() > deadline:
            sys.exit(f"the Prefect API at {url} did not answer within {_WAIT:.0f} s")
        time.sleep(_POLL)


if __name__ == "__main__":
    main()
