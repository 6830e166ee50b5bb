"""How long a person waits for ``spanctl local up``: cold, warm, and with everything up already."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from tests.bench.measure import Figure, Sample

_SPANCTL = (sys.executable, "-m", "spanctl_cli.main", "local")
_COLD_GOAL = 15.0
_WARM_GOAL = 6.0


def figures(rounds: int = 3) -> Iterator[Figure]:
    """Yield the seconds of ``up`` in a new folder, after ``down``, and when all is up."""
    taken: dict[str, list[float]] = {"cold": [], "warm": [], "again": [], "down": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="spanctl-bench-") as home:
            environment = _environment(home)
            try:
                taken["cold"].append(_seconds("up", environment))
                taken["down"].append(_seconds("down", environment))
                taken["warm"].append(_seconds("up", environment))
                taken["again"].append(_seconds("up", environment))
            finally:
                _seconds("down", environment)
    yield _figure("spanctl local up, first time", taken["cold"], _COLD_GOAL)
    yield _figure("spanctl local up, after down", taken["warm"], _WARM_GOAL)
    yield _figure("spanctl local up, everything up", taken["again"], None)
    yield _figure("spanctl local down", taken["down"], None)


def _figure(name: str, values: list[float], goal: float | None) -> Figure:
    return Figure(name=name, unit="s", ours=Sample(tuple(values)), goal=goal)


def _environment(home: str) -> dict[str, str]:
    foreign = ("SPANCTL_", "PREFECT_", "SPANNER_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own = {"SPANCTL_STATE_HOME": f"{home}/state", "SPANCTL_CONFIG_HOME": f"{home}/config"}
    return {**inherited, **own, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _seconds(command: str, environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run((*_SPANCTL, command), env=environment, check=True, capture_output=True)
    return time.perf_counter() - began
