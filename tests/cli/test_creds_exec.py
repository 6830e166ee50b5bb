"""``spanctl creds exec``: a child with short-lived credentials, its signals and its end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spanctl.settings import Contexts
from tests.fixtures.cli import Ended, Spanctl, child_environment
from tests.fixtures.creds import User

pytestmark = pytest.mark.emulator

_PATIENCE = 60
_LIBRARIES = """
import json, os, sys
import google.auth
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport
credentials, project = google.auth.default(["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(Request())
first = credentials.token
credentials.refresh(Request())
database, endpoint = sys.argv[1:3]
transport = SpannerGrpcTransport(host=endpoint, credentials=credentials)  # trusts GRPC_DEFAULT_...
with SpannerClient(transport=transport) as client:
    session = client.create_session(database=database).name
    rows = client.execute_sql({"session": session, "sql": "SELECT 7"}).rows
in_file = open(os.environ["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]).read()
known = sorted(name for name in os.environ if credentials.token in os.environ[name])
print(json.dumps({
    "project": project, "row": rows[0][0], "same": first == credentials.token == in_file,
    "in_environ": known, "document": json.load(open(os.environ["GOOGLE_APPLICATION_CREDENTIALS"])),
    "folder": os.path.dirname(os.environ["GOOGLE_APPLICATION_CREDENTIALS"]),
}))
"""
# Tells its pid and the folder, waits for a signal, and tells which one it was.
_WAITING = """
import os, signal, sys
told = []
numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]
for number in numbers:
    signal.signal(number, lambda number, _: told.append(number))
print(os.getpid(), os.path.dirname(os.environ["GOOGLE_APPLICATION_CREDENTIALS"]), flush=True)
while not told:
    signal.pause()
print(signal.Signals(told[0]).name, len(told), flush=True)
sys.exit(9)
"""


def lent() -> list[Path]:
    """Return the folders that lenders have left or use."""
    place = Path(os.environ["SPANCTL_STATE_HOME"]) / "lent"
    return [*place.iterdir()] if place.exists() else []


@pytest.fixture(autouse=True)
def _on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


def runner(user: User) -> tuple[str, str]:
    return "--credentials", f"impersonate:{user.standins.email('runner')}"


def test_client_libraries_and_gcloud_are_let_in_without_a_key(user: User) -> None:
    """google.auth.default() finds tokens, Spanner admits them, and nothing secret is in sight."""
    user.create()
    database = Contexts.load().get("local")
    name = "projects/{project}/instances/{instance}/databases/{database}".format(**database)
    python = [sys.executable, "-c", _LIBRARIES, name, database["spanner_endpoint"]]
    ended = user("exec", user.secret, "--", *python)
    assert ended.exit_code == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["project"], told["row"], told["same"]) == ("spanctl-local", "7", True)
    assert told["in_environ"] == []
    assert told["document"]["type"] == "external_account"
    assert not {"private_key", "refresh_token", "token"} & {*told["document"]}
    assert not Path(told["folder"]).exists()
    if shutil.which("gcloud"):
        gcloud = ("env", "-u", "PYTHONPATH", "gcloud", "iam", "service-accounts", "list")
        ended = user("exec", user.secret, "--", *gcloud)
        assert ended.exit_code == 1, "the runner has no such role"
        assert "Permission" in ended.stderr, ended.stderr
        mine = ("exec", "--credentials", "adc", "--", *gcloud)
        ended = user(*mine, env={"CLOUDSDK_CORE_DISABLE_PROMPTS": "1"})
        assert user.standins.email("runner") in ended.stdout, ended.stderr


def test_a_nested_spanctl_acts_as_the_same(user: User) -> None:
    """SPANCTL_CONTEXT and the document lead a spanctl inside to the same principal."""
    inner = [sys.executable, "-m", "spanctl_cli.main", "creds", "check", "-o", "json"]
    ended = user("exec", *runner(user), "--lifetime", "10m", "--", *inner)
    assert ended.exit_code == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["principal"] == user.standins.email("runner")
    assert told["standing"] == "proven"
    assert told["reads"]
    assert 400 < told["seconds_left"] <= 600
    other = ["sh", "-c", "echo $SPANCTL_CONTEXT"]
    Contexts.load().with_context("other", Contexts.load().get("local")).save()
    command = [sys.executable, "-m", "spanctl_cli.main", "-c", "other", "creds", "exec", "--"]
    assert user.run([*command, *other]).stdout == "other\n"


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143), ("kill -KILL $$", 137)],
)
@pytest.mark.usefixtures("user")
def test_the_childs_end_is_ours(spanctl: Spanctl, script: str, code: int) -> None:
    """Its exit code is passed through, a signal as 128 and its number; no file is left."""
    ended = spanctl("creds", "exec", "--", "sh", "-c", script)
    assert (ended.exit_code, ended.stdout, ended.stderr) == (code, "", "")
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    assert lent() == []


@pytest.mark.usefixtures("user")
def test_pipes_and_words_pass_untouched() -> None:
    """stdin, stdout and stderr are the child's, byte for byte, and so are its arguments."""
    command = [sys.executable, "-m", "spanctl_cli.main", "creds", "exec", "--"]
    words = ["-o", "json", "--", "--help", "a b", "é"]
    script = 'cat; printf "%s\\n" "$@" >&2'
    done = subprocess.run(
        [*command, "sh", "-c", script, "sh", *words],
        env=child_environment(),
        input=b"\x00\xff\n",
        capture_output=True,
        timeout=_PATIENCE,
        check=True,
    )
    assert done.stdout == b"\x00\xff\n"
    assert done.stderr.decode().splitlines() == words


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--", "there-is-no-such-program"), 127, "there is no command 'there-is-no-such-program'"),
        (("--", "/etc/passwd"), 126, "can't execute '/etc/passwd': Permission denied"),
        (("--", "/"), 126, "can't execute '/': Permission denied"),
        (("--",), 2, "no command was given"),
        (("true",), 2, "no command was given"),
        (("a", "--credentials", "adc", "--", "true"), 2, "exclude each other"),
        (("--lifetime", "5m", "--", "true"), 2, "tokens that are minted"),
        (("--credentials", "impersonate:a@b.c", "--lifetime", "13h", "--", "true"), 2, "12 hours"),
        (("--credentials", "ya29.pasted", "--", "true"), 2, "no name of a secret"),
        (("nobody", "--", "true"), 5, "there is no secret"),
    ],
)
@pytest.mark.usefixtures("user")
def test_what_can_not_be_run_is_said(
    spanctl: Spanctl, args: tuple[str, ...], code: int, said: str
) -> None:
    """A shell's codes for a missing program, ours for the rest; one line says what is wrong."""
    ended = spanctl("creds", "exec", *args)
    assert (ended.exit_code, ended.stdout) == (code, ""), ended.stderr
    error, *hint = ended.stderr.splitlines()
    assert said in error
    assert "pasted" not in ended.stderr
    assert len(hint) == (0 if code in {126, 127} else 1)
    assert lent() == []


@pytest.fixture
def waiting(user: User) -> Iterator[Callable[[], tuple[subprocess.Popen[str], int, Path]]]:
    """Return a function that starts a child which waits for a signal."""
    started: list[tuple[subprocess.Popen[str], int]] = []

    def start(**how: Any) -> tuple[subprocess.Popen[str], int, Path]:
        ours = [sys.executable, "-m", "spanctl_cli.main", "creds", "exec", *runner(user), "--"]
        process = subprocess.Popen(
            [*ours, sys.executable, "-c", _WAITING],
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **how,
        )
        assert process.stdout
        assert process.stderr
        pid, folder = process.stdout.readline().split() or ["", process.stderr.read()]
        started.append((process, int(pid)))
        return process, int(pid), Path(folder)

    yield start
    for process, pid in started:
        process.kill()
        process.wait()
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1])
def test_signals_reach_the_child(waiting: Any, number: signal.Signals) -> None:
    """It gets each of them once and may end as it likes; then the files are gone."""
    process, _, folder = waiting(start_new_session=True)
    assert (folder / "token").exists()
    process.send_signal(number)
    out, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out, err) == (9, f"{number.name} 1\n", "")
    assert not folder.exists()


def test_a_killed_lender_leaves_what_dies_by_itself(waiting: Any, spanctl: Spanctl) -> None:
    """After SIGKILL the endpoint is gone, the child lives, and the next lender tidies up."""
    process, pid, folder = waiting()
    url = json.loads((folder / "credentials.json").read_text())["token_url"]
    port = int(url.rpartition(":")[2].partition("/")[0])
    process.kill()
    process.wait(_PATIENCE)
    listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
    assert f"0100007F:{port:04X}" not in listening
    assert Path(f"/proc/{pid}").exists()
    assert folder.exists(), "nobody is left to remove it"
    assert spanctl("creds", "exec", "--", "true").exit_code == 0
    assert not folder.exists()


def test_ctrl_c_is_the_childs_business(user: User, terminal_keys: Callable[..., Ended]) -> None:
    """On a terminal the child gets Ctrl-C once, ends as it likes, and its code is ours."""
    ours = ["spanctl_cli.main", "creds", "exec", *runner(user), "--"]
    ended = terminal_keys([sys.executable, "-m", *ours, sys.executable, "-c", _WAITING], "\x03")
    assert ended.exit_code == 9, ended.stdout
    assert ended.stdout.splitlines()[-1] == "^CSIGINT 1"  # the terminal shows the key
    assert lent() == []


@pytest.fixture
def terminal_keys() -> Callable[..., Ended]:
    """Return a function that runs a command on a terminal and types keys once it said a line."""
    from tests.fixtures.cli import on_terminal

    def run(command: list[str], keys: str) -> Ended:
        with on_terminal(command, 80) as (process, ours):
            shown = b""
            deadline = time.monotonic() + _PATIENCE
            while b"\n" not in shown and time.monotonic() < deadline:
                shown += os.read(ours, 65536)
            os.write(ours, keys.encode())
            try:
                while part := os.read(ours, 65536):
                    shown += part
            except OSError:
                pass  # Linux's way of saying that the other side closed
            return Ended(process.wait(_PATIENCE), shown.decode().replace("\r\n", "\n"), "")

    return run
