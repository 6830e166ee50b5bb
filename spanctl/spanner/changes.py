"""The change stream's records: which rows were changed, by which transaction, how."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from spanctl.spanner.rows import as_datetime
from spanctl.spanner.values import STRING, TIMESTAMP, JsonObject, Type, TypeCode, parse_json
from spanctl.spanner.watching import STREAM

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_QUERY = f"""SELECT ChangeRecord FROM READ_{STREAM}(
  start_timestamp => @start, end_timestamp => @end,
  partition_token => @token, heartbeat_milliseconds => 10000)"""  # noqa: S608 - a constant's name
_TYPES = {"start": TIMESTAMP, "end": TIMESTAMP, "token": STRING}


class ModType(StrEnum):
    """What happened to a row."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row that a transaction changed.

    Attributes:
        table: Its table.
        mod_type: What happened to it.
        keys: Column to value of its primary key.
        before: Column to value before; None for an INSERT.
        after: Column to value after; None for a DELETE. An UPDATE holds at least what it changed.
    """

    table: str
    mod_type: ModType
    keys: Mapping[str, Any]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataChange:
    """One record of the stream: rows of one table that one transaction changed in one way.

    Attributes:
        commit_timestamp: When the transaction committed.
        server_transaction_id: Spanner's own id of the transaction; not the API's.
        record_sequence: Where the record stands in the transaction.
        table: The table.
        mod_type: What happened to the rows.
        rows: The rows.
        records_in_transaction: How many records the whole transaction has.
        tag: The transaction's tag.
    """

    commit_timestamp: datetime
    server_transaction_id: str
    record_sequence: str
    table: str
    mod_type: ModType
    rows: tuple[RowChange, ...]
    records_in_transaction: int
    tag: str


def changes(database: "Database", start: datetime, end: datetime) -> Iterator[DataChange]:
    """Read all data changes with ``start <= commit_timestamp <= end``, an entirely past window.

    Records come partition by partition: sort them when the order matters.

    Raises:
        StatementError: There is no stream, or ``details["status"]`` is OUT_OF_RANGE: it doesn't
            reach back to ``start``.
        SpanctlError: The database could not be read.
    """
    waiting: list[tuple[str | None, datetime]] = [(None, start)]
    known: set[str] = set()
    while waiting:
        token, begin = waiting.pop()
        params = {"start": begin, "end": end, "token": token}
        rows = database.query(_QUERY, params, _TYPES)
        for row in rows:
            for record in _named(row[0], rows.columns[0].type):
                for data in record["data_change_record"]:
                    yield _data_change(data)
                for child, born in _children(record):
                    if child not in known and born <= end:
                        waiting.append(
                            (child, max(start, born))
                        )  # it answers for its own life only
                    known.add(child)


# -- the stream's records


def _named(value: Any, kind: Type) -> Any:  # noqa: ANN401 - nested arrays and structs
    """Return structs as dictionaries, however deep they are."""
    if value is None:
        return None
    if kind.code is TypeCode.ARRAY:
        return [_named(item, kind.array_element_type) for item in value]
    if kind.code is TypeCode.STRUCT:
        pairs = zip(kind.struct_type.fields, value, strict=True)
        return {field.name: _named(item, field.type_) for field, item in pairs}
    return value


def _children(record: Mapping[str, Any]) -> Iterator[tuple[str, datetime]]:
    """Yield the tokens of the partitions that follow, each with when it begins."""
    for children in record["child_partitions_record"]:
        born = as_datetime(children["start_timestamp"])
        for partition in children["child_partitions"]:
            yield partition["token"], born


def _data_change(data: Mapping[str, Any]) -> DataChange:
    columns = sorted(data["column_types"], key=lambda column: int(column["ordinal_position"]))
    kinds = {column["name"]: _type(_plain(column["type"])) for column in columns}
    mod_type = ModType(data["mod_type"])
    table = data["table_name"]
    rows = (_row(table, mod_type, mod, kinds) for mod in data["mods"])
    return DataChange(
        commit_timestamp=as_datetime(data["commit_timestamp"]),
        server_transaction_id=data["server_transaction_id"],
        record_sequence=data["record_sequence"],
        table=table,
        mod_type=mod_type,
        rows=tuple(rows),
        records_in_transaction=data["number_of_records_in_transaction"],
        tag=data["transaction_tag"] or "",
    )


def _row(
    table: str, mod_type: ModType, mod: Mapping[str, Any], kinds: Mapping[str, Type | None]
) -> RowChange:
    parts = (_plain(mod[part]) or {} for part in ("keys", "old_values", "new_values"))
    keys, before, after = (
        {name: _value(part[name], kind) for name, kind in kinds.items() if name in part}
        for part in parts
    )
    return RowChange(
        table,
        mod_type,
        keys,
        None if mod_type is ModType.INSERT else before,
        None if mod_type is ModType.DELETE else after,
    )


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON as the client read it, or as text
    import json

    if isinstance(value, JsonObject):
        value = value.serialize()
    return json.loads(value) if isinstance(value, str) else value


def _type(data: Mapping[str, Any]) -> Type | None:
    """Return the type that the stream describes; None for one that this client doesn't know."""
    code = getattr(TypeCode, data["code"], None)
    if code is not TypeCode.ARRAY:
        return None if code is None else Type(code=code)
    element = _type(data["array_element_type"])
    return None if element is None else Type(code=code, array_element_type=element)


def _value(value: Any, kind: Type | None) -> Any:  # noqa: ANN401 - a value of any type
    """Read one JSON value by its column's type; what has no Python form stays as it came."""
    if value is None or kind is None:
        return value
    if kind.code is TypeCode.ARRAY and isinstance(value, list):
        return [_value(item, kind.array_element_type) for item in value]
    if kind.code is TypeCode.JSON:
        return JsonObject.from_str(value) if isinstance(value, str) else JsonObject(value)
    try:
        return parse_json(value, kind)
    except ValueError:  # PROTO, ENUM and the types of the future
        return value
