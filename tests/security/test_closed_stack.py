"""Nobody but its owner gets into the local stack: no other user, no page, no reader of files."""

import base64
import http.server
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from spanctl.local import parts
from spanctl.local.processes import marked
from spanctl.local.stack import Stack
from spanctl.orchestration import connections
from tests.fixtures.cli import child_environment
from tests.local.conftest import opened
from tests.security.stranger import NOBODY, PATIENCE, names_of_flows, preflight, run, serving, until

pytestmark = [pytest.mark.emulator, pytest.mark.prefect]

_INTRUDER: Final = (Path(__file__).parent / "intruder.py").read_text(encoding="utf-8")
_EVIL: Final = {
    "none": {},
    "foreign origin": {"Origin": "http://evil.example"},
    "foreign host": {"Host": "evil.example", "Origin": "http://evil.example"},
    "no authority": {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    "empty word": {"Authorization": f"Basic {base64.b64encode(b'spanctl:').decode()}"},
    "bearer": {"Authorization": "Bearer x"},
    "broken": {"Authorization": "Basic =="},
}
_FLOW: Final = """
import os
from pathlib import Path

from prefect import flow
from prefect.client.orchestration import get_client


@flow
def probe(out: str):
    pid, seen = os.getpid(), []
    while pid > 1:
        try:
            seen += [Path(f"/proc/{pid}/{kept}").read_bytes() for kept in ("environ", "cmdline")]
        except OSError:
            break
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    with get_client(sync_client=True) as client:
        client.read_work_pools()  # what a flow's own client asks is answered
    Path(out).write_bytes(b"".join(seen))
"""
_DEPLOY: Final = """
import sys
from prefect import flow
from prefect.deployments import run_deployment
variables = {"command": sys.argv[3]} if sys.argv[3] else {}
flow.from_source(sys.argv[1], "probe.py:probe").deploy(
    "it", work_pool_name="local", job_variables=variables)
print(run_deployment("probe/it", parameters={"out": sys.argv[2]}, poll_interval=0.2).state_name)
"""


def intrude(
    stack: Stack, marker: Path, headers: Mapping[str, str], *, user: str = "-"
) -> dict[str, Any]:
    """Have somebody try everything, and return what they were told."""
    url = opened(stack)["PREFECT_API_URL"]
    told = [word for pair in headers.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "-I", "-", user, url, str(stack.folder.path), str(marker), *told],
        input=_INTRUDER,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# -- other users


@pytest.mark.parametrize("headers", _EVIL.values(), ids=_EVIL.keys())
def test_no_request_without_the_string_is_answered(
    stack: Stack, tmp_path: Path, headers: dict[str, str]
) -> None:
    """Nothing is made, read or run for it, whatever headers it has."""
    marker = tmp_path / "marker"
    told = intrude(stack, marker, headers)
    wanted = {400} if headers.get("Host") else {401}
    assert {status for one in told["statuses"].values() for status in one} == wanted
    assert "intrusion" not in names_of_flows(stack)
    assert not marker.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_another_user_gets_nothing(
    stack: Stack, home: Path, request: pytest.FixtureRequest
) -> None:
    """They read no file of the stack's, see no secret of it in a process, and have nothing run."""
    stack.sign_in(f"{opened(stack)['PREFECT_API_URL'].removesuffix('/api')}/runs")
    marker = Path(tempfile.mkdtemp(prefix="spanctl-marker-")) / "marker"
    request.addfinalizer(lambda: shutil.rmtree(marker.parent))
    marker.parent.chmod(0o777)
    told = intrude(stack, marker, {}, user=NOBODY)
    assert {status for one in told["statuses"].values() for status in one} == {401}
    assert told["read"] == []
    word = opened(stack)["PREFECT_API_AUTH_STRING"]
    assert any("spanctl.local" in one for one in told["processes"]), "it saw the stack's processes"
    assert not [one for one in told["processes"] if word in one or word.split(":")[1] in one]
    assert not marker.exists()
    assert home.stat().st_mode & stat.S_IXOTH, "the control: they could enter the folder above"


def test_the_intruder_would_get_in_with_the_string(stack: Stack, tmp_path: Path) -> None:
    """Control: the attack is a real one, for its owner's word has it run."""
    marker = tmp_path / "marker"
    told = intrude(
        stack,
        marker,
        {"Authorization": connections.basic(opened(stack)["PREFECT_API_AUTH_STRING"])},
    )
    assert told["statuses"]["POST deployments"] == [201, 201]
    until(marker.exists)
    assert set(told["read"]) >= {"prefect-auth", "stack.json"}


# -- what is kept


def test_the_string_is_in_one_file_only(stack: Stack, home: Path) -> None:
    """It is the owner's alone, and in no argument, environment, log or other file."""
    word = opened(stack)["PREFECT_API_AUTH_STRING"]
    assert re.fullmatch(r"spanctl:[A-Za-z0-9_-]{43}", word)
    assert stat.S_IMODE(stack.folder.auth.stat().st_mode) == 0o600
    secret = word.partition(":")[2].encode()
    encoded = base64.b64encode(word.encode()).rstrip(b"=")[:-2]
    stack.folder.page.unlink(missing_ok=True)
    holding = [
        path
        for path in home.rglob("*")
        if path.is_file() and (secret in (text := path.read_bytes()) or encoded in text)
    ]
    assert holding == [stack.folder.auth]
    pids = marked(parts.mark(stack.folder))
    assert len(pids) >= len(parts.NAMES)
    for pid in pids:
        for kept in ("cmdline", "environ"):
            assert secret not in Path(f"/proc/{pid}/{kept}").read_bytes(), (pid, kept)


@pytest.mark.parametrize("own", [False, True], ids=["ours", "command of its own"])
def test_flows_reach_the_api_and_carry_no_string(stack: Stack, tmp_path: Path, own: bool) -> None:
    """A flow run's processes read it themselves; only a foreign command is handed it."""
    (tmp_path / "probe.py").write_text(_FLOW)
    out = tmp_path / "out"
    command = f"{sys.executable} -m prefect.engine" if own else ""
    done = subprocess.run(
        [sys.executable, "-c", _DEPLOY, str(tmp_path), str(out), command],
        env=child_environment({**opened(stack), "PREFECT_HOME": str(tmp_path / "home")}),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["Completed"]), done.stderr
    word = opened(stack)["PREFECT_API_AUTH_STRING"].encode()
    assert b"PREFECT__FLOW_RUN_ID" in out.read_bytes()
    assert (word in out.read_bytes()) is own


def lose(path: Path) -> None:
    path.unlink()


def loosen(path: Path) -> None:
    path.chmod(0o644)


def change(path: Path) -> None:
    path.write_text("spanctl:another")


def empty(path: Path) -> None:
    path.write_text("")


@pytest.mark.parametrize("harm", [lose, loosen, change, empty])
def test_a_file_that_others_may_have_read_is_written_anew(
    stack: Stack, environ: dict[str, str], harm: Callable[[Path], None]
) -> None:
    """The server is said not to open; ``up`` gives it, and all that use it, another string."""
    before = opened(stack)["PREFECT_API_AUTH_STRING"]
    harm(stack.folder.auth)
    assert "does not open" in stack.troubles()["server"].reason
    refused = run(environ, "runs", "list")
    assert refused.returncode in {1, 2, 3, 4}, refused.stderr
    assert "Traceback" not in refused.stderr
    assert stack.up().is_up
    after = opened(stack)["PREFECT_API_AUTH_STRING"]
    assert after != before
    assert stat.S_IMODE(stack.folder.auth.stat().st_mode) == 0o600
    listed = run(environ, "runs", "list")
    assert listed.returncode == 0, listed.stderr


# -- what is said


def test_up_and_context_show_say_what_prefect_s_commands_need(
    stack: Stack, environ: dict[str, str], tmp_path: Path
) -> None:
    """The line, typed as it is, opens the stack to Prefect's own commands."""
    stack.down()
    for command, is_first in ((("local", "up"), True), (("local", "up"), False)):
        told = run(environ, *command).stderr
        assert ("reach the emulator's own port" in told) is is_first, told
        (line,) = re.findall(r"for Prefect's own commands run: (.*)", told)
    assert run(environ, "context", "show").stderr.strip().endswith(line)
    shown = run(environ, "context", "show", "--export").stdout
    assert shown.startswith("export PREFECT_API_URL=")
    assert opened(stack)["PREFECT_API_AUTH_STRING"] not in shown
    typed = f'spanctl() {{ {sys.executable} -m spanctl_cli.main "$@"; }}; {line}'
    for given, status in ((typed, 0), ("true", 1)):
        prefect = f"{sys.executable} -m prefect work-pool ls"
        bare = {**environ, "PREFECT_HOME": str(tmp_path)}
        url = {} if given == typed else {"PREFECT_API_URL": opened(stack)["PREFECT_API_URL"]}
        done = subprocess.run(
            ["/bin/sh", "-c", f"{given}; {prefect}"],
            env={**bare, **url},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert ("local" in done.stdout) is (status == 0)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PREFECT_API_KEY", "pnu_of-another-server"), ("PREFECT_API_AUTH_STRING", "of:another")],
)
@pytest.mark.usefixtures("stack")
def test_what_opens_another_server_stands_in_no_way(
    environ: dict[str, str], variable: str, value: str
) -> None:
    """The context's own file opens its own server, whatever the shell holds for others."""
    done = run({**environ, variable: value}, "runs", "list")
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("stack")
def test_the_string_goes_to_its_own_server_only(environ: dict[str, str]) -> None:
    """Where a variable names another API, that one gets nothing of the context's."""
    seen: list[str | None] = []

    class Other(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            pass

    with serving(Other) as url:
        run({**environ, "PREFECT_API_URL": f"{url}/api"}, "runs", "list")
    assert seen
    assert set(seen) == {None}


# -- a person's own settings


def test_a_persons_own_settings_hold(tmp_path: Path) -> None:
    """Their string, their guard against forged requests and their origins are the server's."""
    word = "me:a word of my own"
    environ = child_environment(
        {
            "SPANCTL_CONFIG_HOME": str(tmp_path / "config"),
            "SPANCTL_STATE_HOME": str(tmp_path / "state"),
            "PREFECT_SERVER_API_AUTH_STRING": word,
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://ui.example",
            "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
            "PREFECT_SERVER_LOGGING_LEVEL": "DEBUG",
            "PREFECT_LOGGING_SERVER_LEVEL": "DEBUG",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{tmp_path}/other.db",
        }
    )
    stack = Stack(environ=environ)
    try:
        up = run(environ, "local", "up")
        assert up.returncode == 0, up.stderr
        assert opened(stack)["PREFECT_API_AUTH_STRING"] == word
        base = opened(stack)["PREFECT_API_URL"]
        headers = {"Authorization": connections.basic(word)}
        forged = httpx.post(f"{base}/flows/", json={"name": "forged"}, headers=headers)
        assert (forged.status_code, "CSRF" in forged.text) == (403, True)
        allowed = {"http://ui.example": 200, base.removesuffix("/api"): 400}
        for origin, status in allowed.items():
            assert preflight(base, origin) == status
        assert not (tmp_path / "other.db").exists()
        (tmp_path / "probe.py").write_text(_FLOW)
        done = subprocess.run(
            [sys.executable, "-c", _DEPLOY, str(tmp_path), str(tmp_path / "out"), ""],
            env={**environ, **opened(stack), "PREFECT_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        assert done.stdout.split()[-1:] == ["Completed"], done.stderr
        assert word.encode() not in (tmp_path / "out").read_bytes()
        again = run(environ, "run", "probe/it", "-p", f"out={tmp_path / 'two'}")
        assert again.returncode == 0, again.stderr
        bare = {name: value for name, value in environ.items() if not name.startswith("PREFECT_")}
        assert run(bare, "local", "up").returncode == 0
        assert opened(stack)["PREFECT_API_AUTH_STRING"] == word, "it stays while it is in use"
        logs = b"".join(path.read_bytes() for path in (stack.folder.path / "logs").iterdir())
        encoded = base64.b64encode(word.encode()).rstrip(b"=")[:-2]
        assert b"DEBUG" in logs
        assert not [one for one in (word.encode(), b"word of my", encoded) if one in logs]
    finally:
        stack.down()
