"""What is raised into a thread from outside harms no RPC: it ends the work in good order."""

import ctypes
import random
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from spanctl import shelter
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import Outcome
from spanctl.spanner.client import TransactionOptions
from spanctl.spanner.keysets import KeySet
from spanctl.spanner.partitioned import execute_partitioned
from spanctl.spanner.run import Run
from tests.fixtures.scripted_spanner import ScriptedSpanner

_PATIENCE = 60


class OutsideError(BaseException):
    """What is raised into a thread."""


@pytest.fixture(autouse=True)
def exposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads are raised into where Prefect is loaded."""
    if "prefect" not in sys.modules:
        monkeypatch.setitem(sys.modules, "prefect", ModuleType("prefect"))


@pytest.fixture
def spanner():
    with ScriptedSpanner() as made:
        _ = made.database.ledger
        yield made


class Exposed:
    """A thread that does something, and may be raised into."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self.value = work()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def hit(self) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._thread.ident), ctypes.py_object(OutsideError)
        )

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(_PATIENCE)
        assert not self.is_alive, "it hangs"


def held(spanner: ScriptedSpanner, method: str) -> threading.Event:
    """Have the server not answer an RPC before it is cancelled; tell when it has come."""
    came = threading.Event()

    def answer(_request: Any, context: Any) -> None:
        over = threading.Event()
        context.add_callback(over.set)
        came.set()
        over.wait(_PATIENCE)

    spanner.on[method] = answer
    return came


def test_a_result_or_an_error_comes_through() -> None:
    """As if it had been called; also from a thread that is in a shelter already."""
    plain = Exposed(shelter.sheltered(lambda: 5))
    plain.join()
    assert plain.value == 5

    @shelter.sheltered
    def nested() -> object:
        mine = shelter.current()
        return mine is not None and shelter.sheltered(shelter.current)() is mine

    inner = Exposed(nested)
    inner.join()
    assert inner.value is True

    @shelter.sheltered
    def fails() -> None:
        raise KeyError

    failed = Exposed(fails)
    failed.join()
    assert isinstance(failed.error, KeyError)
    assert shelter.sheltered(shelter.current)() is None, "the main thread is left alone"


def test_hits_at_any_moment_are_neither_lost_nor_left_behind() -> None:
    """Each call ends with its result or with the hit; a thread that is just starting is no trap."""
    ended = [0, 0]
    rounds = 3_000

    def calls() -> None:
        for _ in range(rounds):
            try:
                shelter.Shelter(lambda: None).result()
                ended[0] += 1
            except OutsideError:
                ended[1] += 1

    thread = Exposed(calls)
    pause = threading.Event()
    while thread.is_alive:
        pause.wait(random.uniform(0, 0.001))  # noqa: S311 - any moment
        thread.hit()
    # A hit may also come between two calls, and end the loop: what was begun was ended.
    assert thread.error is None or isinstance(thread.error, OutsideError)
    assert sum(ended) > 0


def of_operation(request: Any) -> bool:
    """Whether a Commit is that of a step: it carries a receipt."""
    return any(one.insert.table == "spanctl_receipts" for one in request.mutations)


def step(
    spanner: ScriptedSpanner, body: Callable[[Any], Any], told: list[Any]
) -> Callable[[], Any]:
    def work() -> Any:
        run = Run(spanner.database, "job")
        (call,) = run.lease([OperationKey("job", (), "step", 0)])
        options = TransactionOptions(deadline=600)
        return run.execute(call, body, options=options, begun=told.append)

    return work


def test_a_statement_in_flight_is_cancelled_and_its_transaction_rolled_back(spanner) -> None:
    """It would have waited for ten minutes; the channel is as good as before."""
    told: list[Any] = []

    second = threading.Event()
    came: list[threading.Event] = []

    def body(txn: Any) -> None:
        spanner.update(txn)
        came.append(held(spanner, "ExecuteSql"))
        second.set()
        spanner.update(txn)

    thread = Exposed(step(spanner, body, told))
    assert second.wait(_PATIENCE)
    assert came[0].wait(_PATIENCE)
    thread.hit()
    thread.join()
    assert isinstance(thread.error, OutsideError)
    assert told[0].outcome is Outcome.NOT_COMMITTED
    assert any("NOT_COMMITTED" in note for note in thread.error.__notes__)
    assert len(spanner.sent("Rollback")) == 1
    operations = [one for _, one in spanner.sent("Commit") if of_operation(one)]
    assert operations == []
    spanner.on.clear()
    with Run(spanner.database, "job") as run:
        assert run.step("other", spanner.update).outcome is Outcome.COMMITTED


def test_a_commit_in_flight_is_found_out(spanner) -> None:
    """It was applied, its reply never came: the outcome is there when the hit goes on."""
    told: list[Any] = []
    came = threading.Event()

    def answer(request: Any, context: Any) -> Any:
        reply = spanner.keep(request)
        if not of_operation(request) or came.is_set():
            return reply
        over = threading.Event()
        context.add_callback(over.set)
        came.set()
        over.wait(_PATIENCE)
        return reply

    spanner.on["Commit"] = answer
    thread = Exposed(step(spanner, spanner.update, told))
    assert came.wait(_PATIENCE)
    thread.hit()
    thread.join()
    assert isinstance(thread.error, OutsideError)
    assert told[0].outcome is Outcome.COMMITTED
    assert any("COMMITTED" in note for note in thread.error.__notes__)
    assert spanner.sent("Rollback") == []


def test_a_body_is_interrupted_wherever_it_is(spanner) -> None:
    """A loop without end is no reason to wait for it."""
    told: list[Any] = []
    looping = threading.Event()

    def body(txn: Any) -> None:
        spanner.update(txn)
        looping.set()
        while True:
            pass

    thread = Exposed(step(spanner, body, told))
    assert looping.wait(_PATIENCE)
    thread.hit()
    thread.join()
    assert isinstance(thread.error, OutsideError)
    assert told[0].outcome is Outcome.NOT_COMMITTED
    assert len(spanner.sent("Rollback")) == 1


def test_a_query_in_a_thread_is_cancelled(spanner) -> None:
    """Also where no transaction is around it."""
    came = held(spanner, "ExecuteStreamingSql")
    thread = Exposed(lambda: list(spanner.database.query("SELECT a FROM big")))
    assert came.wait(_PATIENCE)
    thread.hit()
    thread.join()
    assert isinstance(thread.error, OutsideError)
    spanner.on.clear()
    assert list(spanner.database.read("t", ["a"], KeySet(keys=[["1"]]))) == []


def test_partitioned_dml_is_not_sent_again_once_it_is_to_end(spanner) -> None:
    """It may take an hour: what the shelter cancels is no passing failure."""
    sent = []
    came = threading.Event()

    def answer(request: Any, context: Any) -> None:
        if "UPDATE" in request.sql:
            sent.append(request.sql)
            over = threading.Event()
            context.add_callback(over.set)
            came.set()
            over.wait(_PATIENCE)

    spanner.on["ExecuteStreamingSql"] = answer
    sql = "UPDATE t SET a = 1 WHERE true"
    thread = Exposed(lambda: execute_partitioned(spanner.database, sql, timeout=600))
    assert came.wait(_PATIENCE)
    thread.hit()
    thread.join()
    assert isinstance(thread.error, OutsideError)
    assert len(sent) == 1


def test_a_lease_is_not_sent_again_once_it_is_to_end(spanner) -> None:
    """Nothing is committed under it any more."""
    sent = []
    came = threading.Event()

    def answer(_request: Any, context: Any) -> None:
        sent.append(1)
        over = threading.Event()
        context.add_callback(over.set)
        came.set()
        over.wait(_PATIENCE)

    spanner.on["Commit"] = answer
    run = Run(spanner.database, "job")
    thread = Exposed(lambda: run.lease([OperationKey("job", (), "step", 0)]))
    assert came.wait(_PATIENCE)
    thread.hit()
    thread.join()
    assert isinstance(thread.error, OutsideError)
    assert len(sent) == 1


class Call:
    """An RPC in flight."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


def test_what_is_begun_after_it_is_to_end_is_cancelled_too(monkeypatch) -> None:
    """It has its grace, as what was in flight has."""
    monkeypatch.setattr(shelter, "_GRACE", 0.2)
    begun, first, late = threading.Event(), Call(), Call()

    @shelter.sheltered
    def work() -> None:
        mine = shelter.current()
        assert mine is not None
        mine.flies(first, quick=False)
        begun.set()
        assert first.cancelled.wait(_PATIENCE)
        mine.flies(late, quick=False)
        assert not late.cancelled.is_set()
        assert late.cancelled.wait(_PATIENCE)

    thread = Exposed(work)
    assert begun.wait(_PATIENCE)
    thread.hit()
    thread.join()
    assert isinstance(thread.error, OutsideError)
    assert late.cancelled.is_set()


def test_a_second_hit_does_not_end_the_wait() -> None:
    """A flow's timeout on top of a task's: what is in flight is still found out."""
    begun, asked, settled = threading.Event(), threading.Event(), threading.Event()

    @shelter.sheltered
    def work() -> None:
        mine = shelter.current()
        assert mine is not None
        begun.set()
        while not mine.is_asked:
            threading.Event().wait(0.01)
        asked.set()
        threading.Event().wait(0.5)
        settled.set()

    thread = Exposed(work)
    assert begun.wait(_PATIENCE)
    thread.hit()
    assert asked.wait(_PATIENCE)
    for _ in range(3):
        thread.hit()
        threading.Event().wait(0.1)
    thread.join()
    assert isinstance(thread.error, OutsideError)
    assert settled.is_set()


def test_wherever_a_body_is_interrupted_it_was_left_behind() -> None:
    """Also as it is entered or left: what is sent afterwards is the work's own, and not its."""
    found: list[tuple[bool, int]] = []

    def bodies() -> None:
        mine = shelter.current()
        assert mine is not None
        try:
            while True:
                shelter.interruptible(lambda: None)
        finally:
            found.append((mine.in_body, mine.depth))

    for _ in range(300):
        thread = Exposed(shelter.sheltered(bodies))
        threading.Event().wait(random.uniform(0, 0.002))  # noqa: S311 - any moment
        thread.hit()
        thread.join()
    assert set(found) == {(False, 1)}


def test_it_is_left_behind_where_the_hit_comes_as_it_is_left(monkeypatch) -> None:
    real, hits = shelter.Shelter.enter, []

    def enter(self: shelter.Shelter, change: int) -> None:
        if change > 0 and not hits:
            hits.append(change)
            raise shelter.Stopped
        real(self, change)

    monkeypatch.setattr(shelter.Shelter, "enter", enter)
    found = []

    @shelter.sheltered
    def work() -> None:
        mine = shelter.current()
        assert mine is not None
        with pytest.raises(shelter.Stopped):
            shelter.interruptible(lambda: None)
        found.append((mine.in_body, mine.depth))

    Exposed(work).join()
    assert found == [(False, 1)]
