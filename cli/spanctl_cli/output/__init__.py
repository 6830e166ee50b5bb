"""The only writer to stdout: frozen results go in, text in the wanted format comes out.

A command builds a result of plain Python values and hands it over once, at its end, so that stdout
stays empty when the command fails::

    from spanctl_cli.output import Column, Kind, Listing, emit

    emit(
        Listing(
            schema="audit.list",                       # JSON says "spanctl.audit.list/v1"
            columns=(
                Column("txn_id", kind=Kind.ID),        # the key names it in JSON and --fields
                Column("committed", kind=Kind.TIME),   # an aware datetime
                Column("outcome", kind=Kind.STATE),    # coloured by what it says
                Column("rows", kind=Kind.NUMBER),
                Column("reason"),
                Column("executor", extra=True),        # in data formats; in tables only by --fields
            ),
            rows=[{"txn_id": ..., "committed": ..., ...}, ...],   # any iterable of mappings
            empty="no transactions in the last 24 h",  # said on stderr when there are no rows
        ),
        output_format,                                 # options.OutputOption; None: table
        fields=fields,                                 # options.FieldsOption; None: all
    )

One thing is a :class:`Record`; what belongs to it goes in sections, each a Listing or a Record::

    emit(Record(schema="audit", columns=(...), values={...}, sections=(
        Section("statements", "Statements", Listing(schema="audit.statements", ...)),
    )), output_format, fields=fields)

Every command with ``options.OutputOption`` has ``--fields`` and ``--no-header`` without naming them
(see :mod:`spanctl_cli.shaping`).

==========  ===================================================================================
``table``   on a terminal aligned and coloured, times local and relative; piped: tab-separated,
            whole, uncoloured, a header line first, times RFC 3339 in UTC
``wide``    the same with every field, the ``extra`` ones included
``json``    one document ``{"schema": "spanctl.<noun>/v1", ...}``; a listing's rows are ``items``
``jsonl``   one object a line, each with its ``schema``
``csv``     RFC 4180 with a header line, lines ended by LF; None is an empty field, a
            :class:`Document` JSON text (``[]``, ``null``)
``name``    the ids alone, one a line (first ``Kind.ID`` column)
==========  ===================================================================================

Values may be str, int, float, bool, None, datetime (aware), timedelta, Decimal, bytes, Enum, Path,
UUID, date, and lists and mappings of those. Data is never read as markup; control characters
are shown escaped. Ids are never cut: where a terminal is too narrow, rows become blocks.

A result may bring a ``view`` for terminals: a function that returns Rich renderables, used only for
``table`` on a terminal. Put data in them through :func:`text`, never as bare strings.

Events of a live command go out one by one: ``emit_event("run.event", {...}, output_format)`` writes
a line under ``jsonl`` and nothing under other formats. :func:`stream` writes a listing's rows as
they come. When the reader of a pipe went away, writing
becomes a no-op (the command's own exit code still counts); endless followers stop on
:func:`reader_gone`.
"""

from spanctl_cli.output.emitter import emit, emit_event, shaped, stream
from spanctl_cli.output.model import (
    Column,
    Document,
    Format,
    Kind,
    Listing,
    Record,
    Section,
    Shape,
)
from spanctl_cli.output.rendering import text
from spanctl_cli.output.stdout import reader_gone, stdout_is_terminal

__all__ = [
    "Column",
    "Document",
    "Format",
    "Kind",
    "Listing",
    "Record",
    "Section",
    "Shape",
    "emit",
    "emit_event",
    "reader_gone",
    "shaped",
    "stdout_is_terminal",
    "stream",
    "text",
]
