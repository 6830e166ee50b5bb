"""What an import did, of this run and of those before it."""

import json
from dataclasses import dataclass
from pathlib import Path

from spanctl.flows.columns import Mode
from spanctl.flows.importjob import ImportJob
from spanctl.flows.importwriter import Written
from spanctl.flows.validating import Checked
from spanctl.ledger.receipt import Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What an import did.

    Attributes:
        file: The file.
        table: The table.
        mode: What happened to rows that were there.
        sha256: SHA-256 of the file, hexadecimal.
        rows: Rows of the file.
        written: Rows written by this run.
        present: Rows that other runs of this import have written, earlier or meanwhile.
        bad: Rows that were left out.
        skipped: Rows that were in the table before, in mode insert-absent.
        chunks: Transactions of the whole import.
        chunks_written: Those of this run.
        imported_by: Id of the root flow run that finished it.
        already: Whether it had finished before, so that nothing was done.
        resumed: Whether an earlier run had begun it.
        rejects: The file that names the rows left out; None when there are none.
        seconds: From start to end of this run.
        txn_id: The transaction that says that all chunks are in.
        operations: Common part of the operation keys of its transactions.
    """

    file: Path
    table: str
    mode: Mode
    sha256: str
    rows: int
    written: int
    present: int
    bad: int
    skipped: int
    chunks: int
    chunks_written: int
    imported_by: str | None
    already: bool
    resumed: bool
    rejects: Path | None
    seconds: float
    txn_id: str
    operations: str


def done(
    job: ImportJob,
    checked: Checked | None,
    written: Written,
    seconds: float,
) -> ImportResult:
    """Return what an import did that ends now."""
    plan = job.settled
    return ImportResult(
        file=job.source.path,
        table=job.table.name,
        mode=job.options.mode,
        sha256=job.source.sha256,
        rows=plan.rows,
        written=written.rows,
        present=written.present,
        bad=plan.bad,
        skipped=written.skipped,
        chunks=plan.chunks,
        chunks_written=written.chunks,
        imported_by=written.finished_by,
        already=False,
        resumed=job.resumed,
        rejects=checked.rejects if checked else None,
        seconds=seconds,
        txn_id=written.finish.txn_id,
        operations=job.operations,
    )


def done_before(job: ImportJob, finish: Receipt, seconds: float) -> ImportResult:
    """Return what an import did that had finished before, as its last receipt says."""
    kept = json.loads(finish.result or "{}")
    rows, bad, skipped = (int(kept.get(name, 0)) for name in ("rows", "bad", "skipped"))
    return ImportResult(
        file=job.source.path,
        table=job.table.name,
        mode=job.options.mode,
        sha256=job.source.sha256,
        rows=rows,
        written=0,
        present=rows - bad - skipped,
        bad=bad,
        skipped=skipped,
        chunks=int(kept.get("chunks", 0)),
        chunks_written=0,
        imported_by=finish.provenance.root_run,
        already=True,
        resumed=False,
        rejects=None,
        seconds=seconds,
        txn_id=finish.txn_id,
        operations=job.operations,
    )
