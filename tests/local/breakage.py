"""A real stack, and everything that can be done to it."""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from spanctl.local import ports
from spanctl.local.database import NAME
from spanctl.local.processes import MARK, identity
from spanctl.local.stack import Stack
from spanctl.local.standins.files import Places
from spanctl.orchestration.connections import basic
from spanctl.orchestration.transport import Transport
from spanctl.settings import Contexts
from spanctl.spanner import admin
from spanctl.spanner.rpc import Target
from tests.fixtures.cli import Spanctl, child_environment
from tests.local.conftest import api_of
from tests.local.test_stack import secret_manager, until

HOLDING = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(600)
"""


@dataclass
class Lab:
    """The stack, and whoever works with it in this process."""

    stack: Stack
    spanctl: Spanctl
    patch: pytest.MonkeyPatch
    contexts: Path
    others: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def places(self) -> Places:
        return Places(self.stack.folder.identity)

    def pid(self, part: str) -> int:
        return self.stack.folder.load().parts[part].pid

    def port(self, name: str) -> int:
        return self.stack.folder.load().ports[name]

    def look(self) -> dict[str, dict[str, Any]]:
        result = self.spanctl("doctor", "-o", "json")
        document = json.loads(result.stdout)
        assert result.exit_code == document["worst"], result.stderr
        return {item["part"]: item for item in document["items"]}

    def type(self, line: str) -> None:
        """Run what is printed, as it is printed."""
        for command in line.split(" && "):
            words = shlex.split(command)
            if words[0] == "unset":
                for name in words[1:]:
                    self.patch.delenv(name)
            elif words[0] == "spanctl":
                result = self.spanctl(*words[1:])
                assert result.exit_code == 0, (command, result.stderr)
            else:
                folder = Path(sys.executable).parent
                search = f"{folder}{os.pathsep}{os.environ['PATH']}"
                subprocess.run(
                    ["/bin/sh", "-c", command],
                    env=child_environment({"PATH": search}),
                    capture_output=True,
                    check=True,
                    timeout=60,
                )

    def signal(self, part: str, number: signal.Signals) -> None:
        pid = self.pid(part)
        os.kill(pid, number)
        if number == signal.SIGKILL:
            until(lambda: identity(pid) is None)

    def alter(self, *statements: str) -> None:
        target = Target(database=NAME, emulator_host=f"127.0.0.1:{self.port('emulator')}")
        admin.execute_ddl(target, list(statements), None)

    def setting(self, name: str, value: str) -> None:
        contexts = Contexts.load(self.contexts)
        contexts.with_context("local", {**contexts.get("local"), name: value}).save()

    def login(self, name: str, value: str) -> None:
        login = {**json.loads(self.places.user.read_text()), name: value}
        self.places.user.write_text(json.dumps(login))

    def take_ports(self, part: str, *names: str) -> None:
        taken = [self.port(name) for name in names]
        self.signal(part, signal.SIGKILL)
        # The kernel closes what was killed a moment later.
        until(lambda: all(ports.is_free(port) for port in taken))
        for port in taken:
            self.others.enter_context(socket.create_server(("127.0.0.1", port)))

    def program(self, code: str, *args: str, mark: str = "") -> "subprocess.Popen[str]":
        child = self.others.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", code, *args],
                env=child_environment({MARK: mark}),
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        self.others.callback(child.kill)
        return child


def corrupt_bundle(lab: Lab) -> None:
    lab.places.bundle.write_text("no certificate")


def another_bundle(lab: Lab) -> None:
    """Another CA takes the place of the stack's, as after a restore of somebody's home."""
    from spanctl.local.standins.authority import Authority

    other = Places(lab.stack.folder.path / "other")
    Authority(other).ensure({})
    lab.places.bundle.write_bytes(other.ca_certificate.read_bytes())


def fill_disk(lab: Lab) -> None:
    """The kernel refuses what makes the server's files longer, as on a disk that is full."""
    import resource

    _, most = resource.prlimit(lab.pid("server"), resource.RLIMIT_FSIZE)
    resource.prlimit(lab.pid("server"), resource.RLIMIT_FSIZE, (1000, most))


def lock_prefect(lab: Lab) -> None:
    child = lab.program(HOLDING, str(lab.stack.folder.prefect_home / "prefect.db"))
    assert child.stdout is not None
    child.stdout.readline()
    lab.patch.setattr(lab, "held", child.pid, raising=False)


def pause_pool(lab: Lab) -> None:
    api = Transport(api_of(lab.stack))
    api.request("PATCH", "/work_pools/local", {"is_paused": True})
    api.close()


def break_profiles(lab: Lab) -> None:
    profiles = lab.stack.folder.path / "profiles.toml"
    profiles.write_text("not = [toml")
    lab.patch.setenv("PREFECT_PROFILES_PATH", str(profiles))


def disable_secret(lab: Lab) -> None:
    """The credentials are in a secret, of which somebody disables each version."""
    lab.type("spanctl creds create doc --impersonate runner@spanctl-local.iam.gserviceaccount.com")
    lab.setting("credentials", "secret:projects/spanctl-local/secrets/doc")
    client = secret_manager(lab.stack)
    for version in client.list_secret_versions(parent="projects/spanctl-local/secrets/doc"):
        client.disable_secret_version(name=version.name)
    client.transport.close()


class Guarded(BaseHTTPRequestHandler):
    """A Prefect API that asks for a password, and has one managed pool."""

    def do_GET(self) -> None:
        asked = self.headers.get("Authorization"), self.path.removeprefix("/api")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pool = {"name": "a", "type": "prefect:managed", "is_paused": False}
        nobody: list[object] = []
        known = {
            "/work_pools/filter": [pool],
            "/work_pools/a/workers/filter": nobody,
            "/flow_runs/filter": nobody,
        }
        status, answer = 200, known.get(asked[1], {"id": "a"})
        if asked[1] == "/admin/version":
            status = 404
        elif asked[0] != basic("user:word"):
            status = 401
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the base class's names

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def guard_prefect(lab: Lab) -> None:
    """The right password is in a secret, and a wrong one in the environment."""
    server = lab.others.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Guarded))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    lab.others.callback(server.shutdown)
    client = secret_manager(lab.stack)
    where, automatic = "projects/spanctl-local", {"replication": {"automatic": {}}}
    client.create_secret(parent=where, secret_id="opens", secret=automatic)  # noqa: S106 - a name
    client.add_secret_version(parent=f"{where}/secrets/opens", payload={"data": b"user:word"})
    client.transport.close()
    contexts = Contexts.load(lab.contexts)
    changed = {
        "prefect_api_url": f"http://127.0.0.1:{server.server_port}/api",
        "prefect_auth_string": f"secret:{where}/secrets/opens@1",
    }
    local = {name: one for name, one in contexts.get("local").items() if name != "work_pool"}
    contexts.with_context("guarded", {**local, **changed}).save()
    lab.patch.setenv("SPANCTL_CONTEXT", "guarded")
    lab.patch.setenv("PREFECT_API_AUTH_STRING", "user:wrong")


def reuse_pid(lab: Lab) -> None:
    lab.signal("identity", signal.SIGKILL)
    child = lab.program("import time; time.sleep(600)")
    known = json.loads(lab.stack.folder.state_file.read_text())
    known["parts"]["identity"]["pid"] = child.pid
    lab.stack.folder.state_file.write_text(json.dumps(known))
