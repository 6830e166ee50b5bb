"""One row a process that leases: when it was heard from, and whether it may go on."""

import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from spanctl.clock import monotonic
from spanctl.errors import OutcomeUnknownError, SupersededError, UnreachableError
from spanctl.ledger.fences import Author
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import EntryKind, Outcome, Provenance
from spanctl.processes import mark
from spanctl.spanner import (
    executors,
    fence,
    leases,
    limbo,
    liveness,
    observations,
    predecessors,
    receipts,
    schema,
)
from spanctl.spanner.applying import mutation
from spanctl.spanner.client import Call, Database
from spanctl.spanner.executors import Executor
from spanctl.spanner.keysets import KeySet
from spanctl.spanner.liveness import Verdict
from spanctl.spanner.run import Run, TransactionOptions
from spanctl.spanner.transaction import Transaction
from tests.faults import raw
from tests.faults.proxy import FaultProxy, fail, lose_reply
from tests.fixtures.dead import bury

pytestmark = pytest.mark.emulator

DDL = ("CREATE TABLE T (k INT64 NOT NULL, s STRING(MAX)) PRIMARY KEY (k)",)
numbers = count(1)


@pytest.fixture(scope="module")
def made(emulator: str) -> Iterator[str]:
    name = raw.create_database(emulator, DDL)
    with Database(raw.target(emulator, name)) as database:
        schema.install(database, ["T"])
    yield name
    raw.drop_database(emulator, name)


@pytest.fixture
def database(emulator: str, made: str) -> Iterator[Database]:
    """A ledger whose executors beat often and are given up soon, so that tests need not wait."""
    target = replace(raw.target(emulator, made), heartbeat_interval=0.05, presumed_dead_after=0.2)
    with Database(target) as database:
        yield database


def insert(txn: Transaction) -> None:
    txn.insert("T", ("k", "s"), [(next(numbers), "x")])


def root() -> str:
    return f"job-{uuid.uuid4()}"


def supersede(database: Database, *ids: str) -> set[str]:
    return executors.supersede(database, executors.read(database, ids), by="a recovery")


def row(database: Database, run: Run) -> Executor | None:
    return next(iter(executors.read(database, [run.executor])), None)


def key(run: Run, call: int | str = 0) -> OperationKey:
    return OperationKey(run.root, (), "step", call)


def until(told: Callable[[], Any]) -> Any:
    """Return what is told once it is something."""
    deadline = monotonic() + 60
    while not (found := told()) and monotonic() < deadline:
        time.sleep(0.02)
    assert found
    return found


# -- the row


def test_it_comes_with_the_first_lease_and_goes_with_the_last(database: Database) -> None:
    """It tells which process it is, and what for; an orderly end leaves nothing."""
    flow_run = str(uuid.uuid4())
    run = Run(database, root(), provenance=Provenance(root_run=flow_run))
    assert row(database, run) is None
    first = run.executor
    run.step("step", insert)
    found = row(database, run)
    assert found is not None
    assert (found.root, found.root_run, found.flow_run) == (run.root, flow_run, flow_run)
    assert (found.pid, found.mark) == (subprocess.os.getpid(), mark())
    assert found.heartbeat >= found.started_at
    run.step("step", insert)
    assert [one.executor for one in limbo.open_leases(database)] == [first] * 2
    assert run.close()
    assert executors.read(database, [first]) == []
    with Run(database, run.root) as again:
        again.step("another", insert)
        assert row(database, again) is not None
    assert executors.read(database, [again.executor]) == []


def test_a_lost_reply_makes_one_row(emulator: str, made: str) -> None:
    """The first lease is sent again, and finds what it has written."""
    with FaultProxy(emulator) as proxy, Database(raw.target(proxy.address, made)) as database:
        proxy.add(
            "Commit",
            lose_reply("DEADLINE_EXCEEDED"),
            when=lambda peek: executors.TABLE in peek.writes,
        )
        with Run(database, root()) as run:
            run.step("step", insert)
            assert row(database, run) is not None
        assert executors.read(database, [run.executor]) == []


def test_it_is_heard_from_while_it_lives(database: Database) -> None:
    """Its heartbeat moves on, also between two steps."""
    with Run(database, root()) as run:
        run.step("step", insert)
        first = row(database, run)
        assert first is not None
        later = until(
            lambda: (found := row(database, run)) and found.heartbeat > first.heartbeat and found
        )
        assert later.started_at == first.started_at
        assert liveness.judge(database).of(later).verdict is Verdict.ALIVE


def test_on_an_emulator_no_heartbeat_disturbs_a_transaction(database: Database) -> None:
    """Another commit there would abort what is open, so heartbeats wait for its end."""
    attempts = []

    def slow(txn: Transaction) -> None:
        attempts.append(row(database, run))
        txn.insert("T", ("k", "s"), [(next(numbers), "x")])
        list(txn.execute_sql("SELECT 1"))
        deadline = monotonic() + 1.5  # several intervals, in which the thread looks
        while monotonic() < deadline:
            list(txn.execute_sql("SELECT 1"))
        attempts.append(row(database, run))

    with Run(database, root()) as run:
        assert run.step("step", slow).attempts == 1
    before, after = attempts
    assert before is not None
    assert after is not None
    assert after.heartbeat == before.heartbeat


def test_it_says_how_long_its_transactions_may_take(database: Database) -> None:
    """On an emulator, where these keep heartbeats back, that is part of the bound."""
    with Run(database, root()) as run:
        run.step("step", insert, options=TransactionOptions(deadline=300))
        found = row(database, run)
        assert found is not None
        assert found.deadline == 300


def test_an_end_with_an_open_outcome_is_noted(emulator: str, made: str) -> None:
    """The process lives on, and this execution is over: what it left is in limbo, and is told."""
    with (
        FaultProxy(emulator) as proxy,
        Database(raw.target(proxy.address, made)) as database,
        Database(raw.target(emulator, made)) as straight,
    ):
        run = Run(database, root())
        (call,) = run.lease([key(run)])
        first = run.executor
        options = TransactionOptions(deadline=1, rpc_timeout=1, resolve_timeout=1)
        receipt = {"when": lambda peek: receipts.TABLE in peek.writes, "count": None}
        proxy.add("Commit", fail("INTERNAL"), **receipt)
        looked = {"when": lambda peek: peek.sql == receipts.TABLE, "count": None}
        proxy.add("StreamingRead", fail("UNAVAILABLE"), **looked)
        with pytest.raises(OutcomeUnknownError):
            run.execute(call, insert, options=options)
        proxy.clear()
        assert not run.close()
        (found,) = executors.read(straight, [first])
        assert found.ended_at is not None
        assert liveness.judge(straight).of(found).verdict is Verdict.GONE
        # Called again it goes on as another executor, and its end settles both.
        run.execute(call, insert)
        assert run.close()
        assert executors.read(straight, [first]) == []
        assert not [one for one in limbo.open_leases(straight) if one.executor == first]


def test_it_has_not_ended_while_a_call_is_at_work(database: Database) -> None:
    """Its flow ended, or timed out, and a thread of it goes on: that closes it, once it is done."""
    run = Run(database, root())
    (call,) = run.lease([key(run)])
    at_work, go_on = threading.Event(), threading.Event()

    def slow(txn: Transaction) -> None:
        insert(txn)
        at_work.set()
        go_on.wait(60)

    with ThreadPoolExecutor() as pool:
        done = pool.submit(run.execute, call, slow)
        at_work.wait(60)
        assert not run.close()
        found = row(database, run)
        assert found is not None
        assert found.ended_at is None
        assert liveness.judge(database).of(found).verdict is Verdict.ALIVE
        go_on.set()
        assert done.result().outcome is Outcome.COMMITTED
    assert executors.read(database, [found.executor_id]) == []
    assert not [one for one in limbo.open_leases(database) if one.executor == found.executor_id]


def test_called_again_behind_a_fence_it_is_heard_from(database: Database) -> None:
    """An executor whose first lease is one anew has a row, a heart and an end as any other."""
    run = Run(database, root())
    (call,) = run.lease([key(run, "k")])
    first = run.executor
    fence.place(database, call, author=Author.EXECUTOR, provenance=Provenance())
    run._renew(run._presence.retire)  # noqa: SLF001 - as an end with an open outcome does
    assert run.execute(call, insert).txn_id == replace(call, epoch=1).txn_id
    begun = row(database, run)
    assert begun is not None
    until(lambda: (found := row(database, run)) and found.heartbeat > begun.heartbeat)
    second = run.executor
    assert run.close()
    assert executors.read(database, [first, second]) == []


def test_a_close_whose_reply_is_lost_harms_nobody(emulator: str, made: str) -> None:
    """Called again it is another executor, and closing once more closes what is left."""
    with FaultProxy(emulator) as proxy, Database(raw.target(proxy.address, made)) as database:
        run = Run(database, root())
        run.step("step", insert)
        first = run.executor
        proxy.add(
            "Commit",
            lose_reply("DEADLINE_EXCEEDED"),
            count=None,
            when=lambda peek: leases.TABLE in peek.writes and executors.TABLE in peek.writes,
        )
        with pytest.raises(UnreachableError):
            run.close()
        proxy.clear()
        run.step("step", insert)
        second = run.executor
        assert second != first
        assert run.close()
        assert executors.read(database, [first, second]) == []
        held = {one.executor for one in limbo.open_leases(database)}
        assert not held & {first, second}


def test_a_forked_child_is_an_executor_of_its_own(database: Database) -> None:
    """Its parent's death is not its own, nor does it close what the parent holds."""
    run = Run(database, root())
    run.lease([key(run)])
    mine = run.executor
    run._presence._pid = 1  # noqa: SLF001 - as in a child of the process that leased
    run.lease([key(run, 1)])
    assert run.executor != mine
    run.ended(Call(key(run, 1)))
    assert run.close()
    assert executors.read(database, [mine]) != []
    assert mine in {one.executor for one in limbo.open_leases(database)}


# -- superseded


def test_a_superseded_executor_leases_nothing_more(database: Database) -> None:
    """Neither a new block of ordinals nor a keyed call, and nothing is committed."""
    run = Run(database, root())
    run.step("step", insert)
    supersede(database, run.executor)
    for call in (1, 2, "k"):
        with pytest.raises(SupersededError, match="counts as dead") as refused:
            run.lease([key(run, call)])
        assert "a recovery" in refused.value.message
        assert receipts.get(database, Call(key(run, call)).txn_id) is None
    assert row(database, run) is not None


def test_a_row_that_is_gone_counts_as_superseded(database: Database) -> None:
    """Somebody has settled all that it had, and forgotten it."""
    run = Run(database, root())
    run.step("step", insert)
    leases.close(database, [], executors=[run.executor])
    with pytest.raises(SupersededError):
        run.lease([key(run, 1)])


def test_its_heart_learns_of_it(database: Database) -> None:
    """Without a lease to take, the next heartbeat tells: what is held already is refused."""
    run = Run(database, root())
    run.lease([key(run, number) for number in range(100)])
    assert run.lease([key(run, 1)])
    supersede(database, run.executor)

    def refused() -> bool:
        with suppress(SupersededError):
            return not run.lease([key(run, 1)])
        return True

    until(refused)


def test_it_stays_superseded_when_it_is_closed(database: Database) -> None:
    """A thread that outlives the run, and its fence, leases nothing as somebody new."""
    run = Run(database, root())
    (call,) = run.lease([key(run)])
    run.ended(call)
    supersede(database, run.executor)
    with pytest.raises(SupersededError):
        run.close()
    with pytest.raises(SupersededError):
        run.step("step", insert)


def test_one_that_was_heard_from_since_is_not_superseded(database: Database) -> None:
    """Whoever judged it may have slept meanwhile, and it did not."""
    run = Run(database, root())
    run.step("step", insert)
    judged = executors.read(database, [run.executor])
    executors.beat(database, [run.executor], timeout=30)
    assert executors.supersede(database, judged, by="a recovery") == set()
    run.step("step", insert)
    first = supersede(database, run.executor)
    again = executors.supersede(database, executors.read(database, first), by="another")
    assert first == again == {run.executor}
    (kept,) = executors.read(database, first)
    assert kept.superseded_by == "a recovery"


def test_what_it_started_is_superseded_with_it(database: Database) -> None:
    """A child's row lives, and its parent's says that it may not go on."""
    parent = Run(database, root())
    ancestors = parent.enrol()
    assert ancestors == (parent.executor,)
    child = Run(database, parent.root, ancestors=ancestors)
    child.step("step", insert)
    found = row(database, child)
    assert found is not None
    assert found.parent == parent.executor
    supersede(database, parent.executor)
    with pytest.raises(SupersededError, match=parent.executor):
        child.lease([key(child, 5)])
    late = Run(database, parent.root, ancestors=ancestors)
    with pytest.raises(SupersededError, match=parent.executor):
        late.step("step", insert)
    assert row(database, late) is None


def test_a_zombie_meets_the_fence_and_stops_there(database: Database) -> None:
    """It holds a lease, wakes up behind the recovery's fence, and may not lease it anew."""
    run = Run(database, root())
    (call,) = run.lease([key(run)])
    supersede(database, run.executor)
    provenance = Provenance(reason="recovered")
    fence.place(database, call, author=Author.EXECUTOR, provenance=provenance)
    written: list[int] = []

    def body(txn: Transaction) -> None:
        written.append(next(numbers))
        txn.insert("T", ("k", "s"), [(written[-1], "zombie")])

    with pytest.raises(SupersededError):
        run.execute(call, body)
    keys = KeySet(keys=[[one] for one in written])
    assert list(database.read("T", ("k",), keys)) == []
    # The executor that comes after it goes on in the next epoch.
    with Run(database, run.root) as after:
        done = after.step("step", insert)
    assert done.txn_id == replace(call, epoch=1).txn_id


def test_a_living_executor_passes_another_ones_fence(database: Database) -> None:
    """An executor's fence closes nothing: leased anew, the operation commits in the next epoch."""
    with Run(database, root()) as run:
        (call,) = run.lease([key(run, "k")])
        fence.place(database, call, author=Author.EXECUTOR, provenance=Provenance())
        before = len(limbo.open_leases(database))
        assert run.execute(call, insert).txn_id == replace(call, epoch=1).txn_id
        assert len(limbo.open_leases(database)) == before + 1


def test_what_no_transaction_holds_is_guarded_in_its_entry(database: Database) -> None:
    """Before DDL is begun, the *started* entry reads that its executor may go on."""
    run = Run(database, root())
    (call,) = run.lease([key(run)])
    supersede(database, run.executor)

    def started(txn: Transaction) -> None:
        run.guard(txn)
        txn.insert("T", ("k", "s"), [(next(numbers), "x")])

    with pytest.raises(SupersededError):
        run.execute(call, started)
    assert receipts.get(database, call.txn_id) is None


def test_an_unanswered_look_at_its_row_commits_nothing(emulator: str, made: str) -> None:
    """Whether it was superseded can't be read: no lease, and no transaction stays open."""
    with FaultProxy(emulator) as proxy, Database(raw.target(proxy.address, made)) as database:
        run = Run(database, root())
        run.step("step", insert)
        proxy.add(
            "StreamingRead",
            fail("UNAVAILABLE"),
            count=None,
            when=lambda peek: peek.sql == executors.TABLE,
        )
        leased = len(limbo.open_leases(database))
        with pytest.raises(UnreachableError):
            run.lease([key(run, 1)])
        proxy.clear()
        assert len(limbo.open_leases(database)) == leased
        run.lease([key(run, 1)])


# -- what is seen of silent ones


@pytest.fixture
def elsewhere(database: Database) -> Callable[..., str]:
    """Return a function that writes the row of an executor of another machine, which is silent."""

    def written(**more: Any) -> str:
        executor_id = str(uuid.uuid4())
        values = {
            "executor_id": executor_id,
            "host": "another-machine",
            "pid": 7,
            "root": "r",
            "deadline": 0.0,
            "heartbeat_interval": 0.05,
            "started_at": receipts.COMMIT_TIMESTAMP,
            "heartbeat": receipts.COMMIT_TIMESTAMP,
            **more,
        }
        executors.apply(
            database, [mutation("insert", executors.TABLE, values)], timeout=30, doing="a test"
        )
        return executor_id

    return written


def test_only_watched_silence_is_taken_for_death(
    database: Database, elsewhere: Callable[..., str]
) -> None:
    """Others read what a recovery has seen, and write nothing themselves."""
    name = elsewhere()

    def verdict(found: liveness.Judge) -> Verdict:
        return found.of(found.executors[name]).verdict

    until(lambda: verdict(liveness.judge(database)) is Verdict.NOT_KNOWN)
    assert verdict(liveness.judge(database)) is Verdict.NOT_KNOWN
    until(lambda: verdict(liveness.observe(database)) is Verdict.PRESUMED_DEAD)
    assert verdict(liveness.judge(database)) is Verdict.PRESUMED_DEAD
    executors.beat(database, [name], timeout=30)
    assert verdict(liveness.judge(database)) is not Verdict.PRESUMED_DEAD
    leases.close(database, [], executors=[name])
    assert name not in observations.read(database)


# -- a root that is complete


def killed(database: Database, name: str, calls: int, *, root_run: str | None = None) -> Run:
    """Return an execution whose process ended with leases that it never came to."""
    run = Run(database, name, provenance=Provenance(root_run=root_run))
    run.lease([key(run, number) for number in range(calls)])
    bury(run)
    return run


def test_it_settles_what_its_dead_executors_left(database: Database) -> None:
    """Fenced by an executor's fences, which close nothing; then their leases and rows are gone."""
    name = root()
    dead = killed(database, name, 70)
    with Run(database, name) as run:
        done = run.step("step", insert)
    assert predecessors.settle(database, name, None, by="the run") == []
    left = [one for one in limbo.open_leases(database) if one.keys[0].root == name]
    assert (left, executors.read(database, [dead.executor])) == ([], [])
    entries = receipts.get_many(database, [Call(key(dead, n)).txn_id for n in range(70)])
    kinds = [entries[Call(key(dead, n)).txn_id].kind for n in range(70)]
    assert kinds == [EntryKind.COMMITTED, *[EntryKind.FENCED] * 69]
    assert entries[done.txn_id].kind is EntryKind.COMMITTED
    with Run(database, name) as again:
        assert again.step("step", insert, expect_replay=True).replayed
        assert again.step("step", insert).txn_id == Call(key(dead, 1), 1).txn_id
    with pytest.raises(SupersededError):
        dead.lease([key(dead, 200)])


def test_it_spares_the_living_and_the_unknown(database: Database) -> None:
    """Nobody supersedes an executor that may be at work."""
    name, root_run = root(), str(uuid.uuid4())
    dead = killed(database, name, 1, root_run=root_run)
    alive = Run(database, name)
    alive.lease([key(alive, 0), key(alive, "k")])
    old = leases.Intent(executor=str(uuid.uuid4()), prefix=f"{name}/step", keys=("old",))
    unseen = {"intent_id": old.intent_id, "host": "another-machine"}
    leases.acknowledge(database, [old])
    executors.apply(
        database, [mutation("update", leases.TABLE, unseen)], timeout=30, doing="a test"
    )
    other = killed(database, root(), 1)
    assert predecessors.settle(database, name, root_run, by="the run") == []
    still = {one.executor for one in limbo.open_leases(database)}
    assert {alive.executor, old.executor, other.executor} <= still
    assert dead.executor not in still
    # What the living one holds as well is its own.
    assert receipts.get(database, Call(key(alive, 0)).txn_id) is None
    alive.step("step", insert)
    assert executors.read(database, [alive.executor]) != []


def test_a_commit_that_was_faster_keeps_its_receipt(database: Database) -> None:
    """One of those that are fenced together has committed meanwhile: the others are fenced."""
    name = root()
    run = Run(database, name)
    calls = run.lease([key(run, number) for number in range(3)])
    run.execute(calls[1], insert)
    wanted = dict.fromkeys(calls, Provenance())
    fence.place_all(database, wanted, author=Author.EXECUTOR)
    found = receipts.get_many(database, [one.txn_id for one in calls])
    assert [found[one.txn_id].kind for one in calls] == [
        EntryKind.FENCED,
        EntryKind.COMMITTED,
        EntryKind.FENCED,
    ]
