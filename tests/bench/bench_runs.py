"""How long looking at runs and running a deployment take, beside Prefect's own command line.

Lists ask the same server, with the same 60 flow runs. A deployment's run is that of an empty flow:
ours on the worker of ``spanctl local up``, watched by ``spanctl run``; theirs on a worker as
``prefect worker start`` makes it, watched by ``prefect deployment run --watch``.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spanctl.orchestration.connections import basic
from tests.bench.measure import Figure, Sample, interleaved
from tests.fixtures.prefect import server

_SPANCTL = (sys.executable, "-c", "from spanctl_cli.main import main; main()")
_PREFECT = (sys.executable, "-m", "prefect")
_RUNS = 60
_ROUNDS = 10
_DEPLOYED = 3
_READY_WITHIN = 90.0
_FLOW = "from prefect import flow\n\n\n@flow\ndef nothing() -> None:\n    pass\n"


def figures() -> Iterator[Figure]:
    """Yield the list of runs, then a deployment's run from the command to its final state."""
    with (
        tempfile.TemporaryDirectory(prefix="spanctl-bench-") as folder,
        server(Path(folder)) as api,
    ):
        environment = {**_environment(folder), "PREFECT_API_URL": api}
        _make_runs(api)
        commands = ((*_SPANCTL, "runs", "list"), (*_PREFECT, "flow-run", "ls", "--limit", "50"))
        sides = [lambda command=command: _quiet(command, environment) for command in commands]
        ours, theirs = interleaved(sides, rounds=_ROUNDS, warm_up=2)
        yield Figure(
            name="spanctl runs list",
            unit="ms",
            ours=ours,
            theirs=theirs,
            against="prefect flow-run ls",
            goal=0.2,
        )
    yield _deployment()


def _deployment() -> Figure:
    with tempfile.TemporaryDirectory(prefix="spanctl-bench-") as folder:
        environment = _environment(folder)
        try:
            _quiet((*_SPANCTL, "local", "up"), environment)
            told = _told((*_SPANCTL, "context", "show", "-o", "json"), environment)
            values = {one["name"]: one["value"] for one in told["settings"]}
            environment["PREFECT_API_URL"] = api = values["prefect_api_url"]
            file = Path(values["prefect_auth_string"].removeprefix("file:"))
            environment["PREFECT_API_AUTH_STRING"] = auth = file.read_text(encoding="utf-8")
            _deploy(api, auth, folder, "local", "local")
            _deploy(api, auth, folder, "theirs", "theirs")
            command = (*_PREFECT, "worker", "start", "--pool", "theirs", "--type", "process")
            with _process(command, environment):
                _await_worker(api, auth, "theirs")
                ours = (*_SPANCTL, "run", "nothing/local")
                theirs = (*_PREFECT, "deployment", "run", "nothing/theirs", "--watch")
                sides = [lambda one=one: _quiet(one, environment) for one in (ours, theirs)]
                left, right = interleaved(sides, rounds=_DEPLOYED, warm_up=1)
        finally:
            _quiet((*_SPANCTL, "local", "down"), environment)
    return Figure(
        name="a deployment's run, watched to its end",
        unit="s",
        ours=_seconds(left),
        theirs=_seconds(right),
        against="prefect deployment run --watch",
        goal=0.333,
    )


def _seconds(sample: Sample) -> Sample:
    return Sample(tuple(value / 1000 for value in sample.values))


def _environment(home: str) -> dict[str, str]:
    foreign = ("SPANCTL_", "PREFECT_", "SPANNER_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own = {
        "SPANCTL_STATE_HOME": f"{home}/state",
        "SPANCTL_CONFIG_HOME": f"{home}/config",
        "PREFECT_HOME": f"{home}/client",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    return {**inherited, **own, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _make_runs(api: str) -> None:
    flow = _post(f"{api}/flows/", {"name": "nothing"})["id"]
    for _ in range(_RUNS):
        _post(f"{api}/flow_runs/", {"flow_id": flow, "state": {"type": "COMPLETED"}})


def _deploy(api: str, auth: str, folder: str, name: str, pool: str) -> None:
    (Path(folder) / "nothing.py").write_text(_FLOW, encoding="utf-8")
    with contextlib.suppress(urllib.error.HTTPError):  # the pool is there
        _post(f"{api}/work_pools/", {"name": pool, "type": "process"}, auth)
    body = {
        "flow_id": _post(f"{api}/flows/", {"name": "nothing"}, auth)["id"],
        "name": name,
        "work_pool_name": pool,
        "path": folder,
        "entrypoint": "nothing.py:nothing",
    }
    _post(f"{api}/deployments/", body, auth)


def _await_worker(api: str, auth: str, pool: str) -> None:
    deadline = time.monotonic() + _READY_WITHIN
    while not _post(f"{api}/work_pools/{pool}/workers/filter", {}, auth):
        if time.monotonic() > deadline:
            msg = "Prefect's worker did not start"
            raise TimeoutError(msg)
        time.sleep(0.1)


def _post(url: str, body: Mapping[str, Any], auth: str = "") -> Any:
    headers = {"Content-Type": "application/json", "Authorization": basic(auth)}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - loopback
    deadline = time.monotonic() + _READY_WITHIN
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
                return json.load(answer)
        except urllib.error.HTTPError as error:
            # SQLite's one writer was busy; nothing was done.
            if error.code != 503 or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@contextlib.contextmanager
def _process(command: tuple[str, ...], environment: Mapping[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _told(command: tuple[str, ...], environment: Mapping[str, str]) -> Any:
    done = subprocess.run(command, check=True, env=environment, capture_output=True)
    return json.loads(done.stdout)


def _quiet(command: tuple[str, ...], environment: Mapping[str, str]) -> None:
    subprocess.run(command, check=True, env=environment, capture_output=True)
