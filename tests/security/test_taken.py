"""What others take of a stack's while it is not there: its port, its temporary folder, a folder."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from spanctl.local import parts
from spanctl.local.stack import Stack
from tests.faults.emulator import free_port
from tests.fixtures.cli import child_environment
from tests.local.conftest import opened
from tests.security.stranger import NOBODY, PATIENCE, run, until

pytestmark = [pytest.mark.emulator, pytest.mark.prefect]

_POOLED: Final = """
from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner


@task
def one():
    return 1


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def pooled():
    return one.submit().result()
"""
_DEPLOY_POOLED: Final = """
import sys
from prefect import flow
from prefect.deployments import run_deployment
flow.from_source(sys.argv[1], "pooled.py:pooled").deploy("it", work_pool_name="local")
print(run_deployment("pooled/it", poll_interval=0.2).state_name)
"""


# -- ports and folders that others take

THIEF: Final = """
import encodings.idna, http.server, json, os, sys
user, port, out = int(sys.argv[1]), int(sys.argv[2]), open(sys.argv[3], "a", buffering=1)
os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)

class Thief(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        out.write(json.dumps([self.command, self.path, self.headers.get("Authorization")]) + "\\n")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")
    do_POST = do_PUT = do_PATCH = do_GET
    def log_message(self, *_): pass

http.server.ThreadingHTTPServer.allow_reuse_address = True
made = http.server.ThreadingHTTPServer(("127.0.0.1", port), Thief)
print("ready", flush=True)
made.serve_forever()
"""


@contextlib.contextmanager
def thief(port: int, out: Path) -> Iterator[None]:
    """Another user listens on a port, and writes down what comes."""
    out.touch()
    process = subprocess.Popen(
        [sys.executable, "-c", THIEF, NOBODY, str(port), str(out)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize("how", ["down", "killed"])
def test_a_stranger_on_its_port_is_sent_nothing(
    stack: Stack, environ: dict[str, str], tmp_path: Path, how: str
) -> None:
    """Neither by commands nor by the worker that lives on; the next start is on another port."""
    before, port = opened(stack), stack.folder.load().ports[parts.SERVER]
    if how == "down":
        stack.down()
        ended = run(environ, "runs", "list")
        assert (ended.returncode, "run: spanctl local up" in ended.stderr) == (3, True)
    else:
        os.kill(stack.folder.load().parts[parts.SERVER].pid, signal.SIGKILL)
        until(lambda: "server" in stack.troubles())
    shell = {**environ, "PREFECT_API_URL": before["PREFECT_API_URL"]}
    with thief(port, tmp_path / "told"):
        for command in (("runs", "list"), ("local", "status"), ("doctor",)):
            done = run(environ, *command)
            assert done.returncode != 0, command
            assert "Traceback" not in done.stderr
        time.sleep(2)  # the worker asks twice a second
        up = run(shell, "local", "up")
        assert up.returncode == 0, up.stderr
        assert "external" not in up.stderr
        assert "run: unset PREFECT_API_URL" in up.stderr
        assert run(environ, "runs", "list").returncode == 0
    assert (tmp_path / "told").read_text() == ""
    assert stack.folder.load().ports[parts.SERVER] != port
    if how == "down":
        assert opened(stack)["PREFECT_API_AUTH_STRING"] != before["PREFECT_API_AUTH_STRING"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_the_thief_would_hear_a_command_that_asks_nobody(tmp_path: Path) -> None:
    """Control: it writes down what is sent to it."""
    port = free_port()
    with thief(port, tmp_path / "told"):
        httpx.get(f"http://127.0.0.1:{port}/api/health", auth=("spanctl", "word"))
    assert "Basic" in (tmp_path / "told").read_text()


def cut(path: Path) -> None:
    path.write_text("")


def relative(path: Path) -> None:
    path.write_text(".")


def linked(path: Path) -> None:
    there = Path(path.read_text())
    shutil.rmtree(there)
    there.symlink_to(Path.cwd())


def loose(path: Path) -> None:
    Path(path.read_text()).chmod(0o777)


def given_away(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a folder away")
    os.chown(path.read_text(), int(NOBODY), int(NOBODY))


@pytest.mark.parametrize("harm", [cut, relative, linked, loose, given_away])
@pytest.mark.parametrize("then", ["down", "reset", "create"])
def test_nothing_of_others_is_removed_or_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    harm: Callable[[Path], None],
    then: str,
) -> None:
    """What names the folder for what is for now may be cut short, and the folder another's."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    monkeypatch.chdir(precious)
    environ = {"SPANCTL_CONFIG_HOME": str(tmp_path), "SPANCTL_STATE_HOME": str(tmp_path / "s")}
    stack = Stack(environ=environ)
    stack.folder.create()
    names = stack.folder.path / "temporary"
    before = Path(names.read_text())
    request.addfinalizer(
        lambda: before.unlink() if before.is_symlink() else shutil.rmtree(before, True)
    )
    harm(names)
    if then == "create":
        stack.folder.create()
        found = stack.folder.temporary
        assert found != before
        assert stat.S_IMODE(found.lstat().st_mode) == 0o700
        stack.folder.tidy()
        assert not found.exists()
    else:
        getattr(stack, then)()
        assert not names.exists()
    assert (precious / "file").read_text() == "kept"


# -- pools


def test_a_pool_s_children_read_nothing_of_the_run_s_folder(stack: Stack, tmp_path: Path) -> None:
    """Prefect is imported anew there: without its settings of the folder."""
    marker = tmp_path / "marker"
    (tmp_path / "pooled.py").write_text(_POOLED)
    (tmp_path / "log.yml").write_text(
        "version: 1\nhandlers:\n  evil:\n    (): os.system\n"
        f"    command: 'touch {marker}'\nroot:\n  handlers: [evil]\n"
    )
    (tmp_path / ".env").write_text(f"PREFECT_LOGGING_CONFIG_PATH={tmp_path}/log.yml\n")
    (tmp_path / "prefect.toml").write_text(f'[logging]\nconfig_path = "{tmp_path}/log.yml"\n')
    done = subprocess.run(
        [sys.executable, "-c", _DEPLOY_POOLED, str(tmp_path)],
        env=child_environment({**opened(stack), "PREFECT_HOME": str(tmp_path / "home")}),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.stdout.split()[-1:] == ["Completed"], done.stderr
    assert not marker.exists()
    naive = [sys.executable, "-c", "import prefect.main"]
    bare = {name: text for name, text in child_environment().items() if "PREFECT" not in name}
    subprocess.run(naive, env=bare, cwd=tmp_path, capture_output=True, check=False)
    assert marker.exists(), "the control: Prefect by itself has it run"
