"""However often Prefect runs a step again, what it writes is applied once."""

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client

from spanctl.flows import transaction
from tests.faults import raw
from tests.flows.bank import Bank, Fails, add, deposit

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]


def test_a_plain_task_is_applied_twice_by_a_flow_retry(emulator: str, bank: Bank) -> None:
    """The harness can see the bug that steps are free of: a plain task writes once more."""
    lost = Fails()

    @task
    def naive(account: str, cents: int) -> None:
        def body(txn) -> None:
            add(txn_with_lists(txn), account, cents)

        with raw.database(emulator, bank.target.database.database) as google:
            google.run_in_transaction(body)

    @flow(retries=1)
    def settle() -> None:
        naive("a", 5)
        lost()

    settle()
    assert bank.balance() == 10


class txn_with_lists:  # noqa: N801 - a thin wrapper of Google's transaction for the same body
    def __init__(self, txn) -> None:
        self._txn = txn
        self.update = txn.update

    def execute_sql(self, sql, params):
        from google.cloud.spanner_v1 import param_types

        return list(self._txn.execute_sql(sql, params, {"id": param_types.STRING}))


def test_a_flow_retry_replays(bank: Bank) -> None:
    """A flow that fails after its steps committed is retried: each is applied once, and says so."""
    lost = Fails()
    seen = []

    @flow(retries=1)
    def settle() -> None:
        seen.append([deposit("a", 5), deposit("b", 7)])
        lost()

    settle()
    first, second = seen
    assert (bank.balance("a"), bank.balance("b")) == (5, 7)
    assert [one.replayed for one in first] == [False, False]
    assert [one.replayed for one in second] == [True, True]
    assert [one.txn_id for one in first] == [one.txn_id for one in second]
    assert [one.commit_timestamp for one in first] == [one.commit_timestamp for one in second]
    assert len(bank.receipts()) == 2
