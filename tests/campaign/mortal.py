"""Everything of a deployment that can die: a Prefect server, workers, engines, recoverers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from spanctl.invocation import RECOVER_TAG
from tests.campaign import dying, engines
from tests.faults.emulator import INSTANCE, PROJECT, free_port
from tests.fixtures import prefect

BOUND: Final = 5.0
POOL: Final = "mortal"
PLACES: Final[Mapping[str, Sequence[str]]] = {
    "here": (),
    "other pid namespace": ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
    "other host": ("unshare", "--uts", "sh", "-c", 'hostname web-7; exec "$@"', "sh"),
}
"""Where engines run, and what starts them there."""
_FLOWS: Final = ("pay", "pay_again")
_ROOT: Final = Path(__file__).parents[2]
_PATIENCE: Final = 120.0
_CLIENT: Final = Path(engines.__file__)
_DAWDLER: Final = """
import asyncio, sys
from prefect.workers.process import ProcessWorker
async def dawdle(self, run):
    await asyncio.sleep(600)
ProcessWorker._propose_submitting_state = dawdle
from spanctl.local.launch import main
main()
"""
"""A worker that claims runs and comes no further."""


class LateError(Exception):
    """Something did not happen in time."""


def until(what: str, condition: Callable[[], Any], within: float = _PATIENCE) -> None:
    """Wait for something.

    Raises:
        LateError: It did not happen.
    """
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            raise LateError(what)
        time.sleep(0.3)


def descendants(pid: int) -> list[int]:
    """Return the processes that one has started, as far as they are its children still."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        mine = children.get(left.pop(), [])
        found += mine
        left += mine
    return found


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes, of which some may be gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@dataclass(slots=True)
class World:
    """What is there besides Spanner.

    Attributes:
        address: Where Spanner is.
        name: The database.
        folder: For files.
        port: The server's.
        places: Where engines run, and what starts them there.
    """

    address: str
    name: str
    folder: Path
    places: Mapping[str, Sequence[str]] = field(default_factory=lambda: PLACES)
    port: int = field(default_factory=free_port)
    parts: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    deployments: dict[tuple[str, str], str] = field(default_factory=dict)
    _api: httpx.Client | None = None

    @property
    def url(self) -> str:
        """Prefect's API."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environ(self) -> dict[str, str]:
        """The environment of all parts: the context is in it."""
        return {
            **os.environ,
            "HOME": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "cli")]),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            "SPANCTL_CONFIG_HOME": str(self.folder / "config"),
            "SPANCTL_STATE_HOME": str(self.folder / "state"),
            "SPANCTL_PROJECT": PROJECT,
            "SPANCTL_INSTANCE": INSTANCE,
            "SPANCTL_DATABASE": self.name,
            "SPANNER_EMULATOR_HOST": self.address,
            "SPANCTL_HEARTBEAT_INTERVAL": "1s",
            "SPANCTL_PRESUMED_DEAD_AFTER": f"{BOUND:.0f}s",
        }

    # -- parts

    def start(self, part: str, command: Sequence[str], **more: str) -> int:
        """Start a part in a session of its own, and return its process."""
        self.kill(part)
        with (self.folder / f"{part}.log").open("ab") as log:
            self.parts[part] = subprocess.Popen(
                command,
                env={**self.environ, **more},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.parts[part].pid

    def kill(self, part: str, by: int = signal.SIGKILL) -> None:
        """End a part and all that it has started; nothing where there is none."""
        process = self.parts.pop(part, None)
        if process is None:
            return
        started = descendants(process.pid)
        send([process.pid], by)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        send(started, signal.SIGKILL)

    def close(self) -> None:
        """End all."""
        send((pid for one in self.parts.values() for pid in descendants(one.pid)), signal.SIGCONT)
        for part in list(self.parts):
            self.kill(part)
        if self._api is not None:
            self._api.close()

    def serve(self) -> None:
        """Start the server, or start it again: what it knows is in its file."""
        serve = [sys.executable, "-m", "prefect", "server", "start"]
        off = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in prefect._NEEDLESS}  # noqa: SLF001
        where = ["--host", "127.0.0.1", "--port", str(self.port)]
        self.start("server", [*serve, *where], PREFECT_SERVER_UI_ENABLED="false", **off)
        until("the server answers", self._answers)

    def _answers(self) -> bool:
        try:
            return self.api.get("/health").is_success
        except httpx.HTTPError:
            return False

    def work(self, *, dawdles: bool = False) -> None:
        """Start the worker."""
        how = ["-c", _DAWDLER] if dawdles else ["-m", "spanctl.local.launch"]
        which = ["--pool", POOL, "--type", "process", "--name", "worker"]
        self.start("worker", [sys.executable, *how, "worker", "start", *which])

    def recover(self, number: int = 0) -> None:
        """Start a recoverer that looks for ever, if it doesn't run."""
        if f"recoverer-{number}" in self.parts:
            return
        watch = ("runs", "recover", "--all", "--watch", "--max-attempts", "9", "-o", "jsonl")
        self.start(f"recoverer-{number}", [sys.executable, "-m", "spanctl_cli.entry", *watch])

    def keep_recoverers(self, number: int) -> None:
        """End all recoverers but so many, in order."""
        for part in list(self.parts):
            if part.startswith("recoverer-") and int(part.removeprefix("recoverer-")) >= number:
                self.kill(part, signal.SIGINT)

    def at(self, place: str) -> None:
        """Have engines forked at a place, if none are yet."""
        if place in self.places:
            self.fork_engines(place)
            until("engines are forked", self.socket(place).exists)

    def fork_engines(self, place: str) -> None:
        """Start what forks the engines of a place, if it isn't there."""
        if place in self.parts:
            return
        path = str(self.socket(place))
        command = [*self.places[place], sys.executable, "-m", "tests.campaign.engines", path]
        self.start(place, command)

    def hold(self, place: str) -> None:
        """Have no engine begin at a place, whatever its worker starts."""
        Path(f"{self.socket(place)}{engines.HOLD}").touch()

    def release(self, place: str) -> None:
        """Have engines begin there again."""
        Path(f"{self.socket(place)}{engines.HOLD}").unlink(missing_ok=True)

    def run_file(self, part: str, flow: str, plan: Mapping[str, Any]) -> None:
        """Run a flow of a file in a process of its own."""
        target = f"{Path(dying.__file__)}:{flow}"
        words = ("run", "--recover", target, "-p", f"plan={json.dumps(plan)}")
        self.start(part, [sys.executable, "-m", "spanctl_cli.entry", *words])

    def socket(self, place: str) -> Path:
        """Where a place's engines are asked for."""
        return self.folder / f"{place.replace(' ', '-')}.sock"

    def engines(self, place: str) -> list[int]:
        """Return the engines that run at a place, by their numbers here."""
        forker = self.parts[place].pid
        if self.places[place][1:2] == ("--pid",):
            (forker, *_) = descendants(forker)
        return descendants(forker)

    def cli(self, *words: str) -> "subprocess.CompletedProcess[bytes]":
        """Run a command of ours to its end."""
        command = [sys.executable, "-m", "spanctl_cli.entry", *words]
        return subprocess.run(
            command, env=self.environ, cwd=self.folder, capture_output=True, check=False
        )

    # -- Prefect

    @property
    def api(self) -> httpx.Client:
        """A client of the server."""
        if self._api is None:
            self._api = httpx.Client(base_url=self.url, timeout=30)
        return self._api

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask Prefect, again while it is busy or away."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                answer = self.api.request(method, path, json=body)
                if answer.status_code < 500:
                    answer.raise_for_status()
                    return answer.json() if answer.content else None
            except httpx.TransportError:
                pass
            if time.monotonic() > end:
                raise LateError(path)
            time.sleep(0.3)

    def deploy(self) -> None:
        """Make the work pool, and a deployment of each flow at each place."""
        from prefect.workers.process import ProcessWorker

        template = ProcessWorker.get_default_base_job_template()
        pool = {"name": POOL, "type": "process", "base_job_template": template}
        self.ask("POST", "/work_pools/", pool)
        for flow in _FLOWS:
            made = self.ask("POST", "/flows/", {"name": flow.replace("_", "-")})
            for place in self.places:
                command = [sys.executable, "-S", "-E", str(_CLIENT), str(self.socket(place))]
                body = {
                    "flow_id": made["id"],
                    "name": place,
                    "work_pool_name": POOL,
                    "entrypoint": f"tests.campaign.dying.{flow}",
                    "job_variables": {"command": " ".join(command)},
                    "enforce_parameter_schema": False,
                }
                found = self.ask("POST", "/deployments/", body)
                self.deployments[flow, place] = found["id"]

    def run(self, flow: str, place: str, plan: Mapping[str, Any]) -> str:
        """Ask for a run that is to be recovered, and return its id."""
        body = {"parameters": {"plan": plan}, "tags": [RECOVER_TAG]}
        which = self.deployments[flow, place]
        return str(self.ask("POST", f"/deployments/{which}/create_flow_run", body)["id"])

    def runs(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return flow runs, by id."""
        wanted = {"flow_runs": {"id": {"any_": list(ids)}}}
        return {one["id"]: one for one in self.ask("POST", "/flow_runs/filter", wanted)}

    def states(self, run: str) -> list[dict[str, Any]]:
        """Return the states of a flow run, the first first."""
        found = self.ask("GET", f"/flow_run_states/?flow_run_id={run}")
        return sorted(found, key=lambda one: one["timestamp"])

    def are_in(self, ids: Sequence[str], names: Sequence[str], within: float = _PATIENCE) -> bool:
        """Wait until runs are in states of these names; False where they didn't come to it."""

        def there() -> bool:
            return all(one["state_name"] in names for one in self.runs(ids).values())

        try:
            until("states", there, within)
        except LateError:
            return False
        return True


@contextlib.contextmanager
def opened(
    address: str, name: str, folder: Path, places: Mapping[str, Sequence[str]] = PLACES
) -> Iterator[World]:
    """Start a server and a worker."""
    world = World(address, name, folder, places)
    with contextlib.ExitStack() as around:
        around.callback(world.close)
        (folder / "prefect").mkdir(exist_ok=True)
        world.fork_engines("here")
        world.serve()
        world.deploy()
        world.work()
        yield world
