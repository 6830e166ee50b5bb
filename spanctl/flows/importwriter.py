"""Writing what is not written yet of an import: its plan, its chunks in order, and its finish."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from spanctl.errors import (
    ConflictError,
    LimitError,
    OutcomeUnknownError,
    SpanctlError,
    StatementError,
    TransactionError,
)
from spanctl.flows import conflicts
from spanctl.flows.columns import Mode
from spanctl.flows.cutting import Chunk
from spanctl.flows.importjob import ImportJob, Tell, committed
from spanctl.flows.importplan import ImportPlan
from spanctl.flows.rowbatches import Batches
from spanctl.flows.runs import registry
from spanctl.ledger.receipt import Provenance, Receipt, TransactionResult

if TYPE_CHECKING:
    from spanctl.ledger.keys import OperationKey
    from spanctl.spanner.run import Call, Run
    from spanctl.spanner.transaction import Transaction

_BLOCK = 64  # chunks that are leased, and looked up on a resume, at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What :func:`write` did.

    Attributes:
        rows: Rows written by this run.
        present: Rows that other runs of the same import have written, earlier or meanwhile.
        skipped: Rows of the whole import that were in the table before, in mode insert-absent.
        chunks: Transactions of this run.
        finish: The transaction that says that all chunks are in.
        finished_by: Id of the root flow run that committed that one; None outside of Prefect.
    """

    rows: int
    present: int
    skipped: int
    chunks: int
    finish: TransactionResult
    finished_by: str | None


@dataclass(slots=True)
class _Writer:
    job: ImportJob
    run: "Run"
    look_first: bool
    tell: Tell
    rows: int = 0
    present: int = 0
    written: int = 0
    _begun: "set[OperationKey]" = field(default_factory=set)
    _position: int = -1
    _reader: Iterator[Chunk] = field(default_factory=lambda: iter(()))

    def write(self) -> Written:
        plan = self._record_plan()
        for first in range(0, plan.chunks, _BLOCK):
            self._block(range(first, min(first + _BLOCK, plan.chunks)))
        self.job.source.refuse_change()
        finish = self._finish(plan)
        return Written(
            rows=self.rows,
            present=self.present,
            skipped=self._skipped(plan),
            chunks=self.written,
            finish=finish,
            finished_by=self._author(finish),
        )

    def _author(self, finish: TransactionResult) -> str | None:
        """Return who committed the finish: of two runs at once only one did."""
        from spanctl.spanner import receipts

        if not finish.replayed:
            return self.run.provenance.root_run
        found = receipts.get(self.job.database, finish.txn_id)
        return found.provenance.root_run if found else None

    @contextmanager
    def telling_interruption(self) -> Iterator[None]:
        """Have Ctrl-C say how much is in, and that nothing is lost."""
        try:
            yield
        except KeyboardInterrupt as interruption:
            total, done = self.job.settled.rows, self.rows + self.present
            told = f"at least {done:,} of {total:,} rows are in"
            interruption.add_note(f"{told}; the same command goes on from there")
            raise

    def _keep(self, step: str, kept: dict[str, Any]) -> TransactionResult:
        from spanctl.spanner.run import TransactionOptions

        (call,) = self.run.lease([self.job.key(step)])
        return self.run.execute(
            call,
            lambda _txn: kept,
            arguments=self.job.arguments,
            options=TransactionOptions(keep_result=True),
            expect_replay=True,
        )

    def _record_plan(self) -> ImportPlan:
        kept = self._keep("plan", {**self.job.settled.to_json(), **self.job.identity})
        self.job.plan = plan = ImportPlan.from_json(kept.result)
        self.look_first = self.look_first or kept.replayed
        return plan

    def _finish(self, plan: ImportPlan) -> TransactionResult:
        kept = {"rows": plan.rows, "bad": plan.bad, "chunks": plan.chunks}
        if self.job.options.mode is Mode.INSERT_ABSENT:
            kept["skipped"] = self._skipped(plan)
        return self._keep("finish", {**kept, "file": self.job.source.path.name})

    def _skipped(self, plan: ImportPlan) -> int:
        """Count the good rows that nobody wrote, now that every chunk is committed."""
        if self.job.options.mode is not Mode.INSERT_ABSENT:
            return 0
        return plan.rows - plan.bad - self.rows - self.present

    def _block(self, numbers: range) -> None:
        done = self._done(numbers) if self.look_first else {}
        for receipt in done.values():
            self._count(receipt.rows, ours=self._is_ours(receipt))
        todo = [number for number in numbers if number not in done]
        if not todo:
            return
        calls = self.run.lease([self.job.key("chunk", number) for number in todo])
        try:
            self._send_all(todo, calls)
        finally:
            # What was never sent never commits: interrupted, it is no limbo.
            for call in calls:
                if call.key not in self._begun:
                    self.run.ended(call)
            self._begun.clear()

    def _send_all(self, todo: list[int], calls: "list[Call]") -> None:
        chunks = self._encoded(todo)
        if self.job.options.parallel == 1:
            for (chunk, rows), call in zip(chunks, calls, strict=True):
                self._settle(chunk, partial(self._send, call, chunk, rows))
            return
        waiting: deque[tuple[Chunk, Future[TransactionResult]]] = deque()
        # Leaving the block waits for the chunks that are being sent: none is left undecided.
        with ThreadPoolExecutor(self.job.options.parallel) as pool:
            try:
                for (chunk, rows), call in zip(chunks, calls, strict=True):
                    waiting.append((chunk, pool.submit(self._send, call, chunk, rows)))
                    if len(waiting) >= self.job.options.parallel:
                        self._settle(*_outcome(waiting.popleft()))
                while waiting:
                    self._settle(*_outcome(waiting.popleft()))
            except SpanctlError as error:
                if (open_still := self._settle_rest(waiting)) is not None:
                    raise open_still from error
                raise

    def _settle_rest(
        self, waiting: "Iterable[tuple[Chunk, Future[TransactionResult]]]"
    ) -> OutcomeUnknownError | None:
        """Count what was being sent when another chunk failed; return an outcome that is open."""
        found = None
        for chunk, future in waiting:
            try:
                self._settle(chunk, future.result)
            except OutcomeUnknownError as error:
                found = error
            except SpanctlError:
                continue  # it isn't committed, and the first of them is told
        return found

    def _settle(self, chunk: Chunk, outcome: Callable[[], TransactionResult]) -> None:
        try:
            result = outcome()
        except (StatementError, LimitError) as error:
            if isinstance(error, StatementError) and _is_there(error):
                done = self.rows + self.present
                raise conflicts.in_table(self.job, chunk, error, done) from None
            raise self._placed(error, chunk) from None
        self._count(sum(result.row_counts), ours=not result.replayed)
        self.tell(self.rows + self.present, chunk.end)

    def _count(self, rows: int, *, ours: bool) -> None:
        if ours:
            self.rows += rows
            self.written += 1
        else:
            self.present += rows

    def _is_ours(self, receipt: Receipt) -> bool:
        """Tell whether this very flow run wrote a chunk, on an earlier attempt."""
        root_run = self.run.provenance.root_run
        return root_run is not None and receipt.provenance.root_run == root_run

    def _done(self, numbers: range) -> dict[int, Receipt]:
        from spanctl.ledger.keys import txn_id
        from spanctl.spanner import receipts

        ids = {txn_id(self.job.key("chunk", number)): number for number in numbers}
        found = receipts.get_many(self.job.database, ids).items()
        return {ids[one]: receipt for one, receipt in found if committed(receipt)}

    def _encoded(self, numbers: list[int]) -> Iterator[tuple[Chunk, Batches]]:
        """Yield chunks ready to be sent; while one is, the next is read and encoded."""

        def encoded(number: int) -> tuple[Chunk, Batches]:
            chunk = self._chunk(number)
            return chunk, self.job.encode(chunk)

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(encoded, numbers[0])
            for following in numbers[1:]:
                ready = ahead.result()
                ahead = pool.submit(encoded, following)
                yield ready
            yield ahead.result()

    def _chunk(self, number: int) -> Chunk:
        if number != self._position:
            self._reader = self.job.chunks(number)
        self._position = number + 1
        chunk = next(self._reader, None)
        if chunk is None or chunk.number != number:
            self.job.source.refuse_change()
            msg = f"{self.job.source.path} has fewer chunks than when its import began"
            raise ConflictError(msg)
        return chunk

    def _send(self, call: "Call", chunk: Chunk, rows: Batches) -> TransactionResult:
        self._begun.add(call.key)

        def body(txn: "Transaction") -> None:
            rows.write(txn, self.job.table, self.job.options.mode)

        return self.run.execute(
            call,
            body,
            arguments={"from": chunk.mark.offset, "to": chunk.end, **self.job.identity},
            expect_replay=self.look_first,
        )

    def _placed(self, error: TransactionError, chunk: Chunk) -> TransactionError:
        """Say which lines were refused, and what became of the others."""
        lines = f"lines {chunk.records[0].line} to {chunk.records[-1].line}"
        done = self.rows + self.present
        error.message = f"{lines}: {error.message}; {done:,} other rows are committed"
        error.args = (error.message,)
        if error.details.get("status") == "NOT_FOUND":
            error.hint = "a row to update, or a parent row, does not exist"
        elif isinstance(error, LimitError):
            error.hint = "the table has changed: begin once more with --new and fewer --chunk-rows"
        return error


def _is_there(error: StatementError) -> bool:
    return error.details.get("status") == "ALREADY_EXISTS"


def _outcome(
    one: "tuple[Chunk, Future[TransactionResult]]",
) -> tuple[Chunk, Callable[[], TransactionResult]]:
    chunk, future = one
    return chunk, future.result


def write(
    job: ImportJob,
    provenance: Provenance,
    *,
    again: bool = False,
    tell: Tell = lambda _rows, _bytes: None,
) -> Written:
    """Write what is not written yet of a validated job.

    Args:
        job: The import.
        provenance: Goes into every receipt.
        again: Whether this very job may have written chunks before.
        tell: Told rows and bytes done, rows of earlier runs included.

    Raises:
        DuplicateKeyError: A row of a chunk is there already; the chunks before it are committed.
        StatementError: Spanner refused a chunk for another reason; likewise.
        LimitError: A chunk is over a limit, since the table has changed; likewise.
        ConflictError: The file or the table changed since the import began.
        SpanctlError: As :meth:`spanctl.spanner.protocol.Execution.run` raises.
    """
    from spanctl.spanner.run import Run

    registry.touch(job.database.target, job.root, provenance.root_run)
    run = Run(job.database, job.root, provenance=provenance)
    try:
        writer = _Writer(job, run, look_first=again or job.resumed, tell=tell)
        with writer.telling_interruption():
            return writer.write()
    finally:
        with suppress(SpanctlError):  # leases that stay open are what resolves this later
            run.close()
