"""A stack on a machine that has proxies, and that others have used before."""

import subprocess
import sys
from pathlib import Path

import pytest

from spanctl.local.stack import Stack
from tests.fixtures.cli import child_environment
from tests.local.conftest import opened
from tests.local.test_stack import deploy

pytestmark = [pytest.mark.emulator, pytest.mark.prefect]

NOBODY = "http://127.0.0.1:9"
PROXIES = {
    "HTTP_PROXY": NOBODY,
    "https_proxy": NOBODY,
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "grpc_proxy": NOBODY,
    "NO_PROXY": "example.com",
}
FLOW = """
from prefect import flow
from spanctl.flows import transaction


@transaction
def look(txn):
    txn.execute_sql("SELECT 1")


@flow
def work():
    look()


if __name__ == "__main__":
    work()
"""
PLAIN = """
from spanctl.settings import resolve
from spanctl.spanner.client import Database, Target

with Database(Target.from_settings(resolve())) as database:
    print(*next(iter(database.query("SELECT 1"))))
"""


def test_proxies_and_a_shared_folder_of_somebody_else(tmp_path: Path) -> None:
    """Every part and every command reaches this machine; what is temporary is the stack's own."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    (shared / "runner_storage").touch()  # Prefect's workers would share a folder of that name
    places = {
        "SPANCTL_CONFIG_HOME": str(tmp_path / "config"),
        "SPANCTL_STATE_HOME": str(tmp_path / "state"),
        "TMPDIR": str(shared),
    }
    environ = {**child_environment(), **PROXIES, **places}
    flow = tmp_path / "work.py"
    flow.write_text(FLOW, encoding="utf-8")
    stack = Stack(environ=environ)
    try:
        result = stack.up()
        assert result.is_up, result.failures
        state, (_, _, context, read) = deploy(stack, tmp_path, 0)
        assert (state, context, read) == ("Completed", "local", "1")
        api = opened(stack)
        for command in (
            ("-m", "spanctl_cli.main", "txn", "list"),
            ("-m", "spanctl_cli.main", "runs", "list"),
            ("-m", "spanctl_cli.main", "creds", "check"),
            ("-m", "spanctl_cli.main", "run", "sql", "-e", "SELECT 1"),
            ("-m", "spanctl_cli.main", "run", f"{flow}:work"),
            ("-m", "spanctl_cli.main", "doctor"),
            ("-c", PLAIN),
            (str(flow),),
        ):
            done = subprocess.run(
                [sys.executable, *command],
                env={**environ, **(api if command == (str(flow),) else {})},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, (command, done.stderr)
    finally:
        stack.down()
    assert [one.name for one in shared.iterdir()] == ["runner_storage"]
