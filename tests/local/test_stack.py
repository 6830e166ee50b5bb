"""The stack with real processes: whatever dies, status tells the truth and up mends it."""

import json
import os
import signal
import ssl
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.oauth2.credentials import Credentials

from spanctl.local import parts
from spanctl.local.processes import identity, marked
from spanctl.local.results import PartEvent, PartState, Phase
from spanctl.local.stack import Stack
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.transport import Transport
from spanctl.settings import Contexts, resolve
from tests.local.conftest import api_of, opened
from tests.local.identity import StandIns

Pids = Callable[[Stack], dict[str, int | None]]

pytestmark = [pytest.mark.emulator, pytest.mark.prefect]


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: identity(pid) is None)


def states(stack: Stack) -> dict[str, PartState]:
    return {part.name: part.state for part in stack.status().parts}


def secret_manager(stack: Stack) -> SecretManagerServiceClient:
    """Return Google's client of the stack's Secret Manager, as the local user."""
    served = StandIns(stack.folder.identity)
    served.ports.update({door: stack.folder.load().ports[door] for door in parts.DOORS})
    credentials = Credentials(served.user_token())
    return served.secret_manager(credentials)


def freeze(pid: int) -> None:
    """Stop a process, and return when each of its threads has: until then one may still answer."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")
    until(lambda: all(_state_of(one) == "T" for one in threads.iterdir()))


def _state_of(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


def test_up_starts_everything_on_loopback(stack: Stack) -> None:
    """Every part runs, has a log, and listens on loopback only."""
    status = stack.status()
    assert set(states(stack).values()) == {PartState.RUNNING}
    for part in status.parts:
        assert part.log is not None
        assert part.log.exists()
        assert part.log.stat().st_mode & 0o777 == 0o600
    assert status.endpoints is not None
    listening = stack.folder.load().ports
    assert set(listening) == {"emulator", "server", "iam", "secretmanager", "gateway"}
    tables = [Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    for port in listening.values():
        (at,) = {row[1] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
        assert at.partition(":")[0].endswith("0100007F"), "127.0.0.1, and no other address"


def test_prefect_s_pages_find_their_api(stack: Stack) -> None:
    """The pages ask the API on the port that the stack chose, not on Prefect's default one."""
    endpoints = stack.status().endpoints
    assert endpoints is not None
    pages = endpoints.prefect_api_url.removesuffix("/api")
    with urllib.request.urlopen(f"{pages}/ui-settings", timeout=10) as reply:  # noqa: S310 - http on loopback
        assert json.load(reply)["api_url"] == endpoints.prefect_api_url


def test_the_context_local_is_used_by_default(stack: Stack, environ: dict[str, str]) -> None:
    """Without a word of configuration, commands work on the stack's database."""
    settings = resolve(environ=environ)
    endpoints = stack.status().endpoints
    assert endpoints is not None
    assert settings.context == "local"
    assert str(settings.database) == "projects/spanctl-local/instances/local/databases/main"
    ports = stack.folder.load().ports
    assert settings.get("emulator_host") is None
    assert settings.get("spanner_endpoint") == f"127.0.0.1:{ports['gateway']}"
    runner = "runner@spanctl-local.iam.gserviceaccount.com"
    assert settings.get("credentials") == f"impersonate:{runner}"
    assert settings.get("prefect_api_url") == endpoints.prefect_api_url
    assert settings.get("work_pool") == "local"


def test_up_twice_changes_nothing(stack: Stack, pids: Pids) -> None:
    """Healthy parts are kept as they are, and so is the database."""
    before, ledger = pids(stack), stack.folder.load().ledger_id
    events: list[PartEvent] = []
    result = stack.up(events.append)
    assert result.is_up
    assert result.notes == ()
    assert pids(stack) == before
    assert stack.folder.load().ledger_id == ledger
    kept = {event.part for event in events if event.phase is Phase.KEPT}
    assert kept == {"emulator", "identity", "server", "worker"}


def test_its_server_runs_schedules(stack: Stack) -> None:
    """Prefect's own scheduler takes what is due: runs of a deployment are there."""
    with PrefectApi(api_of(stack)) as api:
        made = api.deploy(
            "nothing",
            "hourly",
            entrypoint="none.py:nothing",
            work_pool="local",
            schedule={"interval": 3600},
            parameters={},
            schema={},
        )
        wanted = {"deployments": {"id": {"any_": [made.id]}}}
        deadline = time.monotonic() + 60
        while not list(api.matching("flow_runs", wanted, limit=1)):
            assert time.monotonic() < deadline, "no run was scheduled"
            time.sleep(0.2)
        api.delete_deployment(made)


def test_a_dead_emulator_is_seen_and_replaced_by_an_empty_one(stack: Stack, pids: Pids) -> None:
    """Another ledger on the same port, said in so many words; the others aren't touched."""
    before, ledger = pids(stack), stack.folder.load().ledger_id
    endpoints = stack.status().endpoints
    kill(before["emulator"])
    assert states(stack)["emulator"] is PartState.CRASHED
    assert not stack.status().is_up
    result = stack.up()
    assert result.is_up
    assert any("data is gone" in note for note in result.notes)
    assert stack.folder.load().ledger_id not in {None, ledger}
    assert result.endpoints == endpoints
    after = pids(stack)
    assert (after["server"], after["worker"]) == (before["server"], before["worker"])
    assert stack.up().notes == ()


def test_a_dead_server_is_seen_and_mended_on_its_port(stack: Stack, pids: Pids) -> None:
    """PREFECT_API_URL stays what it was, the database and its ledger too."""
    before, ledger = pids(stack), stack.folder.load().ledger_id
    endpoints = stack.status().endpoints
    kill(before["server"])
    assert states(stack)["server"] is PartState.CRASHED
    assert states(stack)["worker"] is PartState.UNHEALTHY
    result = stack.up()
    assert result.is_up, result.failures
    assert result.endpoints == endpoints
    assert result.notes == ()
    assert pids(stack)["emulator"] == before["emulator"]
    assert stack.folder.load().ledger_id == ledger


def test_secrets_outlive_identity_s_death_and_down(stack: Stack, pids: Pids) -> None:
    """Killed, it is seen and mended on its ports; what was answered is kept, by down as well."""
    before, listening = pids(stack), stack.folder.load().ports
    client, project = secret_manager(stack), f"projects/{parts.PROJECT}"
    automatic = {"replication": {"automatic": {}}}
    name = client.create_secret(parent=project, secret_id="kept", secret=automatic).name  # noqa: S106 - a name
    client.add_secret_version(parent=name, payload={"data": b"x"})
    kill(before["identity"])
    assert states(stack)["identity"] is PartState.CRASHED
    assert stack.up().is_up
    assert stack.folder.load().ports == listening
    assert pids(stack)["server"] == before["server"]
    version = f"{name}/versions/1"
    assert secret_manager(stack).access_secret_version(name=version).payload.data == b"x"
    stack.down()
    assert stack.up().is_up
    assert secret_manager(stack).access_secret_version(name=version).payload.data == b"x"


def test_the_context_leads_to_the_stand_ins(stack: Stack, environ: dict[str, str]) -> None:
    """Endpoints and CA of the context are those at which Google's clients are served."""
    settings = resolve(environ=environ)
    listening = stack.folder.load().ports
    assert settings.get("secretmanager_endpoint") == f"127.0.0.1:{listening['secretmanager']}"
    assert settings.get("iam_endpoint") == f"https://127.0.0.1:{listening['iam']}"
    assert settings.get("spanner_endpoint") == f"127.0.0.1:{listening['gateway']}"
    bundle = Path(settings.get("ca_file") or "")
    trusted = ssl.create_default_context(cafile=str(bundle))
    with urllib.request.urlopen(  # noqa: S310 - https on loopback
        f"{settings.get('iam_endpoint')}/healthz", timeout=10, context=trusted
    ) as reply:
        assert reply.status == 200


def test_an_identity_that_hangs_is_seen_and_replaced(stack: Stack, pids: Pids) -> None:
    """A process that is there, but doesn't answer, is not called running."""
    pid = pids(stack)["identity"]
    assert pid is not None
    freeze(pid)
    assert states(stack)["identity"] is PartState.UNHEALTHY
    assert stack.up().is_up
    assert identity(pid) is None


def test_an_emulator_that_hangs_is_seen_and_replaced(stack: Stack, pids: Pids) -> None:
    """A process that is there, but doesn't answer, is not called running."""
    pid = pids(stack)["emulator"]
    assert pid is not None
    freeze(pid)
    assert states(stack)["emulator"] is PartState.UNHEALTHY
    result = stack.up()
    assert result.is_up, result.failures
    assert identity(pid) is None
    assert any("data is gone" in note for note in result.notes)


def test_a_second_emulator_on_the_port_is_seen(stack: Stack) -> None:
    """One that shares the port in silence, and with it the traffic, is no healthy emulator."""
    status = stack.status()
    assert status.endpoints is not None
    command = Path(f"/proc/{status.parts[0].pid}/cmdline").read_text().rstrip("\0").split("\0")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as intruder:
        try:
            until(lambda: states(stack)["emulator"] is PartState.UNHEALTHY)
        finally:
            intruder.kill()
    until(lambda: stack.status().is_up)


def test_a_reused_pid_is_never_killed(stack: Stack, pids: Pids) -> None:
    """A record whose pid now belongs to somebody else counts as crashed, and harms nobody."""
    kill(pids(stack)["worker"])
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"]) as innocent:
        try:
            data = json.loads(stack.folder.state_file.read_text())
            data["parts"]["worker"]["pid"] = innocent.pid
            stack.folder.state_file.write_text(json.dumps(data))
            assert states(stack)["worker"] is PartState.CRASHED
            assert stack.up().is_up
            assert pids(stack)["worker"] != innocent.pid
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_two_ups_at_once_make_one_stack(stack: Stack, environ: dict[str, str], pids: Pids) -> None:
    """Two commands at the same moment end well, with one process a part."""
    kill(pids(stack)["emulator"])
    kill(pids(stack)["worker"])
    code = "import sys; from spanctl.local.stack import Stack; sys.exit(not Stack().up().is_up)"
    environment = {**environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [child.wait(120) for child in both] == [0, 0]
    assert marked(parts.mark(stack.folder)) == set(pids(stack).values())


FLOW = """
from pathlib import Path
from prefect import flow
from spanctl.flows import transaction
import os, time

@transaction
def look(txn) -> int:
    return txn.execute_sql("SELECT 1")[0][0]

@flow
def work(out: str, seconds: int = 0):
    made = look().result
    Path(out).write_text(f"{os.getpid()} {os.environ.get('SPANNER_EMULATOR_HOST')} "
                         f"{os.environ['SPANCTL_CONTEXT']} {made}")
    time.sleep(seconds)
"""
DEPLOY = """
import sys
from prefect import flow
from prefect.deployments import run_deployment
flow.from_source(sys.argv[1], "flows.py:work").deploy(
    "it", work_pool_name="local", print_next_steps=False)
run = run_deployment("work/it", parameters={"out": sys.argv[2], "seconds": int(sys.argv[3])},
                     timeout=0 if int(sys.argv[3]) else 60, poll_interval=0.2)
print(run.state_name)
"""


def deploy(stack: Stack, folder: Path, seconds: int) -> tuple[str, list[str]]:
    """Run a deployment on the stack's worker; return the run's state and what it wrote."""
    (folder / "flows.py").write_text(textwrap.dedent(FLOW))
    environment = {**os.environ, **opened(stack)}
    command = [sys.executable, "-c", DEPLOY, str(folder), str(folder / "out"), str(seconds)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    until((folder / "out").exists)
    until((folder / "out").read_text)
    return done.stdout.splitlines()[-1], (folder / "out").read_text().split()


def test_a_deployment_runs_and_finds_the_database(stack: Stack, tmp_path: Path) -> None:
    """The worker's flow runs write through the gateway, with the context's credentials."""
    state, (_, emulator_host, context, read) = deploy(stack, tmp_path, 0)
    assert state == "Completed"
    assert (emulator_host, context, read) == ("None", "local", "1")


HOOK = """
from datetime import UTC, datetime, timedelta
from pathlib import Path
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Scheduled
import os

def told(flow, flow_run, state):
    Path({out!r}).write_text(os.getcwd())
    with get_client(sync_client=True) as client:
        later = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
        client.set_flow_run_state(flow_run.id, later, force=True)

@flow(on_crashed=[told])
def dies():
    os.kill(os.getpid(), 9)
"""


def test_a_run_that_crashes(stack: Stack, home: Path, tmp_path: Path) -> None:
    """The worker copies the flow's folder and runs its hooks: the stack's own stays as it was.

    Nor does it say once more that the run has crashed, which is to run again by then.
    """
    (home / "dies.py").write_text(HOOK.format(out=str(tmp_path / "out")))
    before = {one.name for one in stack.folder.path.iterdir()}
    api = Transport(api_of(stack))
    try:
        flow = api.request("POST", "/flows/", {"name": "dies"})[1]["id"]
        named = {"name": "it", "flow_id": flow, "work_pool_name": "local", "path": str(home)}
        made = api.request("POST", "/deployments/", {**named, "entrypoint": "dies.py:dies"})[1]
        due = {"state": {"type": "SCHEDULED"}}
        run = api.request("POST", f"/deployments/{made['id']}/create_flow_run", due)[1]
        until((tmp_path / "out").exists)
        until((tmp_path / "out").read_text)
        assert Path((tmp_path / "out").read_text()) == stack.folder.temporary
        assert {one.name for one in stack.folder.path.iterdir()} == before
        (tmp_path / "out").unlink()
        assert deploy(stack, tmp_path, 0)[0] == "Completed"  # the worker goes on
        state = api.request("GET", f"/flow_runs/{run['id']}")[1]["state"]
        assert state["type"] == "SCHEDULED", state
    finally:
        api.close()


@pytest.mark.parametrize("crash", [False, True], ids=["all alive", "after a crash of the worker"])
def test_down_leaves_no_process(stack: Stack, tmp_path: Path, pids: Pids, crash: bool) -> None:
    """Neither part nor flow run survives, be the worker alive or killed; twice is harmless."""
    _, (run, *_) = deploy(stack, tmp_path, 300)
    assert identity(int(run)) is not None
    if crash:
        kill(pids(stack)["worker"])
        assert identity(int(run)) is not None
    result = stack.down()
    ended = {"emulator", "identity", "server"} | (set() if crash else {"worker"})
    assert set(result.stopped) == ended
    assert result.data_gone
    assert identity(int(run)) is None
    assert marked(parts.mark(stack.folder)) == set()
    assert set(states(stack).values()) == {PartState.STOPPED}
    again = stack.down()
    assert (again.stopped, again.strays, again.killed) == ((), 0, 0)


def test_down_without_its_state_file(stack: Stack) -> None:
    """A damaged file keeps nobody from ending the stack, and is gone afterwards."""
    stack.folder.state_file.write_text("{")
    result = stack.down()
    assert result.strays >= 4
    assert marked(parts.mark(stack.folder)) == set()
    assert set(states(stack).values()) == {PartState.STOPPED}


def test_ctrl_c_leaves_what_down_cleans(stack: Stack, environ: dict[str, str]) -> None:
    """An ``up`` that is interrupted at any moment leaves nothing that ``down`` doesn't end."""
    stack.down()
    code = "from spanctl.local.stack import Stack; Stack().up(lambda e: print(e, flush=True))"
    environment = {**environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout is not None
        while "server" not in child.stdout.readline():
            pass
        child.send_signal(signal.SIGINT)
        assert child.wait(20) != 0
    assert marked(parts.mark(stack.folder)) != set()
    stack.down()
    assert marked(parts.mark(stack.folder)) == set()


def test_an_external_emulator_is_used_and_left_alone(
    emulator: str, home: Path, environ: dict[str, str], stack: Stack
) -> None:
    """SPANNER_EMULATOR_HOST and PREFECT_API_URL are respected: worker and identity are ours."""
    outside = {
        **environ,
        "SPANCTL_CONFIG_HOME": str(home / "config-2"),
        "SPANNER_EMULATOR_HOST": emulator,
        **opened(stack),
    }
    other = Stack(home / "other", environ=outside)
    try:
        result = other.up()
        assert result.is_up, result.failures
        assert states(other) == {
            "emulator": PartState.EXTERNAL,
            "identity": PartState.RUNNING,
            "server": PartState.EXTERNAL,
            "worker": PartState.RUNNING,
        }
        context = Contexts.load(home / "config-2" / "contexts.toml").get("local")
        assert context["emulator_host"] == emulator
    finally:
        assert other.down().stopped == ("worker", "identity")
    assert stack.status().is_up


def test_reset_forgets_everything(environ: dict[str, str], stack: Stack) -> None:
    """Processes, runs, logs, ports and the context are gone; a new stack can follow."""
    stack.reset()
    assert marked(parts.mark(stack.folder)) == set()
    assert {path.name for path in stack.folder.path.iterdir()} == {"lock"}
    assert resolve(environ=environ).context is None


def test_a_part_that_fails_leaves_the_others_and_its_last_words(
    started: Stack, environ: dict[str, str], tmp_path: Path
) -> None:
    """The emulator's own message is shown; the server and the worker are up and stay."""
    started.reset()  # and its fixture ends what is started here, whatever becomes of this test
    broken = tmp_path / "emulator_main"
    broken.write_text("#!/bin/sh\necho no memory for me >&2\nexit 1\n")
    broken.chmod(0o755)
    stack = Stack(environ={**environ, "SPANCTL_SPANNER_EMULATOR": str(broken)})
    result = stack.up()
    assert not result.is_up
    (failure,) = result.failures
    assert failure.part == "emulator"
    assert failure.log == ("no memory for me",)
    assert states(stack) == {
        "emulator": PartState.CRASHED,
        "identity": PartState.RUNNING,
        "server": PartState.RUNNING,
        "worker": PartState.RUNNING,
    }
    mended = Stack(environ=environ).up()
    assert mended.is_up
    assert mended.notes == ()
