"""``python -m tests.bench [NAME...]``: our figures beside the other's, in one run.

Every NAME is a module ``bench_NAME`` of this folder, with a function ``figures()`` that yields
:class:`~tests.bench.measure.Figure`. Exit code 0 says that everything was measured, not that every
goal was met; with ``--check`` a missed goal exits 1.
"""

import argparse
import importlib
import os
import platform
import sys
from pathlib import Path

from tests.bench.measure import HEADER, Figure
from tests.faults.emulator import RAW_CLIENT

FOLDER = Path(__file__).parent


def main() -> int:
    """Run the named benchmarks, or all of them."""
    names = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are: {', '.join(names)}")
    os.environ.update(RAW_CLIENT)
    _say(f"Python {platform.python_version()}, {os.cpu_count()} CPUs")
    _say(HEADER)
    measured: list[Figure] = []
    for name in arguments.names or names:
        for figure in importlib.import_module(f"tests.bench.bench_{name}").figures():
            measured.append(figure)
            _say(figure.line())
    missed = [figure for figure in measured if figure.verdict == "MISSED"]
    goals = sum(1 for figure in measured if figure.goal is not None)
    _say(f"{goals - len(missed)} of {goals} goals met, {len(missed)} missed")
    return 1 if missed and arguments.check else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
