"""Start-up stays light and layers stay layers, whatever is added."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spanctl_cli.main import COMMANDS
from tests.fixtures.cli import child_environment
from tests.unit.orchestration.test_transport import Server

ROOT = Path(__file__).parents[2]
HEAVY = {"google", "grpc", "prefect", "httpx", "asyncio", "fastapi", "rich"}
TYPERS_OWN = {"pydantic"}  # Typer imports it to read a value that isn't plain, and to refuse one

_PROBE = """
import contextlib, io, json, sys
from spanctl_cli.main import main
sys.argv = ["spanctl", *{args!r}]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print(json.dumps(sorted(sys.modules)))
"""


def imported_by(*args: str, env: dict[str, str] | None = None) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROBE.format(args=args)],
        env=child_environment(env),
        capture_output=True,
        timeout=60,
        check=True,
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--help",),
        ("--version",),
        ("context", "list"),
        ("context", "show"),
        ("nonsense",),
        *((name, "--help") for name in COMMANDS),
    ],
    ids=" ".join,
)
def test_light_commands_import_no_sdk(args: tuple[str, ...]) -> None:
    """Help, versions, contexts and mistakes load no SDK, and not even Rich."""
    tops = {name.partition(".")[0] for name in imported_by(*args)}
    assert tops & HEAVY == set()
    if args != ("nonsense",):
        assert tops & TYPERS_OWN == set()


def test_asking_for_a_deployments_run_imports_no_prefect() -> None:
    """A deployment runs on its workers: asking for it costs neither Prefect nor Google's SDK."""
    deployment = {"id": "d", "flow_id": "f", "name": "nightly"}
    created = {"id": "r", "flow_id": "f", "name": "bold-fox", "deployment_id": "d"}
    server = Server()
    server.answers = [(200, json.dumps(deployment).encode()), (201, json.dumps(created).encode())]
    try:
        args = ("run", "transfer/nightly", "--detach", "--reason", "ticket 4711", "-o", "json")
        found = imported_by(*args, env={"PREFECT_API_URL": server.url})
    finally:
        server.stop()
    method, path, _, body = server.requests[-1]
    assert (method, path) == ("POST", "/api/deployments/d/create_flow_run")
    assert json.loads(body)["labels"]["spanctl.reason"] == "ticket 4711"
    assert {name.partition(".")[0] for name in found} & {"prefect", "google", "grpc"} == set()


@pytest.mark.parametrize("args", [("runs", "list"), ("runs", "show", "r"), ("deployments", "list")])
def test_looking_at_runs_imports_no_sdk(args: tuple[str, ...]) -> None:
    """Lists of runs cost neither Prefect nor httpx nor Pydantic, nor, unasked, Google's SDK."""
    run = {"id": "r", "flow_id": "f", "name": "r", "state": None}
    server = Server()
    server.answers = [(200, json.dumps([run]).encode()), (200, b"[]")]
    try:
        found = imported_by(*args, env={"PREFECT_API_URL": server.url})
    finally:
        server.stop()
    assert server.requests
    assert {name.partition(".")[0] for name in found} & (HEAVY | TYPERS_OWN) == set()


def test_importing_the_front_end_imports_no_sdk() -> None:
    """``import spanctl_cli.main`` alone is light too, so that completions are quick."""
    code = "import json, sys, spanctl_cli.main; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=child_environment(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    tops = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert tops & (HEAVY | TYPERS_OWN) == set()


@pytest.mark.parametrize("line", ["spanctl ", "spanctl runs show "])
def test_a_tab_imports_neither_typer_nor_a_command(line: str) -> None:
    """Whoever presses TAB waits for little more than Python, for fixed words and for names."""
    code = (
        "import sys; from spanctl_cli.entry import main; main()\n"
        "heavy = {'typer', 'spanctl_cli.main', 'subprocess', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    env = {"_SPANCTL_COMPLETE": "bash", "_SPANCTL_LINE": line}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=child_environment(env),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_every_import_follows_the_layers() -> None:
    """The contracts in pyproject.toml hold for every module."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(program), "--no-cache"],
        cwd=ROOT,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_output_writes_to_stdout() -> None:
    """No module of the front end but the output prints."""
    for path in (ROOT / "cli" / "spanctl_cli").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.parent.name != "output":
            assert "sys.stdout.write" not in text, path
        assert not re.search(r"(?<![.\w])print\(", text), path
        assert "typer.echo" not in text, path
        assert "typer.secho" not in text, path
