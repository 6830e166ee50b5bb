"""One import in a process of its own: ``python -m tests.bench.import_once FILE TABLE``.

Prints JSON: rows, seconds of the flow's function and of the whole flow run, and the process's
highest resident memory in MiB. The database is named by the environment, as for every flow.
"""

import json
import resource
import sys
import time

from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from spanctl.flows.importing import import_file
from spanctl.spanner import catalog, run

_LOADED = (catalog, run)  # the flow imports them late; that is start-up, not throughput


def main() -> None:
    """Import and tell."""
    path, table = sys.argv[1:]
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):  # as spanctl run does
        began = time.perf_counter()
        result = import_file(path, table)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {
        "rows": result.written,
        "seconds": result.seconds,
        "run_seconds": seconds,
        "peak_mib": peak,
    }
    sys.stdout.write(f"{json.dumps(told)}\n")


if __name__ == "__main__":
    main()
