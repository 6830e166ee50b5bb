"""Prefect's API key and auth string in secrets: read at run time, kept in memory."""

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from spanctl.credentials.reference import SecretName
from spanctl.credentials.resolve import resolve, resolve_store
from spanctl.credentials.secret import Secret
from spanctl.errors import NotPermittedError
from spanctl.orchestration import keys
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.settings import ApiSettings
from spanctl.settings import Contexts
from spanctl.settings import resolve as resolve_settings
from tests.fixtures.cli import child_environment
from tests.fixtures.prefect import server as serving
from tests.local.identity import PARENT, PROJECT, StandIns

KEY = "pnu_the-key-that-only-the-secret-holds"
PAIR = "somebody:the-word-that-only-the-secret-holds"
BASIC = f"Basic {base64.b64encode(PAIR.encode()).decode()}"
AUTOMATIC = {"replication": {"automatic": {}}}
_PATIENCE = 60.0
# Reads with the client of a thread that copied no context, as Prefect's workers of logs do.
ASK = """
import threading
from spanctl.flows.opening import open_api
from spanctl.orchestration import keys
from spanctl.settings import resolve

open_api(keys.read(resolve()))

def ask():
    from prefect.client.orchestration import get_client
    with get_client(sync_client=True) as client:
        print(len(client.read_flows()))

thread = threading.Thread(target=ask)
thread.start()
thread.join()
"""

PROBE = """
import os, subprocess
from pathlib import Path
from prefect import flow, get_run_logger, task
from prefect.client.orchestration import get_client
from prefect.task_runners import ProcessPoolTaskRunner

@task
def of_a_child():
    get_run_logger().info("a word of the pool's")
    with get_client(sync_client=True) as client:
        client.read_work_pools()
    return subprocess.check_output(["cat", "/proc/self/environ"])

@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def probe(out: str):
    seen = [Path(f"/proc/{pid}/{kept}").read_bytes()
            for pid in (os.getpid(), os.getppid()) for kept in ("environ", "cmdline")]
    seen.append(of_a_child.submit().result())
    Path(out).write_bytes(b"".join(seen))
"""
DEPLOY = """
import sys
from prefect import flow
from prefect.deployments import run_deployment
flow.from_source(sys.argv[1], "probe.py:probe").deploy("it", work_pool_name=sys.argv[3])
print(run_deployment("probe/it", parameters={"out": sys.argv[2]}, poll_interval=0.2).state_name)
"""
OURS = ["-P", "-m", "spanctl.local.launch", "worker", "start"]
# Keeps the key in its memory, and leaves the processes of the flow runs to Prefect.
NAIVE = """
import runpy, sys
from spanctl.flows import opening
from spanctl.local import engine

opening._keep_out_of_environments = lambda: None
engine.open_api()
sys.argv = ["prefect", "worker", "start", *sys.argv[1:]]
runpy.run_module("prefect", run_name="__main__", alter_sys=True)
"""


class Demanding(BaseHTTPRequestHandler):
    """A Prefect API that is empty, and opens to one header only."""

    wanted: str
    seen: ClassVar[list[str]]

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        given = self.headers.get("Authorization", "")
        health = self.path.endswith("/health")
        if not health:
            self.seen.append(given)
        status = 200 if health or given == self.wanted else 401
        if "/csrf-token" in self.path and status != 401:
            status = 404  # a server without that protection
        data: Any = "3.8.8" if self.path.endswith("/version") else True if health else []
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[type[Demanding]]:
    class Here(Demanding):
        wanted = f"Bearer {KEY}"
        seen: ClassVar[list[str]] = []
        url = ""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Here)
    Here.url = f"http://127.0.0.1:{listening.server_port}/api"
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield Here
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture(scope="module")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    served = StandIns(tmp_path_factory.mktemp("prefect-keys") / "identity").start()
    yield served
    assert served.stop() == 0


@pytest.fixture(scope="module")
def secrets(standins: StandIns) -> dict[str, str]:
    """References to the secrets that hold the key and the auth string."""
    endpoints = keys_endpoints(standins)
    client = standins.secret_manager(resolve("adc", endpoints))
    store = resolve_store("adc", endpoints)
    try:
        for name, value in (("key", KEY), ("pair", PAIR)):
            client.create_secret(parent=PARENT, secret_id=name, secret=AUTOMATIC)
            store.add(SecretName(PROJECT, name), Secret(value))
    finally:
        store.close()
        client.transport.close()
    return {name: f"secret:{PARENT}/secrets/{name}@1" for name in ("key", "pair")}


def keys_endpoints(standins: StandIns) -> Any:
    from spanctl.credentials.endpoints import Endpoints

    return Endpoints(
        secretmanager=f"127.0.0.1:{standins.ports['secretmanager']}",
        iam=standins.base,
        admin=standins.base,
        oauth2=standins.base,
        ca_file=str(standins.places.bundle),
        adc_file=str(standins.places.user),
    )


@pytest.fixture
def context(standins: StandIns, server: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of a context in use that reaches server and stand-ins; change and save them."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return {
        "secretmanager_endpoint": f"127.0.0.1:{standins.ports['secretmanager']}",
        "iam_endpoint": standins.base,
        "ca_file": str(standins.places.bundle),
        "adc_file": str(standins.places.user),
        "prefect_api_url": server.url,
    }


def use(values: dict[str, str]) -> None:
    Contexts.load().with_context("here", values).using("here").save()


def flows_named(settings: ApiSettings | None) -> int:
    assert settings is not None
    with PrefectApi(settings) as api:
        return len(api.flow_runs_named("none"))


def test_the_command_line_opens_the_api_with_a_secret(
    server: Any, context: dict[str, str], secrets: dict[str, str]
) -> None:
    """The key, or the auth string, that the context's reference names is sent; without, exit 4."""
    use(context)
    with pytest.raises(NotPermittedError, match="refused the credentials"):
        flows_named(keys.reach(resolve_settings()))
    use({**context, "prefect_api_key": secrets["key"]})
    found = keys.reach(resolve_settings())
    assert flows_named(found) == 0
    assert KEY not in repr(found)
    server.wanted = BASIC
    use({**context, "prefect_auth_string": secrets["pair"]})
    assert flows_named(keys.reach(resolve_settings())) == 0


def test_prefect_s_own_variables_go_before_a_context(
    context: dict[str, str], secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment, then context, then profile; of the environment the reference goes first."""
    use({**context, "prefect_api_key": secrets["key"]})
    own = {"PREFECT_API_AUTH_STRING": "a:b"}
    found = keys.reach(resolve_settings(), environ=own)
    assert found is not None
    assert (found.key, found.auth_string) == (None, "a:b")
    monkeypatch.setenv("SPANCTL_PREFECT_API_KEY", secrets["key"])
    found = keys.reach(resolve_settings(), environ=own)
    assert found is not None
    assert (found.key, found.auth_string) == (KEY, None)


def test_prefect_in_this_process_opens_the_api(
    server: Any, context: dict[str, str], secrets: dict[str, str]
) -> None:
    """Prefect's own client sends the key in every thread; argv and environment never hold it."""
    use({**context, "prefect_api_key": secrets["key"]})
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=child_environment({"PREFECT_API_URL": server.url}),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert set(server.seen) == {server.wanted}


def test_the_worker_opens_the_api(
    server: Any, context: dict[str, str], secrets: dict[str, str]
) -> None:
    """Our worker reads the key before its first request, and holds it in memory only."""
    use({**context, "prefect_api_key": secrets["key"]})
    command = [sys.executable, "-P", "-m", "spanctl.local.launch", "worker", "start"]
    worker = subprocess.Popen(
        [*command, "--pool", "p", "--type", "process"],
        env=child_environment({"PREFECT_API_URL": server.url}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + _PATIENCE
        while not server.seen:
            assert worker.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for kept in ("cmdline", "environ"):
            with open(f"/proc/{worker.pid}/{kept}", "rb") as stream:  # noqa: PTH123 - of the kernel
                assert KEY.encode() not in stream.read()
    finally:
        worker.kill()
        worker.wait()
    assert set(server.seen) == {server.wanted}
    assert KEY not in "".join(os.environ.values())


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API's URL of a server that asks for a pair."""
    home = tmp_path_factory.mktemp("closed")
    with serving(home, {"PREFECT_SERVER_API_AUTH_STRING": PAIR}) as url:
        yield url


@pytest.mark.parametrize(("worker", "is_seen"), [(OURS, False), (["-c", NAIVE], True)])
def test_flow_runs_read_what_opens_the_api_themselves(  # noqa: PLR0913, PLR0917 - cases
    worker: list[str],
    is_seen: bool,
    closed: str,
    context: dict[str, str],
    secrets: dict[str, str],
    tmp_path: Path,
) -> None:
    """No process of a flow run finds it in an environment, and each opens the API all the same."""
    (tmp_path / "probe.py").write_text(PROBE)
    out = tmp_path / "out"
    use({**context, "prefect_api_url": closed, "prefect_auth_string": secrets["pair"]})
    ours = child_environment({"PREFECT_API_URL": closed, "PREFECT_HOME": str(tmp_path / "w")})
    asking = {**ours, "PREFECT_API_AUTH_STRING": PAIR}
    pool = tmp_path.name
    making = [sys.executable, "-m", "prefect", "work-pool", "create", pool, "--type", "process"]
    subprocess.run(making, env=asking, capture_output=True, timeout=_PATIENCE, check=True)
    running = subprocess.Popen(
        [sys.executable, *worker, "--pool", pool, "--type", "process"],
        env={**ours, "PREFECT_WORKER_QUERY_SECONDS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", DEPLOY, str(tmp_path), str(out), pool],
            env=asking,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    finally:
        running.terminate()
        running.wait(_PATIENCE)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["Completed"]), done.stderr
    assert (PAIR.encode() in out.read_bytes()) is is_seen


def test_a_worker_without_its_secret_ends_at_once(server: Any, context: dict[str, str]) -> None:
    """It says why, and asks the API for nothing."""
    use({**context, "prefect_api_key": f"secret:{PARENT}/secrets/none"})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "spanctl.local.launch", "worker", "start", "--pool", "p"],
        env=child_environment({"PREFECT_API_URL": server.url}),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "what opens the Prefect API could not be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert server.seen == []
