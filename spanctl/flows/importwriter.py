"""Writing what is not written yet of an import: its plan, its chunks in order, and its finish."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spanctl.errors import ConflictError, SpanctlError, StatementError
from spanctl.flows.cutting import Chunk
from spanctl.flows.importjob import ImportJob, Tell, committed
from spanctl.flows.importplan import ImportPlan
from spanctl.ledger.receipt import Provenance, Receipt, TransactionResult

if TYPE_CHECKING:
    from spanctl.spanner.run import Run
    from spanctl.spanner.transaction import Transaction

_BLOCK = 64  # chunks that are leased, and looked up on a resume, at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What :func:`write` did.

    Attributes:
        rows: Rows written by this run.
        present: Rows that earlier runs of the same import had written.
        chunks: Transactions of this run.
        finish: The transaction that says that all chunks are in.
    """

    rows: int
    present: int
    chunks: int
    finish: TransactionResult


@dataclass(slots=True)
class _Writer:
    job: ImportJob
    run: "Run"
    look_first: bool
    tell: Tell
    rows: int = 0
    present: int = 0
    written: int = 0
    _position: int = -1
    _reader: Iterator[Chunk] = field(default_factory=lambda: iter(()))

    def write(self) -> Written:
        plan = self._record_plan()
        for first in range(0, plan.chunks, _BLOCK):
            self._block(range(first, min(first + _BLOCK, plan.chunks)))
        self.job.source.refuse_change()
        finish = self._finish(plan)
        return Written(rows=self.rows, present=self.present, chunks=self.written, finish=finish)

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
        kept = self._keep("plan", self.job.settled.to_json())
        self.job.plan = plan = ImportPlan.from_json(kept.result)
        self.look_first = self.look_first or kept.replayed
        return plan

    def _finish(self, plan: ImportPlan) -> TransactionResult:
        kept = {"rows": plan.rows, "bad": plan.bad, "chunks": plan.chunks}
        return self._keep("finish", {**kept, "file": self.job.source.path.name})

    def _block(self, numbers: range) -> None:
        done = self._done(numbers) if self.look_first else {}
        self.present += sum(receipt.rows for receipt in done.values())
        todo = [number for number in numbers if number not in done]
        if not todo:
            return
        calls = self.run.lease([self.job.key("chunk", number) for number in todo])
        for number, call in zip(todo, calls, strict=True):
            chunk = self._chunk(number)
            try:
                self._write(call, chunk)
            except StatementError as error:
                raise self._placed(error, chunk) from None
            self.tell(self.rows + self.present, chunk.end)

    def _done(self, numbers: range) -> dict[int, Receipt]:
        from spanctl.ledger.keys import txn_id
        from spanctl.spanner import receipts

        ids = {txn_id(self.job.key("chunk", number)): number for number in numbers}
        found = receipts.get_many(self.job.database, ids).items()
        return {ids[one]: receipt for one, receipt in found if committed(receipt)}

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

    def _write(self, call: Any, chunk: Chunk) -> None:  # noqa: ANN401 - a Call; its module is heavy
        kind, table = self.job.options.mode.kind, self.job.table.name
        columns, rows = self.job.converter.columns, self.job.encode(chunk)

        def body(txn: "Transaction") -> None:
            if rows:
                txn.write_encoded(kind, table, columns, rows)

        result = self.run.execute(
            call,
            body,
            arguments={"from": chunk.mark.offset, "to": chunk.end},
            expect_replay=self.look_first,
        )
        count = sum(result.row_counts)
        if result.replayed:
            self.present += count
        else:
            self.rows += count
            self.written += 1

    def _placed(self, error: StatementError, chunk: Chunk) -> StatementError:
        """Say which lines were refused, and what became of the others."""
        lines = f"lines {chunk.records[0].line} to {chunk.records[-1].line}"
        done = self.rows + self.present
        error.message = f"{lines}: {error.message}; {done:,} rows before them are committed"
        error.args = (error.message,)
        if error.details.get("status") == "ALREADY_EXISTS":
            error.hint = "one of these rows is in the table already: pass --mode upsert"
        elif error.details.get("status") == "NOT_FOUND":
            error.hint = "a row to update, or a parent row, does not exist"
        return error


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
        StatementError: Spanner refused a chunk; those before it are committed.
        ConflictError: The file or the table changed since the import began.
        SpanctlError: As :meth:`spanctl.spanner.client.Database.transact` raises.
    """
    from spanctl.spanner.run import Run

    run = Run(job.database, job.root, provenance=provenance)
    try:
        return _Writer(job, run, look_first=again or job.resumed, tell=tell).write()
    finally:
        with suppress(SpanctlError):  # leases that stay open are what resolves this later
            run.close()
