"""An import: what names it, what the ledger knows of it, and its chunks, ready to be written.

Its identity is database, table, mode and the file's SHA-256, or the idempotency key that stands in
for them. The first transaction, ``plan``, keeps how the file is cut; each chunk is a transaction
named by its number; the last, ``finish``, says that all of them are in. So the same import, run
again after any death, goes on where it ended.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spanctl.errors import ConflictError, DuplicateKeyError, KeyReusedError, UsageError
from spanctl.flows import conflicts
from spanctl.flows.columns import Mode
from spanctl.flows.converting import Converter
from spanctl.flows.cutting import Chunk, cut, rows_per_chunk
from spanctl.flows.importplan import ImportOptions, ImportPlan
from spanctl.flows.reading import Source
from spanctl.flows.rowbatches import Batches
from spanctl.flows.validating import Checked, Lines, validate
from spanctl.ledger.keys import KEYED, OperationKey
from spanctl.ledger.receipt import EntryKind, Receipt

if TYPE_CHECKING:
    from spanctl.spanner.catalog import Table
    from spanctl.spanner.client import Database

_PATH = ("import",)
"""Keeps the operations of an import apart from a flow's under the same idempotency key."""
_WORDS = {"table": "table", "mode": "mode", "sha256": "file"}

_LATER = ("omitted_null", "quoted_empty")
"""Options that older imports don't know: left out of the digest where they aren't set."""

Tell = Callable[[int, int], None]
"""Told rows and bytes done."""


class ImportJob:
    """One file on its way into one table; not thread-safe.

    Attributes:
        source: The file.
        table: The table.
        options: How.
        generation: How often the file was imported before, plus one.
        plan: How the file is cut; None until it is recorded.
        finished: The receipt of an import that has finished, and is not to be repeated.
    """

    def __init__(
        self,
        database: "Database",
        source: Source,
        table: "Table",
        options: ImportOptions,
        *,
        idempotency_key: str | None = None,
    ) -> None:
        """Match the file with the table, and look up what the ledger knows of it.

        Raises:
            UsageError: File, table and options don't fit together.
            KeyReusedError: The idempotency key was used for another import.
            ConflictError: It was begun with other options.
            SpanctlError: The database could not be read.
        """
        self.database = database
        self.source = source
        self.table = table
        self.options = options
        self._key = idempotency_key
        self.converter = Converter(
            table,
            source.columns,
            mode=options.mode,
            file_format=source.format,
            null=options.null,
            omitted_null=options.omitted_null,
        )
        self._chunk_rows = rows_per_chunk(table, self.converter.columns, options.chunk_rows)
        self.generation = 1
        self.plan: ImportPlan | None = None
        self.finished: Receipt | None = None
        self._repeated = Lines()
        self._locate()
        self.resumed = self.plan is not None

    # -- identity

    @property
    def root(self) -> str:
        """First part of its operation keys: the same for the same key, or file, table and mode."""
        if self._key is not None:
            return f"{KEYED}{self._key}"
        name = f"import:{self.table.name}:{self.options.mode}:{self.source.sha256[:32]}"
        return name if self.generation == 1 else f"{name}:{self.generation}"

    def key(self, step: str, call: int = 0) -> OperationKey:
        """Return the key of one of its operations."""
        return OperationKey(self.root, _PATH if self._key is not None else (), step, call)

    @property
    def identity(self) -> dict[str, str]:
        """What an idempotency key stands for; empty where the root itself names it."""
        if self._key is None:
            return {}
        return {
            "table": self.table.name,
            "mode": self.options.mode.value,
            "sha256": self.source.sha256,
        }

    @property
    def operations(self) -> str:
        """The common part of its operation keys."""
        return self.key("chunk").prefix.removesuffix("/chunk")

    @property
    def arguments(self) -> dict[str, Any]:
        """What must be the same for a resumed import to read the file alike."""
        return {
            "columns": list(self.converter.named),
            "delimiter": self.source.delimiter,
            "format": self.source.format.value,
            "null": self.options.null,
            **{name: True for name in _LATER if getattr(self.options, name)},
            **self.identity,
        }

    def _locate(self) -> None:
        """Find the import to begin, to resume, or that has finished."""
        if self._key is not None:
            self._locate_keyed()
            return
        last: Receipt | None = None
        while True:
            plan, finish = self._ends()
            if finish is None and (plan is None or self._is_of(plan)):
                break
            if finish is None and not self.options.new:
                raise _other_options(self.source.path, "or --new to begin once more")
            last = finish or last
            self.generation += 1
        if plan is not None:
            self.plan = ImportPlan.from_json(json.loads(plan.result or "{}"))
        elif last is not None and not self.options.new:
            self.generation -= 1
            self.finished = last

    def _locate_keyed(self) -> None:
        """Find the one import that an idempotency key stands for."""
        if self.options.new:
            msg = "an idempotency key names one import, and --new asks for another"
            raise UsageError(msg, hint="for another import use another key")
        plan, self.finished = self._ends()
        if plan is None:
            return
        kept = json.loads(plan.result or "{}")
        other = [word for name, word in _WORDS.items() if kept.get(name) != self.identity[name]]
        if other:
            msg = f"idempotency key {self._key!r} was used to import another {', '.join(other)}"
            hint = f"run: spanctl audit {plan.txn_id}; for another import use another key"
            raise KeyReusedError(msg, hint=hint, txn_id=plan.txn_id)
        if self.finished is None and not self._is_of(plan):
            raise _other_options(self.source.path, "or use another key")
        self.plan = ImportPlan.from_json(kept)

    def _ends(self) -> tuple[Receipt | None, Receipt | None]:
        """Return the receipts of its first and of its last transaction."""
        from spanctl.spanner import fence

        first, last = self.key("plan"), self.key("finish")
        found = fence.standings(self.database, [first, last])
        return committed(found[first].entry), committed(found[last].entry)

    def _is_of(self, plan: "Receipt") -> bool:
        """Whether a plan was made with these options."""
        from spanctl.ledger.digests import arguments_digest, is_digest_of

        key = self.database.ledger.key
        digest = arguments_digest(key, self.arguments)
        return is_digest_of(plan.arguments_digest, key, self.arguments, digest)

    # -- validation

    def validate(self, tell: Tell = lambda _rows, _bytes: None) -> Checked | None:
        """Check the whole file, unless that was done when the import began.

        Returns:
            What the file holds; None when it was checked before, and found good.

        Raises:
            UsageError: There are more bad rows than may be skipped; nothing was written.
            DuplicateKeyError: Likewise, and each of them repeats the key of an earlier line.
        """
        if self.plan is not None and not self.plan.bad:
            return None
        rows = self.plan.chunk_rows if self.plan else self._chunk_rows
        checked = validate(
            self.source,
            self.converter,
            mode=self.options.mode,
            rows=rows,
            rejects=self.options.rejects,
            progress=tell,
        )
        self._repeated = checked.repeated
        if checked.bad > self.options.skip_bad:
            raise self._too_many(checked)
        if self.plan is None:
            self.plan = ImportPlan(
                rows=checked.rows,
                bad=checked.bad,
                chunks=checked.chunks,
                chunk_rows=rows,
                marks=checked.marks,
            )
        return checked

    def _too_many(self, checked: Checked) -> UsageError | DuplicateKeyError:
        path, allowed = self.source.path, self.options.skip_bad
        rows = "1 row" if checked.bad == 1 else f"{checked.bad:,} rows"
        limit = f" (at most {allowed:,} may be skipped)" if allowed else ""
        msg = (
            f"{rows} of {checked.rows:,} in {path} can't be imported{limit}, nothing was written;"
            f" the first: {checked.first_bad}"
        )
        details = {"rows": checked.rows, "bad": checked.bad, "rejects": str(checked.rejects)}
        if checked.first_repeated is None or checked.bad > len(checked.repeated):
            hint = f"see {checked.rejects}, or pass --skip-bad {checked.bad}"
            return UsageError(msg, hint=hint, **details)
        hint = f"see {checked.rejects}, or {conflicts.INSTEAD}"
        error = DuplicateKeyError(msg, hint=hint, line=checked.first_repeated.line, **details)
        error.quoted = conflicts.shown_at(self, checked.first_repeated)
        return error

    # -- chunks

    def chunks(self, first: int) -> Iterator[Chunk]:
        """Yield the chunks from one on, read from the nearest mark before it."""
        plan = self.settled
        marked, mark = plan.marks.before(first)
        records = self.source.records(mark)
        cut_again = cut(records, plan.chunk_rows, first=marked, size=plan.chunk_bytes)
        return (chunk for chunk in cut_again if chunk.number >= first)

    def encode(self, chunk: Chunk) -> Batches:
        """Return a chunk's rows ready to be written, bad rows left out.

        Raises:
            ConflictError: A row is bad that was good when the file was checked.
        """
        rows = Batches(self.converter, keyed=self.options.mode is Mode.INSERT_ABSENT)
        convert, skips = self.converter.values, self.settled.bad > 0
        for record in chunk.records:
            if skips and record.line in self._repeated:
                continue
            try:
                if record.fields is not None:
                    rows.add(convert(record.fields))
                    continue
                reason = record.reason
            except ValueError as error:
                reason = str(error)
            if not skips:
                msg = f"line {record.line} no longer fits {self.table.name}: {reason}"
                raise ConflictError(msg, hint="the table changed since the import began")
        return rows

    @property
    def settled(self) -> ImportPlan:
        """The plan, once there is one.

        Raises:
            UsageError: The file was not validated yet.
        """
        if self.plan is None:
            msg = "an import is validated before it is written"
            raise UsageError(msg)
        return self.plan


def committed(receipt: Receipt | None) -> Receipt | None:
    """Return a receipt unless it is missing, or a fence."""
    return receipt if receipt is not None and receipt.kind is EntryKind.COMMITTED else None


def _other_options(path: Path, instead: str) -> ConflictError:
    msg = f"{path} was begun to be imported with other options"
    return ConflictError(msg, hint=f"pass the same again, {instead}")
