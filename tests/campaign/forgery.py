"""Whoever holds Prefect's API alters signed runs in every way, and has them run: none applies."""

import base64
import contextlib
import json
import os
import random
import string
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from spanctl.clock import now
from spanctl.credentials.signing import Signed, attest
from spanctl.invocation import (
    ATTESTATION_LABEL,
    IDEMPOTENCY_KEY_LABEL,
    INITIATOR_LABEL,
    REASON_LABEL,
    SALT_LABEL,
    TARGET_LABEL,
)
from spanctl.ledger.attestation import parse
from spanctl.local.stack import Stack
from spanctl.local.standins import jwt
from spanctl.orchestration.keys import reach
from spanctl.settings import resolve
from spanctl.spanner.actors import signers
from spanctl.spanner.client import Database, Target
from tests.campaign.model import Case, Form, Side, Verdict, in_turn
from tests.fixtures.cli import child_environment

_CENTS: Final = 7
_ROWS: Final = 2_000
_PATIENCE: Final = 600.0
_FINAL: Final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_FLOWS: Final = """
import os

from prefect import flow

from spanctl.flows import transaction


@transaction
def add(txn, k: int, cents: int):
    txn.execute_update("UPDATE t SET v = v + @c WHERE k = @k", {"c": cents, "k": k})


@flow
def pay(k: int, cents: int):
    add(k, cents)


@flow
def naive(k: int, cents: int):
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import spanner

    client = spanner.Client(project="spanctl-local", credentials=AnonymousCredentials())
    database = client.instance("local").database("main")
    sql = "UPDATE t SET v = v + @c WHERE k = @k"
    types = {"c": spanner.param_types.INT64, "k": spanner.param_types.INT64}
    database.run_in_transaction(
        lambda txn: txn.execute_update(sql, {"c": cents, "k": k}, types))
"""
_DDL: Final = "CREATE TABLE t (k INT64 NOT NULL, v INT64 NOT NULL) PRIMARY KEY (k)"
_FILL: Final = "INSERT t (k, v) SELECT k, 0 FROM UNNEST(GENERATE_ARRAY(1, 2000)) AS k"


class Forgery:
    """The campaign."""

    name = "forgery"
    about = (
        "A local stack, its worker, and runs of a deployment that a person has signed: finished"
        " ones, and ones that wait. Whoever holds Prefect's API alters labels, parameters, the"
        " statement or the state, copies all of it to other runs, or mixes these, by chance, and"
        " has each run be run. *wrong* is a row that changed by more than what was signed."
    )
    lanes = 3

    def cases(self, form: Form) -> Sequence[Case]:
        """Alterations of every kind in turn, of finished runs and of those that wait."""
        number = 4 if form is Form.SHORT else 240
        kinds = [f"{phase} {kind}" for kind in KINDS for phase in ("finished", "waiting")]
        naive = Case("naive", {"kind": "finished parameters"}, Side.NAIVE)
        return [*in_turn("kind", kinds, number), naive]

    @contextlib.contextmanager
    def stage(self) -> Iterator["World"]:
        """Open a stack with the flow deployed."""
        with tempfile.TemporaryDirectory(prefix="spanctl-forgery-") as folder, _places(folder):
            stack = Stack()
            try:
                up = stack.up()
                assert up.is_up, up.failures
                assert up.endpoints is not None
                (Path(folder) / "flows.py").write_text(_FLOWS, encoding="utf-8")
                _type("run", "sql", "--ddl", "-e", _DDL)
                _type("run", "sql", "-e", _FILL)
                world = World.opened(Path(folder), up.endpoints.spanner)
                with contextlib.closing(world.http), contextlib.closing(world.database):
                    yield world
            finally:
                stack.down()


@contextlib.contextmanager
def _places(folder: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ["SPANCTL_CONFIG_HOME"] = f"{folder}/config"
    os.environ["SPANCTL_STATE_HOME"] = f"{folder}/state"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _type(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spanctl_cli.main", *command],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@dataclass(slots=True)
class World:
    """The stack, seen by who holds its API; all lanes share it."""

    http: httpx.Client
    target: Target
    database: Database
    deployments: Mapping[str, str]
    rows: Iterator[int]
    lock: threading.Lock = field(default_factory=threading.Lock)
    kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def opened(cls, folder: Path, emulator: str) -> "World":
        """Deploy both flows."""
        reached = reach(resolve())
        assert reached is not None
        assert reached.auth_string is not None
        user, _, word = reached.auth_string.partition(":")
        # A kept connection may be closed by the server while a request is on its way.
        none_kept = httpx.Limits(max_keepalive_connections=0)
        http = httpx.Client(base_url=reached.url, auth=(user, word), timeout=60, limits=none_kept)
        target = Target.from_settings(resolve())
        world = cls(http, target, Database(target), {}, iter(range(1, _ROWS)))
        variables = {"naive": {"env": {"SPANNER_EMULATOR_HOST": emulator}}, "pay": {}}
        made = {}
        for name, given in variables.items():
            flow = world.ask("POST", "/flows/", {"name": name})["id"]
            body = {
                "name": "it",
                "flow_id": flow,
                "work_pool_name": "local",
                "path": str(folder),
                "entrypoint": f"flows.py:{name}",
                "job_variables": given,
            }
            made[name] = world.ask("POST", "/deployments/", body)["id"]
        world.deployments = made
        return world

    @contextlib.contextmanager
    def lane(self) -> Iterator["World"]:
        """Return the world itself."""
        yield self

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask Prefect, again while SQLite's one writer is busy."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            answer = self.http.request(method, path, json=body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return answer.json() if answer.is_success and answer.content else {}

    def row(self) -> int:
        """Return a row that nobody has had."""
        with self.lock:
            return next(self.rows)

    def value(self, k: int) -> int:
        """Return what is in a row."""
        (found,) = self.database.query("SELECT v FROM t WHERE k = @k", {"k": k})
        return int(found[0])

    def signed(self, k: int, dice: random.Random, nonce: str) -> tuple[Signed, dict[str, str]]:
        """Have a person sign what they ask for."""
        labels = {INITIATOR_LABEL: "ada@laptop", REASON_LABEL: f"INC-{k}"}
        if dice.random() < 0.5:
            labels[IDEMPOTENCY_KEY_LABEL] = f"key {k}"
        credentials = self.target.live_credentials()
        assert credentials is not None
        made = attest(
            credentials,
            self.target.identity,
            signers(self.target),
            deployment=self.deployments["pay"],
            nonce=nonce,
            parameters={"k": k, "cents": _CENTS},
            labels=labels,
        )
        return made, {**labels, **made.labels}

    def make(self, flow: str, k: int, nonce: str, labels: Mapping[str, str], *, waits: bool) -> str:
        """Make a flow run."""
        state: dict[str, Any] = {"type": "SCHEDULED"}
        if waits:
            due = (now() + timedelta(days=1)).isoformat()
            state["state_details"] = {"scheduled_time": due}
        body = {
            "parameters": {"k": k, "cents": _CENTS},
            "idempotency_key": nonce,
            "labels": dict(labels),
            "state": state,
        }
        path = f"/deployments/{self.deployments[flow]}/create_flow_run"
        return str(self.ask("POST", path, body)["id"])

    def run_again(self, run: str, **details: Any) -> None:
        """Have a run be run now, whatever it was."""
        state = {"type": "SCHEDULED", "name": "Scheduled", "state_details": details}
        self.ask("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})

    def ended(self, run: str) -> str:
        """Wait for a run's end and return its state."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            state = self.ask("GET", f"/flow_runs/{run}").get("state") or {}
            if state.get("type") in _FINAL:
                return str(state["type"])
            assert time.monotonic() < deadline, (run, state)
            time.sleep(0.3)

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Have a run made, altered and run, and look at the rows."""
        phase, _, kind = case.given["kind"].partition(" ")
        k, other, nonce = self.row(), self.row(), str(uuid.uuid4())
        if case.side is Side.NAIVE:
            flow, labels, signed = "naive", {}, None
        else:
            flow = "pay"
            signed, labels = self.signed(k, dice, nonce)
        run = self.make(flow, k, nonce, labels, waits=phase == "waiting")
        if phase == "finished":
            assert self.ended(run) == "COMPLETED"
            assert self.value(k) == _CENTS
        forged = Forged(self, run, signed, labels, nonce, k, other, dice)
        if case.side is Side.NAIVE:
            forged.patch(parameters={"k": k, "cents": 100 * _CENTS})
        else:
            KINDS[kind](forged)
        ends = []
        for one in [*forged.copies, *([] if forged.gone else [run])]:
            self.run_again(one)
            ends.append(self.ended(one))
        is_whole = kind == "copied" and not forged.gone  # the run itself is as it was
        as_signed = phase == "finished" or kind == "state" or is_whole
        wanted = {k: _CENTS if as_signed else 0, other: 0}
        found = {row: self.value(row) for row in wanted}
        counted = {"runs run again": len(ends), "refused": ends.count("FAILED")}
        if found == wanted:
            return Verdict(counted=counted)
        return Verdict(wrong=1, counted=counted, why=f"{kind} {run}: {found}, not {wanted}")


@dataclass(slots=True)
class Forged:
    """A run in the hands of somebody who alters it."""

    world: World
    run: str
    signed: Signed | None
    labels: Mapping[str, str]
    nonce: str
    k: int
    other: int
    dice: random.Random
    copies: list[str] = field(default_factory=list)
    gone: bool = False

    def patch(self, run: str | None = None, **fields: Any) -> None:
        """Alter a run."""
        self.world.ask("PATCH", f"/flow_runs/{run or self.run}", fields)

    def label(self, labels: Mapping[str, Any]) -> None:
        """Put labels on the run."""
        self.world.ask("PATCH", f"/flow_runs/{self.run}/labels", dict(labels))


def _word(dice: random.Random) -> Any:
    letters = string.ascii_letters + string.digits + " /=%:.,éß中"
    text = "".join(dice.choices(letters, k=dice.choice((1, 8, 40, 2_000))))
    return dice.choice((text, text, "", dice.randrange(1000), dice.random(), True, False))


def labels(forged: Forged) -> None:
    """Put on one label of ours, or several."""
    dice = forged.dice
    names = [IDEMPOTENCY_KEY_LABEL, REASON_LABEL, INITIATOR_LABEL, TARGET_LABEL, "spanctl.new"]
    chosen = dice.sample(names, dice.randint(1, 3))
    forged.label({name: _word(dice) for name in chosen})


def parameters(forged: Forged) -> None:
    """Change, retype, add or leave out parameters."""
    dice, k = forged.dice, forged.k
    cents: Sequence[Any] = (8, -7, 7.0001, "8", 10**18, True, None)
    forged.patch(
        parameters=dice.choice(
            (
                {"k": forged.other, "cents": _CENTS},
                {"k": k, "cents": dice.choice(cents)},
                {"k": k, "cents": dice.randrange(8, 10**6)},
                {"k": k, "cents": _CENTS, "more": _word(dice)},
                {"cents": _CENTS},
            )
        )
    )


def _forgeries(forged: Forged) -> Mapping[str, Callable[[], str]]:
    signed, dice = forged.signed, forged.dice
    assert signed is not None
    header, claims, signature = signed.text.split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "=="))

    def changed() -> str:
        name = dice.choice(sorted({*said} - {"aud"}))
        text = json.dumps({**said, name: "boss@example.com"}).encode()
        return f"{header}.{base64.urlsafe_b64encode(text).rstrip(b'=').decode()}.{signature}"

    def flipped() -> str:
        text = list(signed.text)
        at = dice.randrange(len(text))
        text[at] = "A" if text[at] != "A" else "B"
        return "".join(text)

    def own() -> str:
        payload = json.dumps({**said, "labels": {}})
        return jwt.sign(payload, jwt.private_pem(jwt.new_key()), parse(signed.text).key_id)

    def unsigned() -> str:
        head = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k"}').rstrip(b"=").decode()
        return f"{head}.{claims}."

    def cut() -> str:
        return signed.text[: dice.randrange(len(signed.text))]

    return {one.__name__: one for one in (changed, flipped, own, unsigned, cut)}


def statement(forged: Forged) -> None:
    """Put another statement in its place, or another salt, beside another reason or not."""
    known = _forgeries(forged)
    text = known[forged.dice.choice(sorted(known))]()
    altered: dict[str, Any] = {ATTESTATION_LABEL: text}
    if forged.dice.random() < 0.2:
        altered = {SALT_LABEL: _word(forged.dice)}
    if forged.dice.random() < 0.5:
        altered[REASON_LABEL] = "the boss asked"
    forged.label(altered)


def state(forged: Forged) -> None:
    """Send it through other states first; nothing else of it changes."""
    kinds = ["PENDING", "RUNNING", "FAILED", "CRASHED", "CANCELLED", "PAUSED", "COMPLETED"]
    for kind in forged.dice.sample(kinds, forged.dice.randint(1, 3)):
        body = {"state": {"type": kind, "name": kind.title()}, "force": True}
        forged.world.ask("POST", f"/flow_runs/{forged.run}/set_state", body)
    forged.patch(name=f"forged {forged.k}", tags=["spanctl.recover"])


def copied(forged: Forged) -> None:
    """Make other runs with what this one has: its labels and its statement, or its very key."""
    world, dice = forged.world, forged.dice
    if dice.random() < 0.5:
        nonce = f"{forged.nonce}{_word(dice)}x"
    else:
        nonce, forged.gone = forged.nonce, True
        world.ask("DELETE", f"/flow_runs/{forged.run}")
    labels_ = {**forged.labels, IDEMPOTENCY_KEY_LABEL: f"copied {forged.k}"}
    forged.copies.append(world.make("pay", forged.k, nonce, labels_, waits=True))


def swapped(forged: Forged) -> None:
    """Give it the labels, and so the statement, of another run that somebody has signed."""
    nonce = str(uuid.uuid4())
    _, others = forged.world.signed(forged.other, forged.dice, nonce)
    forged.label(others)
    if forged.dice.random() < 0.5:
        forged.patch(parameters={"k": forged.other, "cents": _CENTS})


def mixed(forged: Forged) -> None:
    """Do several of these."""
    for one in forged.dice.sample((labels, parameters, statement, swapped), 2):
        one(forged)


KINDS: Final[Mapping[str, Callable[[Forged], None]]] = {
    one.__name__: one for one in (labels, parameters, statement, state, copied, swapped, mixed)
}
