"""``python -m spanctl.local.worker ARGUMENTS``: a Prefect worker started beside its server.

Prefect's worker gives up when its API doesn't answer, and takes over a second to import. This
imports it while the server still starts, waits for the API, and then runs ``prefect ARGUMENTS``.
"""

import os
import runpy
import signal
import sys
import time
from importlib import import_module
from typing import Final

from spanctl.local.probes import api_answers

_WAIT: Final = 120.0
_POLL: Final = 0.05


def main() -> None:
    """Run Prefect's command line once the API answers.

    Raises:
        SystemExit: It didn't within two minutes.
    """
    # A shell that starts spanctl in the background has SIGINT ignored, and the worker stops by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    url = os.environ["PREFECT_API_URL"].rstrip("/")
    for name in ("prefect.cli.worker", "prefect.workers.process", "prefect.cli._worker_utils"):
        import_module(name)
    deadline = time.monotonic() + _WAIT
    while not api_answers(url, os.environ):
        if time.monotonic() > deadline:
            sys.exit(f"the Prefect API at {url} did not answer within {_WAIT:.0f} s")
        time.sleep(_POLL)
    sys.argv = ["prefect", *sys.argv[1:]]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
