"""Reads that are interrupted at any moment, each followed by one that must not be.

Run as ``python -m tests.faults.interrupted HOST:PORT DATABASE READS``.
"""

import faulthandler
import random
import signal
import sys

from spanctl.resources import DatabaseName
from spanctl.spanner.client import Database, Target
from spanctl.spanner.keysets import KeySet
from tests.faults.emulator import INSTANCE, PROJECT

_SOONEST, _LATEST = 0.0001, 0.004
_HANGS_AFTER = 30


def main(host: str, name: str, reads: int) -> None:
    target = Target(database=DatabaseName(PROJECT, INSTANCE, name), emulator_host=host)
    database = Database(target)

    def read() -> None:
        list(database.read("t", ["a"], KeySet(all_=True), timeout=5))

    read()
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    interrupted = 0
    for _ in range(reads):
        faulthandler.dump_traceback_later(_HANGS_AFTER, exit=True)
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(_SOONEST, _LATEST))  # noqa: S311
            for _ in range(5):  # not for ever: what interrupts a __del__ is lost
                read()
        except (KeyboardInterrupt, RuntimeError):  # the latter when gRPC's lock was no longer held
            interrupted += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        read()
        faulthandler.cancel_dump_traceback_later()
    sys.stdout.write(f"{interrupted} interrupted\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
