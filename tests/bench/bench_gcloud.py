"""Help and the trail of a transaction, beside what gcloud takes for its help and for one query.

gcloud reaches the same emulator, through the REST gateway that comes with it. Nothing is measured
where gcloud is not installed.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from spanctl.ledger.receipt import Provenance
from spanctl.spanner import schema
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.bench.measure import Figure, interleaved
from tests.faults import emulator, raw
from tests.faults.emulator import INSTANCE, PROJECT, free_port

_SPANCTL = (sys.executable, "-c", "from spanctl_cli.main import main; main()")
_DDL = "CREATE TABLE t (k INT64 NOT NULL, v INT64) PRIMARY KEY (k)"
_ROUNDS = 10
_READY_WITHIN = 30.0


def figures() -> Iterator[Figure]:
    """Yield our help against gcloud's, then a whole trail against a single query."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return
    with (
        tempfile.TemporaryDirectory(prefix="spanctl-bench-") as home,
        _served() as (address, rest),
    ):
        environment = _environment(home, address, rest)
        ours, theirs = interleaved(
            [
                lambda: _quiet((*_SPANCTL, "--help"), environment),
                lambda: _quiet((gcloud, "--help"), environment),
            ],
            rounds=_ROUNDS,
            warm_up=2,
        )
        yield Figure(
            name="spanctl --help, against gcloud --help",
            unit="ms",
            ours=ours,
            theirs=theirs,
            against="gcloud --help",
            goal=round(1 / 5.5, 3),
        )
        yield _trail(gcloud, address, environment)


def _trail(gcloud: str, address: str, environment: Mapping[str, str]) -> Figure:
    name = raw.create_database(address, [_DDL])
    with Database(raw.target(address, name)) as database:
        schema.install(database, ["t"])
        run = Run(database, "bench", provenance=Provenance(flow="bench", reason="bench"))
        made = run.step("one", lambda txn: txn.insert("t", ("k", "v"), [(n, n) for n in range(10)]))
    query = ("spanner", "databases", "execute-sql", name, f"--instance={INSTANCE}")
    commands = (
        (*_SPANCTL, "audit", made.txn_id),
        (gcloud, *query, "--sql=SELECT * FROM t"),
    )
    known = {**environment, "SPANCTL_DATABASE": name}
    sides = [lambda command=command: _quiet(command, known) for command in commands]
    ours, theirs = interleaved(sides, rounds=_ROUNDS, warm_up=2)
    return Figure(
        name="spanctl audit ID, rows before and after",
        unit="ms",
        ours=ours,
        theirs=theirs,
        against="gcloud spanner databases execute-sql",
        goal=1.5,
    )


@contextlib.contextmanager
def _served() -> Iterator[tuple[str, str]]:
    """Start the emulator behind its REST gateway; yield the addresses for gRPC and for REST."""
    program = emulator.binary()
    if program is None:
        msg = "the Spanner emulator is not installed"
        raise FileNotFoundError(msg)
    grpc, http = free_port(), free_port()
    command = [str(program.with_name("gateway_main")), "--hostname", "127.0.0.1"]
    command += ["--grpc_binary", str(program), "--grpc_port", str(grpc), "--http_port", str(http)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    rest = f"http://127.0.0.1:{http}/"
    try:
        _await(f"{rest}v1/projects/{PROJECT}/instanceConfigs", process)
        yield f"127.0.0.1:{grpc}", rest
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it would leave the emulator behind
        process.wait()


def _await(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _READY_WITHIN
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - http on loopback
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _environment(home: str, address: str, rest: str) -> dict[str, str]:
    foreign = ("SPANCTL_", "PREFECT_", "SPANNER_", "CLOUDSDK_", "PYTHON")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    ours = {
        "SPANCTL_CONFIG_HOME": home,
        "SPANCTL_STATE_HOME": home,
        "SPANCTL_PROJECT": PROJECT,
        "SPANCTL_INSTANCE": INSTANCE,
        "SPANNER_EMULATOR_HOST": address,
    }
    theirs = {
        "CLOUDSDK_CONFIG": str(Path(home) / "gcloud"),
        "CLOUDSDK_CORE_PROJECT": PROJECT,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "true",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_SPANNER": rest,
    }
    return {**inherited, **ours, **theirs}


def _quiet(command: tuple[str, ...], environment: Mapping[str, str]) -> None:
    subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
