"""The harness can fail code: without that, passing it would prove nothing."""

import threading

import pytest
from google.api_core import exceptions

from tests.faults import raw
from tests.faults.proxy import FaultProxy, black_hole, cut, delay, fail, hold, lose_reply

INCREMENT = "UPDATE t SET v = v + 1 WHERE k = 1"
AMBIGUOUS = ("DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED")
pytestmark = pytest.mark.emulator


def increment(transaction):
    return transaction.execute_update(INCREMENT)


def value(address, name):
    return raw.rows(address, name, "SELECT v FROM t WHERE k = 1")[0][0]


@pytest.mark.parametrize("code", AMBIGUOUS)
def test_a_lost_commit_reply_makes_a_naive_retry_apply_twice(
    proxy: FaultProxy, emulator_address, counter, code
) -> None:
    """A loop around run_in_transaction, as people write it, ends at +2 for one increment."""
    rule = proxy.add("Commit", lose_reply(code))
    with raw.database(proxy.address, counter) as database:
        for _ in range(3):
            try:
                database.run_in_transaction(increment)
                break
            except exceptions.GoogleAPICallError:
                continue
    assert rule.hits == 1
    assert value(emulator_address, counter) == 2
    assert [one.upstream for one in proxy.rpcs("Commit")] == ["OK", "OK"]


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_the_client_resends_what_it_may(proxy: FaultProxy, emulator_address, counter, code) -> None:
    """Google's client re-sends these on the same transaction, and the row is at +1."""
    proxy.add("Commit", lose_reply(code))
    with raw.database(proxy.address, counter) as database:
        database.run_in_transaction(increment)
    assert value(emulator_address, counter) == 1
    first, second = proxy.rpcs("Commit")
    assert first.transaction == second.transaction != ""


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect")
def test_a_prefect_task_with_retries_completes_with_two(
    proxy: FaultProxy, emulator_address, counter
) -> None:
    """The bug that spanctl ends: the run is COMPLETED, and the row counts two."""
    from prefect import flow, task

    proxy.add("Commit", lose_reply("DEADLINE_EXCEEDED"))

    with raw.database(proxy.address, counter) as database:

        @task(retries=2)
        def pay():
            database.run_in_transaction(increment)

        @flow
        def naive():
            pay()

        state = naive(return_state=True)
    assert state.is_completed()
    assert value(emulator_address, counter) == 2


def test_fail_keeps_the_request_from_the_server(
    proxy: FaultProxy, emulator_address, counter
) -> None:
    """An injected failure is answered without the server, so nothing is applied."""
    proxy.add("Commit", fail("INTERNAL"))
    with (
        raw.database(proxy.address, counter) as database,
        pytest.raises(exceptions.InternalServerError),
    ):
        database.run_in_transaction(increment)
    assert value(emulator_address, counter) == 0
    assert [(one.upstream, one.answered) for one in proxy.rpcs("Commit")] == [("", "INTERNAL")]


def test_nth_and_count_choose_the_rpcs(proxy: FaultProxy, emulator_address, counter) -> None:
    """A rule on the second match leaves the first and the third alone."""
    rule = proxy.add("Commit", lose_reply("INTERNAL"), nth=2)
    with raw.database(proxy.address, counter) as database:
        database.run_in_transaction(increment)
        with pytest.raises(exceptions.InternalServerError):
            database.run_in_transaction(increment)
        database.run_in_transaction(increment)
    assert rule.hits == 1
    assert value(emulator_address, counter) == 3


def test_a_held_commit_lands_after_its_client_gave_up(
    proxy: FaultProxy, emulator_address, counter
) -> None:
    """What a plain look-up calls absent may land later: the request is on its way."""
    rule = proxy.add("Commit", hold())
    with raw.database(proxy.address, counter) as database:
        session = database.session()
        session.create()
        transaction = session.transaction()
        transaction.begin()
        increment(transaction)
        from google.cloud.spanner_v1 import CommitRequest

        request = CommitRequest(session=session.name, transaction_id=transaction._transaction_id)  # noqa: SLF001 - the raw RPC needs it
        with pytest.raises(exceptions.DeadlineExceeded):
            database.spanner_api.commit(request, retry=None, timeout=0.5)
        rule.wait()
        assert value(emulator_address, counter) == 0
        rule.release()
        assert value(emulator_address, counter) == 1


def test_a_black_hole_answers_nothing(proxy: FaultProxy, counter) -> None:
    """Only the client's own deadline ends the wait."""
    proxy.add("ExecuteStreamingSql", black_hole())
    with raw.database(proxy.address, counter) as database, database.snapshot() as snapshot:
        rows = snapshot.execute_sql("SELECT 1", retry=None, timeout=0.5)
        with pytest.raises(exceptions.DeadlineExceeded):
            list(rows)
    assert proxy.rpcs("ExecuteStreamingSql")[0].answered == "(none)"


@pytest.mark.parametrize("forward", [True, False])
def test_cut_resets_the_connection(proxy: FaultProxy, emulator_address, counter, forward) -> None:
    """The client sees a lost connection, whether or not the server had done it."""
    proxy.add("Commit", cut(forward=forward), count=None)
    with raw.database(proxy.address, counter) as database:
        session = database.session()
        session.create()
        transaction = session.transaction()
        transaction.begin()
        increment(transaction)
        from google.cloud.spanner_v1 import CommitRequest

        request = CommitRequest(session=session.name, transaction_id=transaction._transaction_id)  # noqa: SLF001 - the raw RPC needs it
        with pytest.raises(exceptions.ServiceUnavailable):
            database.spanner_api.commit(request, retry=None, timeout=5)
    assert value(emulator_address, counter) == int(forward)


def test_refuse_makes_the_server_unreachable_and_back(
    proxy: FaultProxy, emulator_address, counter
) -> None:
    """A refused client finds nobody; after the proxy is back it goes on."""
    with raw.database(proxy.address, counter) as database:
        database.run_in_transaction(increment)
        name = proxy.rpcs("Commit")[0].peek.session
        proxy.refuse()
        with pytest.raises(exceptions.ServiceUnavailable):
            database.spanner_api.get_session(name=name, retry=None, timeout=5)
        proxy.refuse(refusing=False)
        database.run_in_transaction(increment)
    assert value(emulator_address, counter) == 2


def test_a_delayed_request_is_forwarded_and_logged(proxy: FaultProxy, counter) -> None:
    """A delay changes nothing but the time, and the log says whose transaction it was."""
    proxy.add("Commit", delay(0.05))
    with raw.database(proxy.address, counter) as database:
        database.run_in_transaction(increment)
    (commit,) = proxy.rpcs("Commit")
    statements = proxy.rpcs("ExecuteStreamingSql") + proxy.rpcs("ExecuteSql")
    assert commit.action == "delay(0.05)"
    assert commit.peek.session
    assert commit.transaction in {one.transaction for one in statements}


def test_the_log_keeps_the_order_of_concurrent_clients(
    proxy: FaultProxy, emulator_address, counter
) -> None:
    """Four clients at once through one proxy: each increment once, each Commit logged."""

    def work() -> None:
        with raw.database(proxy.address, counter) as database:
            database.run_in_transaction(increment)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    done = [one for one in proxy.rpcs("Commit") if one.answered == "OK"]
    assert len(done) == 4
    assert value(emulator_address, counter) == 4
