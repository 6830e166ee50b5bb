"""One execution of a job: it leases operations, runs them, and closes what is settled."""

import inspect
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from spanctl.closing import Closing
from spanctl.errors import KeyReusedError, SpanctlError, SupersededError, UsageError
from spanctl.ledger.digests import code_digest
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import Provenance, TransactionResult
from spanctl.shelter import sheltered
from spanctl.spanner import executors, fence, leases, requests
from spanctl.spanner.client import Database
from spanctl.spanner.executors import Enrolment
from spanctl.spanner.heartbeat import heart
from spanctl.spanner.leases import LARGEST_BLOCK, LARGEST_LIST, Holder, Intent
from spanctl.spanner.operation import Call, Identified, TransactionOptions
from spanctl.spanner.protocol import Execution
from spanctl.spanner.transaction import Transaction

__all__ = ["Call", "Run", "TransactionOptions"]

T = TypeVar("T")


class Run(Closing):
    """An executor's execution under one root key; thread-safe, a context manager.

    Plain Python uses :meth:`step`::

        with Run(database, "invoice-2026-11") as run:
            run.step("book", lambda txn: txn.insert("bookings", columns, rows))

    Attributes:
        database: Where it writes.
        root: First part of every operation key: names the job, the same whenever it is run again.
        executor: Id of this execution.
        ancestors: The executors that it was started by, the nearest first.
        provenance: Goes into every receipt.
    """

    harmless = (SpanctlError,)  # the leases stay open, and what was done is done

    def __init__(  # noqa: PLR0913 - who executes, told in full
        self,
        database: Database,
        root: str,
        *,
        provenance: Provenance | None = None,
        asked: str | None = None,
        typed: str | None = None,
        ancestors: Sequence[str] = (),
    ) -> None:
        """Start an execution; nothing is written before the first call.

        Args:
            database: Where it writes.
            root: First part of every operation key.
            provenance: Goes into every receipt.
            asked: What was asked for under an idempotency key: another request is refused.
            typed: Digest of what a person typed, kept in the first lease until they are told what
                came of it (:meth:`close`): who types it again learns that this one never ended.
            ancestors: The executors that it was started by, the nearest first: once one of them
                is superseded, this one is too.
        """
        self.database = database
        self.root = root
        self.provenance = provenance or Provenance()
        self.executor = str(uuid.uuid4())
        self.ancestors = tuple(ancestors)
        self._asked = asked
        self._typed = typed
        self._enrolment: Enrolment | None = None
        self._enrolled = False
        self._rows: list[str] = []
        self._superseded: SupersededError | None = None
        self._declared = TransactionOptions().deadline
        self._lock = threading.Lock()
        self._ordinals: dict[str, int] = defaultdict(int)
        self._through: dict[str, int] = {}
        self._blocks: dict[str, int] = {}
        self._keyed: set[tuple[str, str]] = set()
        self._bodies: dict[OperationKey, bytes] = {}
        self._open: list[Intent] = []
        self._untold: list[str] = []
        self._pending: Counter[OperationKey] = (
            Counter()
        )  # a call may be executed in several threads at once

    # -- leases

    @sheltered
    def lease(self, keys: Sequence[OperationKey]) -> list[Call]:
        """Lease operations; they may commit once this has returned.

        Ordinals of a step are leased in blocks of 1, 2, 4 ... 64, keyed calls all at once, so a
        long run rarely waits.

        Args:
            keys: The operations, under this run's root.

        Raises:
            KeyReusedError: Something else was asked for under this run's idempotency key.
            UnreachableError: Spanner did not acknowledge in time.
            SpanctlError: Spanner refused.
        """
        calls = [Call(key) for key in keys]
        with self._lock:
            if self._superseded is not None:
                raise self._superseded
            wanted = self._wanted(keys)
            if wanted:
                wanted[0] = replace(wanted[0], request=self._typed)
                self._acknowledge(wanted)
                self._hold(wanted)
            self._pending.update(keys)
        return calls

    def _acknowledge(self, wanted: Sequence[Intent]) -> None:
        if self._asked is None:
            leases.acknowledge(self.database, wanted, self._holder())
        else:
            requests.acknowledge(self.database, wanted, self.root, self._asked, self._holder())
        self._begin()
        self._asked = self._typed = None

    # -- the executor's row

    @sheltered
    def enrol(self) -> tuple[str, ...]:
        """Write down the executor ahead of its first lease, for those that it starts elsewhere.

        Returns:
            The executors that these are started by: this one, then its own ancestors; none in a
            ledger of an older version.

        Raises:
            SupersededError: One of its ancestors counts as dead.
            SpanctlError: Spanner could not be reached or refused.
        """
        with self._lock:
            self._holder().enrolled(self.database)
            self._begin()
            return self._guards

    @property
    def _guards(self) -> tuple[str, ...]:
        return (self.executor, *self.ancestors) if self._enrolled else ()

    def _holder(self) -> Holder:
        if self._enrolled:
            return Holder(guards=self._guards)
        if self.database.ledger.schema_version < executors.SINCE or self.database.is_installing:
            return Holder()
        self._enrolment = Enrolment(
            executor_id=self.executor,
            ancestors=self.ancestors,
            root=self.root,
            root_run=self.provenance.root_run,
            flow_run=self.provenance.flow_run or self.provenance.root_run,
            deadline=self._declared,
            interval=self.database.target.heartbeat_interval,
        )
        return Holder(enrolment=self._enrolment, guards=self.ancestors)

    def _begin(self) -> None:
        if self._enrolled or self._enrolment is None:
            return
        self._enrolled = True
        heart.start(self.executor, self._beat, self._enrolment.interval)

    def _beat(self) -> bool:
        """Say that this executor is alive; False where that has to wait."""
        # An emulator aborts what is open where another transaction commits.
        if self.database.target.is_emulated and not self.database.sessions.is_idle:
            return False
        guards = self._guards
        if guards:
            try:
                executors.beat(self.database, guards, timeout=leases.PARTING)
            except SupersededError as error:
                with self._lock:
                    if self._guards == guards:  # else it ended meanwhile, and took its row away
                        self._superseded = error
                        heart.stop(guards[0])
        return True

    def _declare(self, deadline: float) -> None:
        """Write down that a transaction may take long: on an emulator it keeps heartbeats back."""
        if not self._enrolled or not self.database.target.is_emulated:
            return
        with self._lock:
            if deadline > self._declared:
                executors.declare(self.database, self._guards, deadline)
                self._declared = deadline

    def guard(self, transaction: Transaction) -> None:
        """Refuse a transaction, from within it, once this executor counts as dead.

        For what is written down before something that no transaction holds, as DDL.

        Raises:
            SupersededError: It does.
        """
        if self._guards:
            executors.guard(self._guards)(transaction)

    def _wanted(self, keys: Sequence[OperationKey]) -> list[Intent]:
        highest: dict[str, int] = {}
        named: dict[str, list[str]] = {}
        for key in keys:
            if isinstance(key.call, int):
                highest[key.prefix] = max(highest.get(key.prefix, -1), key.call)
            elif (key.prefix, key.call) not in self._keyed:
                named.setdefault(key.prefix, []).append(key.call)
        intents = [
            self._intent(prefix, first=self._through.get(prefix, -1) + 1, last=last)
            for prefix, last in highest.items()
            if last > self._through.get(prefix, -1)
        ]
        for prefix, calls in named.items():
            intents.extend(
                self._intent(prefix, keys=calls[start : start + LARGEST_LIST])
                for start in range(0, len(calls), LARGEST_LIST)
            )
        return intents

    def _intent(
        self,
        prefix: str,
        *,
        first: int | None = None,
        last: int | None = None,
        keys: Sequence[str] = (),
    ) -> Intent:
        if first is not None and last is not None:
            size = self._blocks.get(prefix, 1)
            last = max(last, first + size - 1)
        return Intent(
            executor=self.executor,
            prefix=prefix,
            first=first,
            last=last,
            keys=tuple(keys),
            root_run=self.provenance.root_run,
        )

    def _hold(self, intents: Sequence[Intent]) -> None:
        for intent in intents:
            if intent.last is not None:
                self._through[intent.prefix] = intent.last
                grown = self._blocks.get(intent.prefix, 1) * 2
                self._blocks[intent.prefix] = min(LARGEST_BLOCK, grown)
            self._keyed.update((intent.prefix, key) for key in intent.keys)
            self._open.append(intent)

    def _lease_anew(self, call: Call) -> None:
        """Lease an operation that goes on reopened: for that, an older lease counts for nothing."""
        key = call.key
        ordinal, keys = (key.call, ()) if isinstance(key.call, int) else (None, (key.call,))
        intent = Intent(
            executor=self.executor,
            prefix=key.prefix,
            first=ordinal,
            last=ordinal,
            keys=keys,
            root_run=self.provenance.root_run,
            epoch=call.epoch,
        )
        with self._lock:
            if self._superseded is not None:
                raise self._superseded
            leases.acknowledge(self.database, [intent], self._holder())
            self._open.append(intent)

    # -- running

    @sheltered
    def execute(  # noqa: PLR0913 - one operation, told in full
        self,
        call: Call,
        body: Callable[[Transaction], T],
        *,
        provenance: Provenance | None = None,
        arguments: Mapping[str, Any] | None = None,
        identified: Identified | None = None,
        options: TransactionOptions | None = None,
        expect_replay: bool = False,
        begun: Callable[[Execution[T]], object] = lambda _: None,
    ) -> TransactionResult:
        """Run a leased operation, as :meth:`spanctl.spanner.protocol.Execution.run` does.

        ``begun`` gets the execution before it runs: whatever ends it, and wherever an interruption
        comes, that has the txn ID and the outcome.

        Raises:
            UsageError: The operation is not leased: nothing is committed without its lease.
        """
        with self._lock:
            leased = call.key in self._pending
        if not leased:
            msg = f"operation {call.key} is not leased"
            raise UsageError(msg, hint="lease it first, once for each time that it is executed")
        options = options or TransactionOptions()
        self._declare(options.deadline)
        execution = self.database.execution(
            call,
            body,
            provenance=provenance or self.provenance,
            lease_anew=self._lease_anew,
            arguments=arguments,
            identified=identified,
            options=options,
            expect_replay=expect_replay,
        )
        begun(execution)
        try:
            return execution.run()
        finally:
            if not execution.in_doubt:
                self.ended(call)

    def step(  # noqa: PLR0913 - one operation, told in full
        self,
        name: str,
        body: Callable[[Transaction], T],
        *,
        key: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        options: TransactionOptions | None = None,
        expect_replay: bool = True,
    ) -> TransactionResult:
        """Lease and run the next call of a step, or the one that ``key`` names.

        Calls without a key are told apart by their order, so they belong in one thread.

        Args:
            name: The step's name.
            body: Gets the transaction.
            key: The caller's own name for this call of the step.
            arguments: What the body works on; the same operation with others is refused.
            options: Deadlines, and what the receipt keeps.
            expect_replay: Whether the operation may have been run before, under this root.

        Raises:
            KeyReusedError: Another function was called with the key in this execution.
            SpanctlError: As :meth:`spanctl.spanner.protocol.Execution.run` raises.
        """
        if key is None:
            with self._lock:
                ordinal = self._ordinals[name]
                self._ordinals[name] += 1
            operation = OperationKey(self.root, (), name, ordinal)
        else:
            operation = OperationKey(self.root, (), name, key)
            self._refuse_other(operation, body)
        (call,) = self.lease([operation])
        return self.execute(
            call, body, arguments=arguments, options=options, expect_replay=expect_replay
        )

    def _refuse_other(self, operation: OperationKey, body: Callable[..., Any]) -> None:
        """Refuse a second function for one operation: its receipt would answer for both."""
        code = getattr(inspect.unwrap(body), "__code__", None)
        told = type(body).__qualname__.encode() if code is None else code_digest(code)
        with self._lock:
            known = self._bodies.setdefault(operation, told)
        if known != told:
            msg = f"operation {operation} is called with two functions"
            hint = "a key names one write: give the other one another key"
            raise KeyReusedError(msg, hint=hint, txn_id=Call(operation).txn_id)

    def ended(self, call: Call) -> None:
        """Note that the outcome of a leased call is known."""
        with self._lock:
            self._pending[call.key] -= 1
            if self._pending[call.key] <= 0:
                del self._pending[call.key]

    @sheltered
    def close(self, *, told: bool = True) -> bool:
        """Close the leases if every call is accounted for; tell whether they are closed.

        A call that this process doesn't know the end of (it ran elsewhere, or is in doubt) is
        accounted for by its receipt. What is leased afterwards is another execution's.

        Args:
            told: Whether who typed it is told what came of it by now. Else the digest of what was
                typed is kept, also in leases that are closed, until another call says so.

        Raises:
            SpanctlError: Spanner could not be reached; the leases stay open, which is harmless.
        """
        with self._lock:
            if self._pending:
                found = fence.standings(self.database, self._pending, timeout=leases.PARTING)
                for key, stands in found.items():
                    if stands.entry is not None:
                        del self._pending[key]
            while told and self._untold:
                one = self._untold[-1]
                leases.forget(self.database, one, close=False, timeout=leases.PARTING)
                self._untold.pop()
            heart.stop(self.executor)
            if self._pending:
                self._end()
                return not self._open
            if self._enrolled:
                self._rows.append(self.executor)
            if not self._open and not self._rows:
                return True
            typed = [intent.intent_id for intent in self._open if intent.request]
            ended = typed if told else []
            intents = [one.intent_id for one in self._open]
            leases.close(self.database, intents, ended=ended, executors=self._rows)
            self._untold += [] if told else typed
            self._open.clear()
            self._rows.clear()
            self._renew()
            return True

    def _end(self) -> None:
        """Note that this executor has ended: should it be called again, it goes on as another."""
        if self._enrolled:
            executors.end(self.database, self.executor, timeout=leases.PARTING)
            self._rows.append(self.executor)
            self._renew()

    def _renew(self) -> None:
        self.executor = str(uuid.uuid4())  # else a block of the same size would be a closed one
        self._enrolment, self._enrolled = None, False
        self._through.clear()
        self._keyed.clear()
