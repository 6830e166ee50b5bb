"""A transaction against Spanner's limits, before its Commit is sent."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from google.cloud.spanner_v1.types import Mutation

from spanctl.errors import SpanctlError
from spanctl.spanner import catalog, limits, receipts
from spanctl.spanner.limits import Write

if TYPE_CHECKING:
    from spanctl.spanner.catalog import Table
    from spanctl.spanner.client import Database

_RECEIPT: Final = len(receipts.COLUMNS) + 2  # and its indexes, by time and by run


class Tables:
    """The tables of one database as they were last read: each when it is first asked for."""

    def __init__(self, database: "Database") -> None:
        """Remember the database; nothing is read yet."""
        self._database = database
        self._known: dict[str, Table | None] = {}

    def get(self, name: str, *, anew: bool = False) -> "Table | None":
        """Return a table; None when there is none, or the catalog can't be read.

        Args:
            name: Its name, in whatever case.
            anew: Whether to read it again: an index may have come or gone.
        """
        folded = name.casefold()
        if anew or folded not in self._known:
            try:
                self._known[folded] = catalog.table(self._database, name)
            except SpanctlError:
                # What can't be counted is left to Spanner, which counts in any case.
                self._known[folded] = None
        return self._known[folded]


def check(tables: Tables, writes: Mapping[Write, int], mutations: Sequence[Mutation]) -> None:
    """Return unless a transaction is over a limit for certain.

    The catalog is read only when the rows come near the limit, and again before they are refused
    by what was read earlier.

    Args:
        tables: The tables of the database.
        writes: What is written, by mutation and by DML, and the rows of it.
        mutations: What goes with the Commit.

    Raises:
        LimitError: It is.
    """
    limits.refuse_large_commit(sum(Mutation.pb(one).ByteSize() for one in mutations))
    highest = _RECEIPT + sum(rows * limits.bound(write) for write, rows in writes.items())
    if highest <= limits.MAX_MUTATIONS:
        return
    if _least(tables, writes, anew=False) > limits.MAX_MUTATIONS:
        _least(tables, writes, anew=True)
        limits.refuse_many(_counted(tables, writes), _RECEIPT)


def _least(tables: Tables, writes: Mapping[Write, int], *, anew: bool) -> int:
    for name in {write.table.casefold() for write in writes}:
        tables.get(name, anew=anew)
    return _RECEIPT + sum(rows * each for _, rows, each in _counted(tables, writes))


def _counted(tables: Tables, writes: Mapping[Write, int]) -> list[tuple[Write, int, int]]:
    return [
        (write, rows, limits.least(write, tables.get(write.table)))
        for write, rows in writes.items()
    ]
