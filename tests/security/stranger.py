"""What owners and strangers do to a stack: commands, requests, and servers of others."""

import contextlib
import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import httpx

from spanctl.local.stack import Stack
from spanctl.orchestration.transport import Transport
from tests.local.conftest import api_of

PATIENCE: Final = 60.0
NOBODY: Final = "65534"
"""Another user."""


def run(environ: Mapping[str, str], *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "spanctl_cli.main", *command],
        env=dict(environ),
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )


def names_of_flows(stack: Stack) -> set[str]:
    api = Transport(api_of(stack))
    try:
        return {one["name"] for one in api.request("POST", "/flows/filter", {})[1]}
    finally:
        api.close()


def preflight(api: str, origin: str) -> int:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = httpx.options(f"{api}/flows/", headers=headers, timeout=PATIENCE)
    allowed = answer.headers.get("Access-Control-Allow-Origin")
    assert allowed == (origin if answer.is_success else None)
    return answer.status_code


@contextlib.contextmanager
def serving(handler: Any) -> Iterator[str]:
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
