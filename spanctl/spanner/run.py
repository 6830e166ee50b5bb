"""One execution of a job: it leases operations, runs them, and closes what is settled."""

import inspect
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from spanctl.closing import Closing
from spanctl.errors import KeyReusedError, SpanctlError, UsageError
from spanctl.ledger.digests import code_digest
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import Provenance, TransactionResult
from spanctl.shelter import sheltered
from spanctl.spanner import fence, leases, requests
from spanctl.spanner.client import Database
from spanctl.spanner.leases import LARGEST_BLOCK, LARGEST_LIST, Holder, Intent
from spanctl.spanner.operation import Call, Identified, TransactionOptions
from spanctl.spanner.presence import Presence
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
        self._presence = Presence(database, root, self.provenance, ancestors)
        self._asked = asked
        self._typed = typed
        self._lock = threading.Lock()
        self._ordinals: dict[str, int] = defaultdict(int)
        self._through: dict[str, int] = {}
        self._blocks: dict[str, int] = {}
        self._keyed: set[tuple[str, str]] = set()
        self._bodies: dict[OperationKey, bytes] = {}
        self._open: list[Intent] = []
        self._running = 0
        self._closing = False
        self._untold: list[str] = []
        self._pending: Counter[OperationKey] = (
            Counter()
        )  # a call may be executed in several threads at once

    @property
    def executor(self) -> str:
        """Id of the executor that holds the leases."""
        return self._presence.executor

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
        with self._held() as presence:
            wanted = self._wanted(keys)
            if wanted:
                wanted[0] = replace(wanted[0], request=self._typed)
                self._acknowledge(wanted, presence.holder())
                self._hold(wanted)
                presence.begin()
            self._pending.update(keys)
        return calls

    @contextmanager
    def _held(self) -> Iterator[Presence]:
        """Hold the lock to lease under; a fork begins anew, as an executor of its own.

        Raises:
            SupersededError: This executor counts as dead.
        """
        if self._presence.is_of_parent:
            self._disown()
        with self._lock, self._presence.noting():
            self._presence.check()
            yield self._presence

    def _disown(self) -> None:
        """Leave to the process of which this one is a fork what that has leased."""
        self._lock = threading.Lock()  # it may have been held there
        self._open, self._untold = [], []
        self._pending = Counter()
        self._presence.rows = []
        self._renew(self._presence.renew)

    def _acknowledge(self, wanted: Sequence[Intent], holder: Holder) -> None:
        if self._asked is None:
            leases.acknowledge(self.database, wanted, holder)
        else:
            requests.acknowledge(self.database, wanted, self.root, self._asked, holder)
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
        with self._held() as presence:
            presence.holder().enrolled(self.database)
            presence.begin()
            return presence.guards

    def guard(self, transaction: Transaction) -> None:
        """Refuse a transaction, from within it, once this executor counts as dead.

        For what is written down before something that no transaction holds, as DDL.

        Raises:
            SupersededError: It does.
        """
        self._presence.guard(transaction)

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
        """Lease an operation that goes on behind a fence: an older lease counts for nothing."""
        key = call.key
        ordinal, keys = (key.call, ()) if isinstance(key.call, int) else (None, (key.call,))
        with self._held() as presence:
            intent = Intent(
                executor=presence.executor,
                prefix=key.prefix,
                first=ordinal,
                last=ordinal,
                keys=keys,
                root_run=self.provenance.root_run,
                epoch=call.epoch,
            )
            leases.acknowledge(self.database, [intent], presence.holder())
            self._open.append(intent)
            presence.begin()

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
        with self._lock:
            self._running += 1
        try:
            begun(execution)
            with self._lock:
                self._presence.declare(options.deadline)
            return execution.run()
        finally:
            self._ran(None if execution.in_doubt else call)

    def _ran(self, ended: Call | None) -> None:
        """Note that an execution is over; the last one closes what was to be closed before."""
        if ended is not None:
            self.ended(ended)
        with self._lock:
            self._running -= 1
            closing = self._closing and self._running == 0
        if closing:
            with suppress(SpanctlError):  # the leases stay open
                self.close()

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
            SupersededError: This executor counts as dead: its leases are a recovery's to close.
            SpanctlError: Spanner could not be reached; the leases stay open, which is harmless.
        """
        if self._presence.is_of_parent:
            self._disown()
        with self._lock:
            if self._running == 0:
                self._presence.still()
            if self._pending:
                found = fence.standings(self.database, self._pending, timeout=leases.PARTING)
                for key, stands in found.items():
                    if stands.entry is not None:
                        del self._pending[key]
            while told and self._untold:
                one = self._untold[-1]
                leases.forget(self.database, one, close=False, timeout=leases.PARTING)
                self._untold.pop()
            if self._pending:
                return self._left_open()
            self._closing = False
            guards = self._presence.guards
            self._renew(self._presence.retire)
            if not self._open and not self._presence.rows:
                return True
            typed = [intent.intent_id for intent in self._open if intent.request]
            with self._presence.noting():
                leases.close(
                    self.database,
                    [one.intent_id for one in self._open],
                    ended=typed if told else [],
                    executors=self._presence.rows,
                    guards=guards,
                )
            self._untold += [] if told else typed
            self._open.clear()
            self._presence.rows.clear()
            return True

    def _left_open(self) -> bool:
        """Leave the leases open; with nothing at work, this executor has ended all the same."""
        self._closing = self._running > 0
        if not self._closing:
            self._renew(self._presence.end)
        return not self._open

    def _renew(self, leave: Callable[[], None]) -> None:
        """Have another executor lease from here on, which holds nothing yet."""
        self._through.clear()
        self._keyed.clear()
        leave()
