"""A transaction that ends badly: ``python -m tests.bench.dying HOST:PORT DATABASE WAY``.

It says ``open`` once its statement holds locks; then, as WAY says, it waits to be killed or to be
interrupted, or its body raises.
"""

import signal
import sys
import time

from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from spanctl_cli import signals
from tests.faults import raw

_LONG = 60


class OwnError(Exception):
    """The body's."""


def main(address: str, name: str, way: str) -> None:
    """Open a transaction, and come to an end."""

    def body(txn: object) -> None:
        txn.execute_update("UPDATE t SET v = v + 1 WHERE k = 1")  # type: ignore[attr-defined]
        sys.stdout.write("open\n")
        sys.stdout.flush()
        if way == "raise":
            raise OwnError
        time.sleep(_LONG)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals.arm()
    with Database(raw.target(address, name)) as database:
        Run(database, f"dying-{time.time_ns()}").step("one", body)


if __name__ == "__main__":
    main(*sys.argv[1:])
