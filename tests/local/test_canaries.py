"""Every command on a whole stack, with canaries wherever there is material: none gets out.

One story is played on one stack; what it left behind is looked at from several sides: where a
canary is, where processes connected to, and which permissions each command has used.
"""

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
import typer
from google.auth.credentials import AnonymousCredentials
from google.cloud.spanner_v1 import Client
from typer.testing import CliRunner

from spanctl.clock import now
from spanctl.credentials import endpoints as identity
from spanctl.credentials import resolve as resolving
from spanctl.credentials.document import access_token_document
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.reference import SecretName
from spanctl.credentials.secret import Secret
from spanctl.flows.runs import registry
from spanctl.ledger.keys import OperationKey
from spanctl.local import parts
from spanctl.local.parts import Endpoints
from spanctl.local.stack import Stack
from spanctl.local.standins.switches import Switches
from spanctl.settings import resolve
from spanctl.spanner import client
from spanctl.spanner.run import Run
from spanctl_cli.main import build
from tests.fixtures.cli import child_environment
from tests.fixtures.dead import bury
from tests.local import evidence, scenarios
from tests.local.evidence import Canaries, Processes
from tests.local.identity import PARENT, PROJECT, StandIns
from tests.local.scenarios import BAD, Typed
from tests.local.watch.sitecustomize import FOLDER, is_local, of_target

pytestmark = [pytest.mark.emulator, pytest.mark.prefect]

ROOT = Path(__file__).parents[2]
WATCH = Path(__file__).parent / "watch"
CONTROL = "control-canary-" + "4711" * 5
NEEDED = {
    "BeginTransaction partitioned_dml": "databases.beginPartitionedDmlTransaction",
    "BeginTransaction read_only": "databases.beginReadOnlyTransaction",
    "BeginTransaction read_write": "databases.beginOrRollbackReadWriteTransaction",
    "Commit": "databases.write",
    "CreateSession": "sessions.create",
    "DeleteSession": "sessions.delete",
    "GetSession": "sessions.get",
    "ExecuteSql": "databases.select",
    "ExecuteStreamingSql": "databases.select",
    "GetDatabase": "databases.get",
    "GetDatabaseDdl": "databases.getDdl",
    "GetOperation": "databaseOperations.get",
    "Rollback": "databases.beginOrRollbackReadWriteTransaction",
    "StreamingRead": "databases.read",
    "TestIamPermissions": "",
    "UpdateDatabaseDdl": "databases.updateDdl",
}
"""RPC of Spanner to the permission that Google's reference asks for; none for one's own."""
NEEDED_OF_YOU = {
    "AccessSecretVersion": "versions.access",
    "AddSecretVersion": "versions.add",
    "CreateSecret": "secrets.create",
    "DestroySecretVersion": "versions.destroy",
    "DisableSecretVersion": "versions.disable",
    "GetSecret": "secrets.get",
    "GetSecretVersion": "versions.get",
    "ListSecretVersions": "versions.list",
    "ListSecrets": "secrets.list",
    "UpdateSecret": "secrets.update",
    "DELETE keys/*": "serviceAccountKeys.delete",
    "GET keys": "serviceAccountKeys.list",
    "GET keys/*": "serviceAccountKeys.get",
    "POST keys": "serviceAccountKeys.create",
    "POST keys/*:disable": "serviceAccountKeys.disable",
    "generateAccessToken": "getAccessToken",
    "signJwt": "signJwt",
    "token": "",
    "tokeninfo": "",
}
"""The same for Secret Manager and IAM."""
MATERIAL = (
    "user.json",
    "ca.key",
    "server.key",
    "identity.db",
    "identity.db-wal",
    "identity.db-shm",
)
"""The files of the stand-ins' folder that hold material by design, for their owner alone."""


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each command in the tree."""
    inside = getattr(command, "commands", None)
    if inside is None:
        yield path
    for name, below in (inside or {}).items():
        yield from leaves(below, (*path, name))


TREE = tuple(leaves(typer.main.get_command(build())))


def command_of(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return which command a line runs: the defaults of ``run`` and ``audit`` included."""
    plain = [word for word in words if word not in {"--verbose", "--debug"}]
    found = max((path for path in TREE if tuple(plain[: len(path)]) == path), key=len, default=())
    if not found and plain[0] == "run":
        return ("run", "target")
    return found


class Recorder(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]
    """Notes the RPCs of this process, and the tokens that they carry."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def _note(self, details: Any, request: Any) -> None:
        method = details.method
        if method.endswith("/BeginTransaction"):
            raw = getattr(request, "_pb", request)
            method += f" {raw.options.WhichOneof('mode')}"
        self._world.rpcs.add(method)
        for key, value in details.metadata or ():
            if key == "authorization":
                self._world.canaries.plant(f"a token in use {hash(value)}", value.split()[1])

    def intercept_unary_unary(self, send: Any, details: Any, request: Any) -> Any:
        self._note(details, request)
        return send(details, request)

    def intercept_unary_stream(self, send: Any, details: Any, request: Any) -> Any:
        self._note(details, request)
        return send(details, request)


@dataclass
class World:
    """The stack, what is planted in it, and what was seen."""

    home: Path
    watched: Path
    environ: dict[str, str]
    stack: Stack
    canaries: Canaries = field(default_factory=Canaries)
    control: Canaries = field(default_factory=Canaries)
    shown: list[tuple[str, bytes]] = field(default_factory=list)
    places: list[tuple[str, bytes]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    rpcs: set[str] = field(default_factory=set)
    used: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    played: set[tuple[str, ...]] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    @property
    def identity(self) -> StandIns:
        served = StandIns(self.stack.folder.identity)
        served.ports.update({door: self.stack.folder.load().ports[door] for door in parts.DOORS})
        return served

    def type(self, typed: Typed) -> str:
        """Run a line in this process; keep what it shows, and the RPCs that it sent."""
        self.names["n"] = uuid.uuid4().hex
        words = tuple(word.format(**self.names) for word in typed.words)
        environ = {name: value.format(**self.names) for name, value in typed.environ.items()}
        forget()
        self.rpcs.clear()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            if typed.crash:
                patch.setattr(LiveCredentials, "ensure", crashing)
            result = CliRunner().invoke(build(), list(words), prog_name="spanctl")
        registry.close_all()  # as a process of its own does when it exits
        told = " ".join(words)
        self.shown.append((f"output of {told}", result.output.encode()))
        if result.exit_code == 0 if typed.code == BAD else result.exit_code != typed.code:
            self.wrong.append(f"{told}: {result.exit_code}, not {typed.code}\n{result.output}")
            self.wrong += self.server_errors()
        self.played.add(command_of(words))
        if (typed.code, typed.environ) == (0, {}) and "--help" not in words:
            self.used.setdefault(command_of(words), set()).update(self.rpcs)
        return result.stdout

    def server_errors(self) -> list[str]:
        """Return what Prefect's server last wrote of its errors: the stack is gone at the end."""
        log = self.stack.folder.log("server")
        told = log.read_text(errors="replace").splitlines() if log.exists() else []
        return [line for line in told if "rror" in line or "prefect/server" in line][-30:]

    def child(self, *words: str, **environ: str) -> None:
        """Run a line in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "spanctl_cli.entry", *words],
            env=self.environ | environ,
            capture_output=True,
            check=False,
            timeout=120,
        )
        self.shown.append((f"output of {' '.join(words)}, a child", done.stdout + done.stderr))


def forget() -> None:
    """Begin as a process of its own does: without tokens and connections."""
    resolving.shared.cache_clear()
    for database in client._shared.values():  # noqa: SLF001
        database.close()
    client._shared.clear()  # noqa: SLF001


real_ensure = LiveCredentials.ensure


def crashing(self: LiveCredentials) -> Secret:
    """Fetch a token, and die of an error that quotes it."""
    msg = f"unforeseen: {real_ensure(self).reveal_text()}"
    raise RuntimeError(msg)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The story, played once."""
    home, watched = tmp_path_factory.mktemp("canaries"), tmp_path_factory.mktemp("watched")
    environ = child_environment(
        {
            "SPANCTL_CONFIG_HOME": str(home / "config"),
            "SPANCTL_STATE_HOME": str(home / "state"),
            "XDG_RUNTIME_DIR": "",
            FOLDER: str(watched),
            "GRPC_TRACE": "all",
            "GRPC_VERBOSITY": "DEBUG",
            "GOOGLE_SDK_PYTHON_LOGGING_SCOPE": "google",
        }
    )
    environ["PYTHONPATH"] = f"{WATCH}{os.pathsep}{environ['PYTHONPATH']}"
    found = World(home, watched, environ, Stack(environ=environ))
    with pytest.MonkeyPatch.context() as patch, debugging(home / "debug.log"):
        for name in (
            "SPANCTL_CONFIG_HOME",
            "SPANCTL_STATE_HOME",
            "XDG_RUNTIME_DIR",
            "PYTHONPATH",
            FOLDER,
        ):
            patch.setenv(name, environ[name])
        recording(patch, found)
        try:
            play(found)
            yield found
        finally:
            found.stack.down()


@contextlib.contextmanager
def debugging(path: Path) -> Iterator[None]:
    """Log everything, as a careless program does."""
    handler = logging.FileHandler(path)
    level = logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logging.root.setLevel(level)
        logging.root.removeHandler(handler)
        handler.close()


def recording(patch: pytest.MonkeyPatch, world: World) -> None:
    """Note each RPC of this process, over gRPC and over HTTPS."""
    secure = grpc.secure_channel  # the emulator itself, on the other one, asks nobody

    def opened(target: str, *args: Any, **kwargs: Any) -> Any:
        assert is_local(of_target(target)), target
        return grpc.intercept_channel(secure(target, *args, **kwargs), Recorder(world))

    patch.setattr(grpc, "secure_channel", opened)
    send = requests.Session.send

    def sent(self: Any, request: Any, **kwargs: Any) -> Any:
        path = re.sub(r"(serviceAccounts|keys)/[^/:?]+", r"\1/*", request.path_url.split("?")[0])
        world.rpcs.add(f"{request.method} {path}")
        return send(self, request, **kwargs)

    patch.setattr(requests.Session, "send", sent)


def play(world: World) -> None:
    """Plant, type everything, leak on purpose, and collect what is left."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    with Processes(f"{FOLDER}={world.watched}") as processes:
        world.child("local", "up", SPANCTL_RECOVER_EVERY="0s")
        endpoints = world.stack.status().endpoints
        assert endpoints is not None, world.shown[-1][1].decode()
        auth = world.stack.folder.auth.read_text(encoding="utf-8")
        # A process that has imported Prefect already doesn't look into its environment again.
        told = {PREFECT_API_URL: endpoints.prefect_api_url, PREFECT_API_AUTH_STRING: auth}
        with temporary_settings(told):
            plant(world)
            deploy(world)
            type_everything(world)
            leak(world)
            collect(world, endpoints, auth)
        for typed in scenarios.LAST:
            world.type(typed)
    world.places += world.shown
    world.places += processes.seen.items()
    world.places += evidence.files(world.watched)


def type_everything(world: World) -> None:
    """Tell the story."""
    first, *rest = scenarios.STORY
    for typed in scenarios.BEGINNING:
        world.type(typed)
    listed = json.loads(world.type(first))
    world.names["txn"] = listed["items"][0]["txn_id"]
    world.names["run"] = listed["items"][0]["root_run"]
    for typed in (*rest, *scenarios.ELSEWHERE):
        world.type(typed)
    failed = world.type(scenarios.t("runs list --state failed -d settle/canary -o name"))
    world.names["failed"] = failed.split()[0]
    for typed in scenarios.FAILED:
        world.type(typed)
    Path(world.names["mended"]).touch()
    going = world.type(scenarios.t("run settle/canary -p key=d3 -p suspend=true --detach -o name"))
    world.names["going"] = going.strip()
    abandon(world)
    for typed in (*scenarios.MENDED, *scenarios.LIMBO):
        world.type(typed)
    replant(world)
    switches = world.stack.folder.identity / "switches.json"
    Switches(corrupt=True).save(switches)
    for typed in scenarios.DAMAGED:
        world.type(typed)
    switches.unlink()
    world.child("--verbose", "creds", "check", "lent")
    world.child(
        "run", "sql", "-e", "SELECT 1", SPANCTL_CREDENTIALS=f"secret:{world.names['broken']}"
    )
    completing = {"_SPANCTL_COMPLETE": "complete_bash", "COMP_WORDS": "spanctl creds show "}
    world.child(**completing, COMP_CWORD="3")
    for path in TREE:
        world.type(Typed((*path, "--help")))


def abandon(world: World) -> None:
    """Lease three transactions as an executor that was killed then."""
    root = f"job-{uuid.uuid4()}"
    target = client.Target.from_settings(resolve(environ=world.environ))
    with client.Database(target) as database:
        for number in range(3):
            run = Run(database, root)
            (call,) = run.lease([OperationKey(root, (), "pay", str(number))])
            world.names[f"left{number}"] = call.txn_id
            bury(run)


def leak(world: World) -> None:
    """Leak the control, wherever something can be leaked to."""
    note, folder = f"note={CONTROL}", f"folder={world.home / 'state'}"
    words = ("run", "leaky/canary", "-p", "key=c1", "-p", note, "-p", folder, "--timeout", "120s")
    world.type(Typed(words, 1))
    world.child("audit", "show", CONTROL, LEAK=CONTROL)


def plant(world: World) -> None:
    """Put a canary wherever the product keeps material."""
    served, canaries = world.identity, world.canaries
    user = json.loads(served.places.user.read_text())
    canaries.plant("refresh token", user["refresh_token"])
    canaries.plant("any token's beginning", evidence.SHAPE)
    auth = world.stack.folder.auth.read_text(encoding="utf-8")
    canaries.plant("Prefect's auth string", auth)
    canaries.plant("the password in it", auth.partition(":")[2])
    world.control.plant("control", CONTROL)
    endpoints = identity.Endpoints.from_settings(resolve(environ=world.environ))
    store = resolving.resolve_store("adc", endpoints)
    manager = store._client(endpoints.secretmanager)  # noqa: SLF001 - it makes no secrets itself
    key = served.new_key("runner")
    canaries.plant("private key", key["private_key"])
    wrong = {
        **key,
        "private_key": "-----BEGIN PRIVATE KEY-----\nno-canary-key-0123456789abcdef\n-----END",
    }
    canaries.plant("wrong key", "no-canary-key-0123456789abcdef")
    documents = {
        "keyed": json.dumps(key),
        "wrong": json.dumps(wrong),
        "expired": token(canaries, "expired", -60),
        "refused": token(canaries, "refused", 3000),
        "broken": '{"token": "' + canaries.plant("broken", "canary-broken-0123456789") + '", ',
        "planted": canaries.plant("Prefect's key", "pnu_canary0123456789abcdef"),
    }
    for name, document in documents.items():
        manager.create_secret(
            parent=PARENT, secret_id=name, secret={"replication": {"automatic": {}}}
        )
        number = store.add(SecretName(PROJECT, name), Secret(document))
        state = store.get(SecretName(PROJECT, name))
        store.update(
            SecretName(PROJECT, name), aliases={"current": number}, annotations={}, etag=state.etag
        )
    store.close()
    csv, bad = world.home / "rows.csv", world.home / "bad.csv"
    csv.write_text("id,v\ni1,x\n")
    bad.write_text("id,w\ni1\n")
    (world.home / "canary_flows.py").write_text(scenarios.FLOWS)
    imported = canaries.plant("a key in prefect.toml", "pnu_canary-imported-0123456789")
    toml = world.home / "prefect.toml"
    toml.write_text(f'[api]\nurl = "http://127.0.0.1:1/api"\nkey = "{imported}"\n')
    planted = f"projects/{PROJECT}/secrets/planted"
    world.names |= {
        "project": PROJECT,
        "csv": str(csv),
        "bad": str(bad),
        "toml": str(toml),
        "mended": str(world.home / "mended"),
        "flows": str(world.home / "canary_flows.py"),
        "planted": f"secret:{planted}",
        "broken": f"projects/{PROJECT}/secrets/broken",
        "python": sys.executable,
        "pasted": canaries.plant("pasted token", "ya29.canary-pasted-0123456789"),
        "ca": str(served.places.bundle),
    }
    world.type(scenarios.t("context set prefect_api_key={planted}"))


def replant(world: World) -> None:
    """Look for what rotations have made, too."""
    endpoints = identity.Endpoints.from_settings(resolve(environ=world.environ))
    store = resolving.resolve_store("adc", endpoints)
    for name, part in (("lent", "token"), ("keyed", "private_key")):
        payload = store.access(SecretName(PROJECT, name), "current")
        document = json.loads(payload.material.reveal())
        world.canaries.plant(f"{part} in {name}, made by a rotation", document[part])
    store.close()


def token(canaries: Canaries, name: str, seconds: float) -> str:
    """Return the document of a token that no issuer knows."""
    value = canaries.plant(name, f"ya29.canary-{name}-0123456789abcdef")
    runner = f"runner@{PROJECT}.iam.gserviceaccount.com"
    expiry = now() + timedelta(seconds=seconds)
    made = access_token_document(Secret(value), principal=runner, expiry=expiry)
    return made.material.reveal_text()


def deploy(world: World) -> None:
    """Deploy the flows to the stack's worker."""
    from prefect.client.orchestration import get_client
    from prefect.flows import load_flow_from_entrypoint

    with get_client(sync_client=True) as api:
        for name in ("settle", "leaky"):
            entrypoint = f"{world.names['flows']}:{name}"
            flow: Any = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
            api.create_deployment(
                api.create_flow(flow),
                name="canary",
                work_pool_name=parts.POOL,
                path=str(world.home),
                entrypoint=entrypoint,
                parameter_openapi_schema=flow.parameters.model_dump(),
            )


def collect(world: World, endpoints: Endpoints, auth: str) -> None:
    """Take what is on disk, in the emulator and behind Prefect's API."""

    def arrived() -> bool:
        told = evidence.answers(endpoints.prefect_api_url, auth)
        return {"API events", "API logs"} <= world.control.found(told).get("control", set())

    until(arrived)
    folder = world.stack.folder
    material = [*(folder.identity / name for name in MATERIAL), folder.auth, folder.page]
    assert all(path.stat().st_mode & 0o077 == 0 for path in material if path.exists())
    told = [world.home / "canary_flows.py", world.home / "prefect.toml"]
    world.places += evidence.files(world.home, but=[*material, *told])
    world.places += evidence.tables(folder.prefect_home / "prefect.db")
    world.places += evidence.answers(endpoints.prefect_api_url, auth)
    world.places += rows(endpoints.spanner)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what comes by itself."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def rows(emulator: str) -> Iterator[tuple[str, bytes]]:
    """Yield every row of every table in the database, the ledger's among them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPANNER_EMULATOR_HOST", emulator)
        reached = Client(project=PROJECT, credentials=AnonymousCredentials())
        database = reached.instance(parts.INSTANCE).database(parts.DATABASE)
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = ''"
        with database.snapshot(multi_use=True) as snapshot:
            for (table,) in list(snapshot.execute_sql(query)):
                for row in snapshot.execute_sql(f"SELECT * FROM `{table}`"):  # noqa: S608 - its own
                    yield f"Spanner {table}", str(row).encode()
        database.close()


def test_every_command_was_played(world: World) -> None:
    """A command without a scenario is one that nobody has looked at; each ended as it should."""
    assert {path for path in TREE if path not in world.played} == set()
    assert world.wrong == []


def test_no_canary_is_anywhere(world: World) -> None:
    """Material is in the files that hold it by design, and nowhere else, in no encoding."""
    assert world.canaries.found(world.places) == {}


WHERE = (
    "output of ",
    "file state/local/logs/worker.log",
    "file state/leaked.txt",
    "file state/local/prefect-home/",
    "table log",
    "table flow_run",
    "table flow_run_state",
    "table events",
    "table artifact",
    "API flow runs",
    "API logs",
    "API events",
    "API artifacts",
    "process ",
    "Spanner canaries",
    "file ",
)


def test_the_control_is_found_in_each_place(world: World) -> None:
    """A value that a flow leaks on purpose is seen by the same search, wherever it looked."""
    found = world.control.found(world.places)["control"]
    assert [where for where in WHERE if not any(one.startswith(where) for one in found)] == []
    sampled = [data for place, data in world.places if place.startswith("process ")]
    assert any(b"LEAK=" in data for data in sampled)
    assert any(CONTROL.encode() in data.split(b"\0PATH")[0] for data in sampled)


def test_the_search_knows_encodings() -> None:
    """The control: whatever form a value takes is found, and only that."""
    import base64
    import urllib.parse

    canaries = Canaries()
    canaries.plant("one", "canary/+ value?0123456789")
    value = canaries.values["one"]
    for number, form in enumerate(
        (
            value,
            base64.b64encode(b"a" + value + b"z"),
            base64.urlsafe_b64encode(b"ab" + value),
            base64.b64encode(value),
            value.hex().encode(),
            urllib.parse.quote(value, safe="").encode(),
            json.dumps(value.decode()).encode(),
        )
    ):
        assert canaries.found([("here", b"before " + form + b" after")]), number
    assert canaries.found([("here", b"canary/+ value, but another")]) == {}


def permissions(world: World) -> Iterator[str]:
    """Yield the lines of the table: what each command has used when it did its work."""
    for path in TREE:
        cells: list[set[str]] = [set(), set()]
        for rpc in world.used.get(path, ()):
            if "x509" in rpc or "/certs" in rpc:
                continue  # published for everybody
            of_keys = re.match(r"(\w+) .*/(keys\b.*)", rpc)
            name = " ".join(of_keys.groups()) if of_keys else re.split(r"[/:]", rpc)[-1]
            if name in NEEDED_OF_YOU:
                cells[0].add(NEEDED_OF_YOU[name])
            else:
                cells[1].add(NEEDED.get(name, f"unknown: {rpc}"))
        told = [", ".join(sorted(cell - {""})) for cell in cells]
        if any(told):
            yield f"| `{' '.join(path)}` | {told[0]} | {told[1]} |"


def documented() -> list[str]:
    """Return the lines of docs/SECURITY.md that are held against what was recorded."""
    document = (ROOT / "docs" / "SECURITY.md").read_text()
    _, _, told = document.partition("<!-- permissions:")
    return told.partition("<!-- end")[0].splitlines()


def test_the_permissions_that_are_documented_are_those_that_are_used(world: World) -> None:
    """The table in docs/SECURITY.md is what was recorded: nothing is missing, nothing needless."""
    lines = [line for line in documented() if line.startswith("| `")]
    used = list(permissions(world))
    assert lines == used, "recorded:\n" + "\n".join(used)


def test_every_command_was_recorded_doing_its_work(world: World) -> None:
    """None is left out of the table because it only failed; what needs nothing is named too."""
    assert [path for path in TREE if path not in world.used] == []
    needing = {line.split("`")[1] for line in permissions(world)}
    nothing = [f"`{words}`" for words in map(" ".join, TREE) if words not in needing]
    told = [line for line in documented() if line.startswith("Nothing: ")]
    assert told == [f"Nothing: {', '.join(nothing)}."]


def notes(folder: Path) -> list[dict[str, Any]]:
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_no_process_left_the_machine(world: World) -> None:
    """Server, worker, flow runs and commands: each connection and look-up is on loopback."""
    seen = notes(world.watched)
    assert [note for note in seen if not is_local(note["to"])] == []
    assert {note["kind"] for note in seen} >= {"socket.connect", "channel", "http"}
    assert len({path.name for path in world.watched.iterdir()}) > 8, "every process was watched"


@pytest.mark.parametrize(
    "leaving",
    [
        "import socket; socket.create_connection(('192.0.2.1', 443), 1)",
        "import socket; socket.getaddrinfo('metadata.google.internal', 80)",
        "import grpc; grpc.insecure_channel('dns:///spanner.googleapis.com:443')",
        "import httpx; httpx.get('http://192.0.2.1/')",
    ],
)
def test_who_would_leave_is_seen_and_refused(leaving: str, tmp_path: Path) -> None:
    """The control: the same watch notes what isn't this machine, and no byte leaves."""
    environ = child_environment({FOLDER: str(tmp_path)})
    environ["PYTHONPATH"] = f"{WATCH}{os.pathsep}{environ['PYTHONPATH']}"
    done = subprocess.run(
        [sys.executable, "-c", leaving], env=environ, capture_output=True, check=False
    )
    assert done.returncode != 0
    assert b"not this machine" in done.stderr or b"ConnectError" in done.stderr
    assert [note for note in notes(tmp_path) if not is_local(note["to"])]
