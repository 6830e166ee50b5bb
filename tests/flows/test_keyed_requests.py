"""An idempotency key stands for one request: one flow with one set of parameters."""

import hashlib
import hmac
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flow_engine import run_flow
from prefect.states import Pending

from spanctl.errors import KeyReusedError
from spanctl.flows import launch, using
from spanctl.ledger.canonical import canonical_bytes
from spanctl.ledger.keys import KEYED, OperationKey
from spanctl.spanner.client import Database
from spanctl.spanner.requests import row_id
from spanctl.spanner.run import Run
from tests.faults import raw
from tests.fixtures.cli import Spanctl
from tests.flows.bank import Bank

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

FLOWS = """
import datetime
import decimal

import pydantic
from prefect import flow
from spanctl.flows import transaction


@transaction
def mark(txn, number: int) -> None:
    txn.execute_update("INSERT INTO events (id) VALUES (@id)", {"id": f"e{number}"})


@flow
def many(k: int = 3) -> None:
    for number in range(k):
        mark(number)


@transaction
def sign(txn, number: int) -> None:
    txn.execute_update("INSERT INTO events (id) VALUES (@id)", {"id": f"e{number}"})


@flow
def other(k: int = 3) -> None:
    sign(100 + k)


@flow(name="many")
def likewise(k: int = 3) -> None:
    mark(100 + k)


@flow
def consuming(items: list, day: datetime.date, price: decimal.Decimal, more=None) -> None:
    while items:
        mark(items.pop())
    if more:
        mark(more.pop())


class Order(pydantic.BaseModel):
    number: int = pydantic.Field(exclude=True)


@flow
def ordered(order: Order) -> None:
    for number in range(order.number):
        mark(number)


def make(count: int):
    @flow
    def made() -> None:
        for number in range(count):
            mark(number)

    return made


three, five = make(3), make(5)
"""


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes the flows into a file, in a folder of that name."""

    def write(folder: str = "here", stem: str = "marks") -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / f"{stem}.py"
        path.write_text(FLOWS, encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def run(spanctl: Spanctl) -> Callable[..., int]:
    """Return a function that runs a target under key K, and returns the exit code."""

    def once(target: str, *parameters: str, key: str = "K") -> int:
        words = [word for one in parameters for word in ("-p", one)]
        done = spanctl("run", target, *words, "--idempotency-key", key, "-o", "json")
        if done.exit_code == 6:
            error = json.loads(done.stderr.splitlines()[-1])["error"]
            assert error["code"] == "key_reused"
            assert "'K'" in error["message"]
            assert "spanctl audit K" in error["hint"]
        return done.exit_code

    return once


def events(bank: Bank) -> list[str]:
    return [row[0] for row in bank.database.query("SELECT id FROM events ORDER BY id")]


THREE = ["e0", "e1", "e2"]


def test_other_parameters_are_refused(
    bank: Bank, file: Callable[..., str], run: Callable[..., int]
) -> None:
    """More, fewer, or those of a default: nothing is written, and no flow run begins."""
    target = f"{file()}:many"
    assert run(target, "k=3") == 0
    before = bank.leases()
    with get_client(sync_client=True) as client:
        runs = len(client.read_flow_runs())
        for other in ("k=5", "k=2"):
            assert run(target, other) == 6
        assert len(client.read_flow_runs()) == runs
    assert (events(bank), bank.leases()) == (THREE, before)
    assert run(target, "k=3") == 0
    assert run(target) == 0
    assert run(target, "k=5", key="L") == 1
    assert events(bank) == THREE


def test_another_flow_is_refused(
    bank: Bank, file: Callable[..., str], run: Callable[..., int]
) -> None:
    """Another function, the same name on another function, the same name in another file."""
    assert run(f"{file()}:many") == 0
    assert run(f"{file()}:other") == 6
    assert run(f"{file()}:likewise") == 6
    assert run(f"{file('here', 'marks2')}:many") == 6
    assert run(f"{file('there')}:many") == 0
    assert events(bank) == THREE


def test_parameters_are_those_that_were_asked_for(
    bank: Bank, file: Callable[..., str], run: Callable[..., int]
) -> None:
    """A body that takes its list apart is the same request when it is typed again."""
    given = ('items=["1", 2]', "day=2026-11-26", 'price="0.10000000000000000001"')
    target = f"{file()}:consuming"
    assert run(target, *given, "more=[7]") == 0
    written = events(bank)
    assert run(target, *given, "more=[7]") == 0
    assert run(target, *given, "more=[8]") == 6
    assert run(target, given[0], "day=2026-11-27", given[2], "more=[7]") == 6
    less = 'price="0.10000000000000000002"'
    assert run(target, given[0], given[1], less, "more=[7]") == 6
    assert events(bank) == written


def test_what_a_lossy_form_takes_for_the_same(
    bank: Bank, file: Callable[..., str], run: Callable[..., int]
) -> None:
    """A field that its model leaves out of a dump."""
    target = file()
    assert run(f"{target}:ordered", 'order={"number": 3}') == 0
    assert run(f"{target}:ordered", 'order={"number": 5}') == 6
    assert run(f"{target}:ordered", 'order={"number": 3}') == 0
    assert events(bank) == THREE


def test_two_flows_of_one_factory(
    bank: Bank, file: Callable[..., str], run: Callable[..., int]
) -> None:
    assert run(f"{file()}:three") == 0
    assert run(f"{file()}:five") == 6
    assert run(f"{file('there')}:three") == 0
    assert worker_runs(f"{file('elsewhere')}:three").is_completed()
    assert worker_runs(f"{file()}:five").is_failed()
    assert events(bank) == THREE


def test_a_fence_ahead_is_no_use_of_the_key(
    spanctl: Spanctl, bank: Bank, file: Callable[..., str], run: Callable[..., int]
) -> None:
    """The first command's request is kept, and the fence holds beside it."""
    words = ("txn", "fence", "--idempotency-key", "K", "--step", "mark#3", "--reason", "no")
    assert spanctl(*words).exit_code == 0
    target = f"{file()}:many"
    assert run(target, "k=3") == 0
    assert run(target, "k=5") == 6
    assert run(target, "k=3") == 0
    assert events(bank) == THREE


def test_use_in_plain_python_is_no_request(
    bank: Bank, file: Callable[..., str], run: Callable[..., int]
) -> None:
    """The first command's is kept, whatever Python did before; Python goes on as before."""
    target = file()
    with using(idempotency_key="K"):
        launch.load(f"{target}:many")()
    assert run(f"{target}:many", "k=3") == 0
    assert run(f"{target}:many", "k=5") == 6
    with using(idempotency_key="K"):
        launch.load(f"{target}:other")()
    assert events(bank) == sorted([*THREE, "e103"])


def test_a_key_from_before_is_compared_by_its_steps(
    emulator: str, bank: Bank, file: Callable[..., str], run: Callable[..., int]
) -> None:
    """It has no request, and gets none: whoever repeats the first one is let in."""
    target = f"{file()}:many"
    assert run(target, "k=3") == 0
    with raw.database(emulator, bank.target.database.database) as google, google.batch() as batch:
        from google.cloud.spanner_v1 import COMMIT_TIMESTAMP, KeySet

        batch.delete("spanctl_intents", KeySet(keys=[[row_id(f"{KEYED}K")]]))
        migrated = ["schema_version", COMMIT_TIMESTAMP]
        batch.update("spanctl_settings", ["name", "updated_at"], [migrated])
    bank.database.forget_ledger()
    assert run(target, "k=5") == 0
    assert events(bank) == [*THREE, "e3", "e4"]
    assert run(target, "k=3") == 0
    assert run(f"{file()}:other") == 6


def test_a_request_of_version_1_is_compared_as_it_was_made(
    emulator: str, bank: Bank, file: Callable[..., str], run: Callable[..., int]
) -> None:
    target = f"{file()}:many"
    assert run(target, "k=3") == 0
    told = canonical_bytes(["request/1", "many", "marks", "many", {"k": 3}])
    asked = hashlib.sha256(told).hexdigest()
    kept = hmac.new(bank.database.ledger.key, asked.encode(), hashlib.sha256).hexdigest()
    with raw.database(emulator, bank.target.database.database) as google, google.batch() as batch:
        row = [row_id(f"{KEYED}K"), kept]
        batch.update("spanctl_intents", ["intent_id", "request"], [row])
    bank.database.forget_ledger()
    assert run(target) == 0
    assert run(target, "k=5") == 6
    assert run(f"{file()}:other") == 6
    assert events(bank) == THREE


def test_of_two_requests_at_once_one_is_refused(bank: Bank) -> None:
    """Each looks before the other has leased; the commit of the first lease tells them apart."""
    barrier = Barrier(2)

    def one(number: int) -> str:
        with (
            Database(bank.target) as database,
            Run(database, f"{KEYED}K", asked=f"request {number}") as run,
        ):
            assert run.database.ledger
            barrier.wait(10)
            try:
                run.lease([OperationKey(run.root, (), "mark", number)])
            except KeyReusedError:
                return "refused"
            return "leased"

    for attempt in range(5):
        with ThreadPoolExecutor(2) as pool:
            ends = sorted(pool.map(one, range(2)))
        assert ends == (["leased", "refused"] if attempt == 0 else ends)
        assert "refused" in ends


def test_the_same_request_at_once_is_let_in(bank: Bank) -> None:
    barrier = Barrier(3)

    def one(_: int) -> bool:
        with Database(bank.target) as database, Run(database, f"{KEYED}K", asked="r") as run:
            barrier.wait(10)
            return bool(run.step("mark", lambda _: None, key="k").txn_id)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, range(3))) == [True] * 3


def worker_runs(target: str, **parameters: Any) -> Any:
    """Run a deployment of the flow under key K, as a worker does; return the final state."""
    flow = launch.load(target)
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(flow), name="marks")
        asked = client.create_flow_run_from_deployment(
            deployment,
            parameters=parameters,
            labels={"spanctl.idempotency_key": "K"},
            state=Pending(),
            name=f"w-{datetime.now(UTC):%H%M%S%f}",
        )
        run = client.read_flow_run(asked.id)
    return run_flow(flow, run, parameters=run.parameters, return_type="state")


def test_begun_as_a_file_and_gone_on_with_on_a_worker(
    bank: Bank, file: Callable[..., str], run: Callable[..., int]
) -> None:
    """The request is the same one; with other parameters it is refused at its first lease."""
    target = f"{file()}:many"
    assert run(target, "k=3") == 0
    assert worker_runs(target).is_completed()
    assert worker_runs(target, k=3).is_completed()
    refused = worker_runs(target, k=5)
    assert refused.is_failed()
    assert isinstance(refused.result(raise_on_failure=False), KeyReusedError)
    assert events(bank) == THREE


def test_begun_on_a_worker_and_gone_on_with_as_a_file(
    bank: Bank, file: Callable[..., str], run: Callable[..., int]
) -> None:
    target = f"{file()}:many"
    assert worker_runs(target, k=3).is_completed()
    assert run(target, "k=5") == 6
    assert run(target) == 0
    assert events(bank) == THREE


def test_plain_python_may_run_several_flows_under_one_key(
    bank: Bank, file: Callable[..., str]
) -> None:
    target = file()
    with using(idempotency_key="K"):
        launch.load(f"{target}:many")()
        launch.load(f"{target}:other")()
    assert events(bank) == sorted([*THREE, "e103"])


def test_sql_under_the_key_of_a_flow(
    spanctl: Spanctl, bank: Bank, file: Callable[..., str], run: Callable[..., int]
) -> None:
    """And a flow under the key of SQL; the statements themselves are compared as before."""
    sql = ("run", "sql", "-e", "UPDATE accounts SET balance = balance + 1 WHERE id = 'a'")
    assert run(f"{file()}:many") == 0
    assert spanctl(*sql, "--idempotency-key", "K").exit_code == 6
    assert spanctl(*sql, "--idempotency-key", "L").exit_code == 0
    assert spanctl(*sql, "--idempotency-key", "L").exit_code == 0
    other = spanctl(*sql[:-1], f"{sql[-1]} ", "-e", "SELECT 1", "--idempotency-key", "L")
    assert (other.exit_code, "keep_result" in other.stderr) == (6, False), other.stderr
    assert spanctl("run", f"{file()}:many", "--idempotency-key", "L").exit_code == 6
    assert bank.balance() == 1


def shown(spanctl: Spanctl, flow_run: str) -> dict[str, Any]:
    done = spanctl("runs", "show", flow_run, "-o", "json")
    assert done.exit_code == 0, done.stderr
    run: dict[str, Any] = json.loads(done.stdout)
    return run


def listed(transactions: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(one["step"], one["outcome"], one["replayed"]) for one in transactions]


def fenced(spanctl: Spanctl, step: str) -> None:
    words = ("--idempotency-key", "K", "--step", step, "--reason", "no")
    done = spanctl("txn", "fence", *words)
    assert done.exit_code == 0, done.stderr


def test_a_run_is_told_alike_wherever_it_is_told(
    spanctl: Spanctl, bank: Bank, file: Callable[..., str]
) -> None:
    """Each step with which call of it, the key, and none of what was only closed under the key."""
    words = ("run", f"{file()}:many", "--idempotency-key", "K", "-o", "json")
    once = [("mark", "COMMITTED", False), ("mark#1", "COMMITTED", False)]
    done = json.loads(spanctl(*words, "-p", "k=2").stdout)
    assert listed(done["transactions"]) == once
    fenced(spanctl, "nosuch")
    run = shown(spanctl, done["flow_run"])
    assert listed(run["transactions"]) == once
    assert run["idempotency_key"] == "K"
    again = json.loads(spanctl(*words, "-p", "k=2").stdout)
    replayed = [(step, outcome, True) for step, outcome, _ in once]
    assert listed(again["transactions"]) == replayed
    assert listed(shown(spanctl, again["flow_run"])["transactions"]) == replayed
    assert events(bank) == ["e0", "e1"]


def test_a_fence_that_a_run_met_is_listed(
    spanctl: Spanctl, bank: Bank, file: Callable[..., str]
) -> None:
    """It is no replay: nothing was committed."""
    fenced(spanctl, "mark#1")
    done = spanctl("run", f"{file()}:many", "--idempotency-key", "K", "-o", "json")
    assert done.exit_code == 6, done.stderr
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
    told = listed(shown(spanctl, str(run.id))["transactions"])
    assert sorted(told) == [("mark", "COMMITTED", False), ("mark#1", "NOT_COMMITTED", False)]
    assert events(bank) == ["e0"]
