"""A cron-like loop: sessions, descriptors, memory and files stay flat.

Each round runs commands and programs as cron would, one after another, and has two that go on for
ever do their work once more. ``SPANCTL_LOOP_MINUTES=60`` makes it an hour; three minutes are the
short form.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.bench.looping import KINDS, Looping
from tests.bench.measure import Figure, Sample
from tests.campaign import ground
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT, Emulator
from tests.fixtures.cli import child_environment
from tests.fixtures.prefect import server

_MINUTES = float(os.environ.get("SPANCTL_LOOP_MINUTES", "3"))
_PART = 10
_LEAST = 2 * _PART
_GOAL = 1.02
_SPANCTL = (sys.executable, "-m", "spanctl_cli.main")
_FLOW = """
from prefect import flow
from spanctl.flows import transaction


@transaction
def add(txn):
    txn.execute_update("UPDATE t SET v = v + 1 WHERE k = 1")


@flow
def nightly():
    add()
"""


def figures() -> Iterator[Figure]:
    """Yield, for all that could grow, the last rounds beside the first."""
    with (
        tempfile.TemporaryDirectory(prefix="spanctl-bench-") as folder,
        server(Path(folder)) as api,
        Emulator(ground.OBLIGING) as emulator,
        ground.ledger(emulator.address) as name,
        contextlib.ExitStack() as stack,
    ):
        os.environ["PREFECT_API_URL"] = api
        home = Path(folder) / "home"
        home.mkdir()
        flow = home / "nightly.py"
        flow.write_text(_FLOW, encoding="utf-8")
        _quiet(emulator.address, name, home, "run", "sql", "-e", "INSERT t (k, v) VALUES (1, 0)")
        going = {kind: stack.enter_context(Looping(kind, emulator.address, name)) for kind in KINDS}
        seen: defaultdict[str, list[float]] = defaultdict(list)
        until = time.monotonic() + 60 * _MINUTES
        while time.monotonic() < until or len(seen["sessions"]) < _LEAST:
            for command in _commands(flow):
                _quiet(emulator.address, name, home, *command)
            for kind, program in going.items():
                for what, value in program.round().items():
                    seen[f"{what} of the {kind} program"].append(value)
            seen["sessions"].append(len(raw.sessions(emulator.address, name)))
            seen["files"].append(sum(1 for _ in home.rglob("*")))
            seen["emulator's descriptors"].append(_entries(f"/proc/{emulator.pid}/fd"))
    for what, values in sorted(seen.items()):
        yield Figure(
            name=f"loop of {len(values)} rounds: {what}",
            unit="MiB" if "memory" in what else "",
            ours=_sample(what, values[-_PART:]),
            theirs=_sample(what, values[:_PART]),
            against="its first rounds",
            goal=_GOAL,
        )


def _entries(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


def _sample(what: str, values: list[float]) -> Sample:
    return Sample(tuple(one / 1024 if "memory" in what else one for one in values))


def _commands(flow: Path) -> list[tuple[str, ...]]:
    return [
        ("run", "sql", "-e", "UPDATE t SET v = v + 1 WHERE k = 1"),
        ("run", f"{flow}:nightly"),
        ("txn", "list"),
        ("runs", "list"),
        ("audit", "list"),
    ]


def _quiet(address: str, name: str, home: Path, *command: str) -> None:
    place = {"PROJECT": PROJECT, "INSTANCE": INSTANCE, "DATABASE": name}
    environment = {f"SPANCTL_{key}": value for key, value in place.items()}
    folders = {"SPANCTL_CONFIG_HOME": str(home), "SPANCTL_STATE_HOME": str(home / "state")}
    kept = {"HOME": str(home), "PREFECT_HOME": str(home / "prefect"), "TMPDIR": str(home)}
    done = subprocess.run(
        [*_SPANCTL, *command],
        env=child_environment({"SPANNER_EMULATOR_HOST": address, **environment, **folders, **kept}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
