"""Whatever ends a run in this process: what it committed is told, and what is open comes first."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import PrefectHTTPStatusError

from spanctl.flows.runs import registry
from spanctl.spanner import operation
from spanctl.spanner.client import Target, shared
from tests.faults.proxy import FaultProxy, black_hole
from tests.fixtures.cli import Spanctl
from tests.flows.bank import Bank
from tests.flows.test_run_command import _receipts, _short

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

FLOWS = """
import asyncio, contextlib
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from spanctl.flows import transaction


class Odd(BaseException):
    pass


ENDINGS = {"odd": Odd, "generator": GeneratorExit, "cancelled": asyncio.CancelledError}


@transaction
def pay(txn, ending=None):
    sql = "UPDATE accounts SET balance = balance + 5 WHERE id = 'a'"
    txn.execute_update(sql)
    if ending:
        raise ENDINGS[ending]("4711")


@flow
def ends(ending: str):
    with contextlib.suppress(Exception):
        pay()
    if ending in ENDINGS:
        raise ENDINGS[ending]("4711")
    if ending == "deleted":
        with get_client(sync_client=True) as client:
            client.delete_flow_run(FlowRunContext.get().flow_run.id)


@flow
async def ends_async(ending: str):
    ends.fn(ending)


@flow
def step_ends(ending: str):
    pay()
    pay(ending)
"""

CRASHES = [
    ("ends", "odd", "Odd"),
    ("ends", "generator", "GeneratorExit"),
    ("ends", "cancelled", "CancelledError"),
    ("ends_async", "odd", "Odd"),
    ("ends_async", "cancelled", "CancelledError"),
    ("step_ends", "odd", "Odd"),
    ("step_ends", "generator", "GeneratorExit"),
]
LOST = [("ends", "status", 3), ("ends", "deleted", 1)]


@pytest.fixture
def flows(tmp_path: Path) -> str:
    path = tmp_path / "endings.py"
    path.write_text(FLOWS, encoding="utf-8")
    return str(path)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect takes no state but Running."""
    before = SyncPrefectClient.set_flow_run_state

    def answer(self: Any, flow_run_id: Any, state: Any, **options: Any) -> Any:
        if not state.is_final():
            return before(self, flow_run_id, state, **options)
        request = httpx.Request("POST", "http://127.0.0.1/set_state")
        error = httpx.HTTPStatusError("4711", request=request, response=httpx.Response(500))
        raise PrefectHTTPStatusError.from_httpx_error(error)

    monkeypatch.setattr(SyncPrefectClient, "set_flow_run_state", answer)


def ended(spanctl: Spanctl, target: str, ending: str) -> tuple[int, dict[str, Any]]:
    """Run a flow; return its exit code and its error, which is all there is, without a value."""
    done = spanctl("run", target, "-p", f"ending={ending}", "-o", "json")
    assert done.stdout == ""
    assert "4711" not in done.stderr
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert isinstance(error, dict)
    return done.exit_code, error


@pytest.mark.parametrize(("flow", "ending", "name"), CRASHES)
def test_what_is_no_exception_crashes_the_run(  # noqa: PLR0913, PLR0917 - fixtures and cases
    spanctl: Spanctl, bank: Bank, flows: str, flow: str, ending: str, name: str
) -> None:
    """Exit 12, with what committed before, and where to look."""
    code, error = ended(spanctl, f"{flows}:{flow}", ending)
    (committed,) = bank.receipts()
    run = committed.provenance.root_run
    assert (code, error["code"], bank.balance("a")) == (12, "flow_cancelled", 5)
    assert error["message"].startswith(f"flow run {run} ended with {name}: 1 transaction committed")
    assert error["details"]["committed"] == [committed.txn_id]
    assert error["hint"] == f"run: spanctl audit {run}"
    assert json.loads(spanctl("runs", "show", run or "", "-o", "json").stdout)["state"] in {
        "Crashed",
        "Cancelled",
    }


@pytest.mark.parametrize(("flow", "ending", "expected"), LOST)
def test_a_run_whose_end_prefect_does_not_take(  # noqa: PLR0913, PLR0917 - fixtures and cases
    request: pytest.FixtureRequest,
    spanctl: Spanctl,
    bank: Bank,
    flows: str,
    flow: str,
    ending: str,
    expected: int,
) -> None:
    """It is Prefect's API that is named, with the run, and what is committed stays so."""
    if ending == "status":
        request.getfixturevalue("refusing")
    code, error = ended(spanctl, f"{flows}:{flow}", ending)
    (committed,) = bank.receipts()
    assert code == expected
    assert "Prefect" in error["message"]
    assert str(committed.provenance.root_run) in error["message"]
    assert error["details"]["committed"] == [committed.txn_id]
    assert f"{committed.provenance.root_run}" in error["hint"]


@pytest.mark.parametrize("ending", ["odd", "generator", "cancelled", "status", "deleted"])
def test_nothing_takes_the_place_of_an_open_outcome(  # noqa: PLR0913, PLR0917 - fixtures
    request: pytest.FixtureRequest,
    spanctl: Spanctl,
    emulator: str,
    bank: Bank,
    flows: str,
    ending: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """UNKNOWN ends with 9, with the txn ID and what to type, however the run ended after it."""
    if ending == "status":
        request.getfixturevalue("refusing")
    monkeypatch.setattr(operation.TransactionOptions, "__init__", _short(operation))
    with FaultProxy(emulator) as proxy:
        monkeypatch.setenv("SPANNER_EMULATOR_HOST", proxy.address)
        proxy.add("Commit", black_hole(), count=None, when=_receipts)
        code, error = ended(spanctl, f"{flows}:ends", ending)
        registry.close_all()  # Prefect calls no hook at such an end
        shared(Target(database=bank.target.database, emulator_host=proxy.address)).close()
    assert (code, error["code"]) == (9, "outcome_unknown")
    assert f"spanctl txn resolve {error['details']['txn_id']}" in error["hint"]
