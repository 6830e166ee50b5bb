"""The trail of flows that really ran."""

from collections.abc import Iterator

import pytest
from prefect import flow

from spanctl.audit.model import Coverage, EventKind, Link, SourceName
from spanctl.audit.trail import trail
from spanctl.ledger.receipt import Receipt
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.settings import ApiSettings
from tests.flows.bank import Bank, deposit

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]


@pytest.fixture
def api(prefect_api: str) -> Iterator[PrefectApi]:
    with PrefectApi(ApiSettings(prefect_api), timeout=30) as api:
        yield api


def by_account(bank: Bank) -> list[Receipt]:
    return sorted(bank.receipts(), key=lambda one: one.commit_timestamp)


def test_a_flow_with_a_subflow(bank: Bank, api: PrefectApi) -> None:
    """A run's trail holds the commits of its subflows; a subflow's holds its own."""

    @flow
    def inner() -> None:
        deposit("b", 2)

    @flow
    def outer() -> None:
        deposit("a", 1)
        inner()

    outer()
    first, second = by_account(bank)
    root = first.provenance.root_run
    assert root is not None
    whole = trail(bank.database, api, root)
    assert whole.transactions == (first, second)
    assert whole.facts is not None
    assert whole.facts.flow == "outer"
    assert [one.id for one in whole.timeline if one.kind is EventKind.COMMIT] == [
        first.txn_id,
        second.txn_id,
    ]
    child = second.provenance.flow_run
    assert child is not None
    part = trail(bank.database, api, child)
    assert part.transactions == (second,)
    assert part.facts is not None
    assert part.facts.flow == "inner"


def test_a_transaction_of_a_flow(bank: Bank, api: PrefectApi) -> None:
    """A transaction's trail names the run that made it, and Prefect's part is claimed."""

    @flow
    def settle() -> None:
        deposit("a", 1)

    settle()
    (receipt,) = bank.receipts()
    found = trail(bank.database, api, receipt.txn_id[:13])
    assert found.receipt == receipt
    assert found.facts is not None
    assert (found.facts.flow, found.facts.run.id) == ("settle", receipt.provenance.flow_run)
    source = found.source(SourceName.PREFECT)
    assert (source.coverage, source.link) == (Coverage.PRESENT, Link.CLAIMED)
    assert found.facts.run.state is not None
    assert found.facts.run.state.name == "Completed"
    by_name = trail(bank.database, api, found.facts.run.name)
    assert by_name.transactions == (receipt,)
