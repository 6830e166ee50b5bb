"""Which permission each RPC of Spanner takes, and what a reader's requests may hold."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

_SPANNER: Final = "/google.spanner.v1.Spanner/"
_DATABASES: Final = "/google.spanner.admin.database.v1.DatabaseAdmin/"
_INSTANCES: Final = "/google.spanner.admin.instance.v1.InstanceAdmin/"
_OPERATIONS: Final = "/google.longrunning.Operations/"

WRITE: Final = "spanner.databases.write"
TEST_PERMISSIONS: Final = f"{_DATABASES}TestIamPermissions"
PUBLIC: Final = ""
"""What it takes to ask for one's own permissions."""
STREAMS: Final = frozenset(
    f"{_SPANNER}{name}"
    for name in ("ExecuteStreamingSql", "StreamingRead", "BatchWrite", "FetchCacheUpdate")
)
"""The methods that answer with a stream; every other one answers once."""

_BEGIN_READ_ONLY: Final = "spanner.databases.beginReadOnlyTransaction"
_BEGIN_READ_WRITE: Final = "spanner.databases.beginOrRollbackReadWriteTransaction"
_BEGIN_PARTITIONED: Final = "spanner.databases.beginPartitionedDmlTransaction"
_REMEMBERED: Final = 10_000

_PERMISSIONS: Final[Mapping[str, str]] = {
    f"{_SPANNER}CreateSession": "spanner.sessions.create",
    f"{_SPANNER}BatchCreateSessions": "spanner.sessions.create",
    f"{_SPANNER}GetSession": "spanner.sessions.get",
    f"{_SPANNER}ListSessions": "spanner.sessions.list",
    f"{_SPANNER}DeleteSession": "spanner.sessions.delete",
    f"{_SPANNER}Read": "spanner.databases.read",
    f"{_SPANNER}StreamingRead": "spanner.databases.read",
    f"{_SPANNER}ExecuteSql": "spanner.databases.select",
    f"{_SPANNER}ExecuteStreamingSql": "spanner.databases.select",
    f"{_SPANNER}FetchCacheUpdate": "spanner.databases.select",
    f"{_SPANNER}PartitionQuery": "spanner.databases.partitionQuery",
    f"{_SPANNER}PartitionRead": "spanner.databases.partitionRead",
    f"{_SPANNER}BeginTransaction": _BEGIN_READ_ONLY,
    f"{_SPANNER}Rollback": _BEGIN_READ_WRITE,
    f"{_SPANNER}ExecuteBatchDml": WRITE,
    f"{_SPANNER}Commit": WRITE,
    f"{_SPANNER}BatchWrite": WRITE,
    TEST_PERMISSIONS: PUBLIC,
    f"{_DATABASES}ListDatabases": "spanner.databases.list",
    f"{_DATABASES}GetDatabase": "spanner.databases.get",
    f"{_DATABASES}CreateDatabase": "spanner.databases.create",
    f"{_DATABASES}UpdateDatabase": "spanner.databases.update",
    f"{_DATABASES}UpdateDatabaseDdl": "spanner.databases.updateDdl",
    f"{_DATABASES}GetDatabaseDdl": "spanner.databases.getDdl",
    f"{_DATABASES}DropDatabase": "spanner.databases.drop",
    f"{_INSTANCES}GetInstance": "spanner.instances.get",
    f"{_INSTANCES}ListInstances": "spanner.instances.list",
    f"{_INSTANCES}CreateInstance": "spanner.instances.create",
    f"{_INSTANCES}GetInstanceConfig": "spanner.instanceConfigs.get",
    f"{_INSTANCES}ListInstanceConfigs": "spanner.instanceConfigs.list",
    f"{_OPERATIONS}GetOperation": "spanner.databaseOperations.get",
    f"{_OPERATIONS}ListOperations": "spanner.databaseOperations.list",
    f"{_OPERATIONS}CancelOperation": "spanner.databaseOperations.cancel",
}

_REQUESTS: Final[Mapping[str, tuple[str, str]]] = {
    f"{_SPANNER}Read": ("ReadRequest", "ResultSet"),
    f"{_SPANNER}StreamingRead": ("ReadRequest", "PartialResultSet"),
    f"{_SPANNER}ExecuteSql": ("ExecuteSqlRequest", "ResultSet"),
    f"{_SPANNER}ExecuteStreamingSql": ("ExecuteSqlRequest", "PartialResultSet"),
    f"{_SPANNER}PartitionQuery": ("PartitionQueryRequest", "PartitionResponse"),
    f"{_SPANNER}PartitionRead": ("PartitionReadRequest", "PartitionResponse"),
    f"{_SPANNER}BeginTransaction": ("BeginTransactionRequest", "Transaction"),
}
"""Methods that read or write, as their request says: its type, and its answer's."""


def permission(method: str) -> str:
    """Return what it takes to call a method at all; one of its own for methods not known here."""
    known = _PERMISSIONS.get(method)
    return known if known is not None else f"spanner.unknown.{method.rpartition('/')[2]}"


def load() -> None:
    """Import Google's types, which takes half a second: do it where nobody waits."""
    import google.cloud.spanner_v1  # noqa: F401 - for its effect


class Snapshots:
    """The read-only transactions that readers have begun.

    Transaction ids can be guessed, so a reader may go on only in one of these: another one might
    be somebody's read-write transaction, in which a statement would write.
    """

    def __init__(self) -> None:
        """Nothing was begun."""
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def needed(self, method: str, data: bytes) -> str | None:
        """Return the permission that the request takes beyond its method's; None for no other."""
        if method not in _REQUESTS:
            return None
        request = _parse(_REQUESTS[method][0], data)
        if request is None:
            return WRITE  # whatever it is, the emulator shall not guess
        if method.endswith("/BeginTransaction"):
            return _of_options(request.options)
        return self._of_selector(request)

    def _of_selector(self, request: Any) -> str | None:  # noqa: ANN401 - Google's
        selector = request.transaction
        match selector._pb.WhichOneof("selector"):  # noqa: SLF001 - proto-plus has no other way
            case "id":
                return None if (request.session, selector.id) in self._known else WRITE
            case "begin":
                return _of_options(selector.begin)
            case "single_use":
                return _of_options(selector.single_use)
            case _:
                return None

    def learn(self, method: str, request: bytes, answer: bytes) -> None:
        """Remember the read-only transaction that a reader's admitted request began, if it did."""
        if method not in _REQUESTS:
            return
        kinds = _REQUESTS[method]
        asked, told = _parse(kinds[0], request), _parse(kinds[1], answer)
        if asked is None or told is None:
            return
        begun = told if method.endswith("/BeginTransaction") else _transaction_in(told)
        if begun.id:
            self._known[asked.session, begun.id] = None
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def _transaction_in(answer: Any) -> Any:  # noqa: ANN401 - Google's
    is_result = "metadata" in type(answer).meta.fields
    return answer.metadata.transaction if is_result else answer.transaction


def _of_options(options: Any) -> str | None:  # noqa: ANN401 - Google's
    match options._pb.WhichOneof("mode"):  # noqa: SLF001 - proto-plus has no other way
        case "read_only":
            return None
        case "partitioned_dml":
            return _BEGIN_PARTITIONED
        case "read_write":
            return _BEGIN_READ_WRITE
        case _:
            return WRITE


def _parse(kind: str, data: bytes) -> Any:  # noqa: ANN401 - Google's
    from google.cloud import spanner_v1
    from google.protobuf.message import DecodeError

    try:
        return getattr(spanner_v1, kind).deserialize(data)
    except DecodeError:
        return None
