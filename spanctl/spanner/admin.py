"""Instances, databases and DDL."""

import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from google.api_core.exceptions import AlreadyExists, GoogleAPICallError, from_grpc_status
from google.auth.credentials import AnonymousCredentials

from spanctl.clock import monotonic
from spanctl.credentials.live import LiveCredentials
from spanctl.errors import ConflictError, PendingError, UsageError
from spanctl.spanner.failures import translate
from spanctl.spanner.limits import refuse_large_request
from spanctl.spanner.retrying import SILENCE, TRANSIENT, Pauses, read_again
from spanctl.spanner.rpc import Target, status_of

if TYPE_CHECKING:
    from google.cloud.spanner_admin_database_v1 import DatabaseAdminClient
    from google.cloud.spanner_admin_database_v1.types import UpdateDatabaseDdlRequest
    from google.cloud.spanner_admin_instance_v1 import InstanceAdminClient
    from google.longrunning.operations_pb2 import Operation

_TIMEOUT: Final = 30.0
DDL_TIMEOUT: Final = 7 * 24 * 3600
"""Seconds to wait for DDL, which takes hours where a large table is indexed."""
_FIRST_POLL: Final = 0.02
_POLL: Final = 5.0
_PATIENCE: Final = 120.0
"""Seconds in which a server that can't be asked how far DDL is may come back."""


def _databases(target: Target, credentials: LiveCredentials | None) -> "DatabaseAdminClient":
    from google.cloud.spanner_admin_database_v1 import DatabaseAdminClient
    from google.cloud.spanner_admin_database_v1.services.database_admin.transports import (
        DatabaseAdminGrpcTransport,
    )

    channel = target.open_channel(credentials)
    transport = DatabaseAdminGrpcTransport(channel=channel, credentials=AnonymousCredentials())
    return DatabaseAdminClient(transport=transport)


def open_instances(target: Target, credentials: LiveCredentials | None) -> "InstanceAdminClient":
    """Return a client of instances; the caller closes its transport."""
    from google.cloud.spanner_admin_instance_v1 import InstanceAdminClient
    from google.cloud.spanner_admin_instance_v1.services.instance_admin.transports import (
        InstanceAdminGrpcTransport,
    )

    channel = target.open_channel(credentials)
    transport = InstanceAdminGrpcTransport(channel=channel, credentials=AnonymousCredentials())
    return InstanceAdminClient(transport=transport)


def ensure_database(target: Target, credentials: LiveCredentials | None = None) -> bool:
    """Create the instance (on an emulator only) and the database where they don't exist.

    Returns:
        Whether the database was created, and is therefore empty.

    Raises:
        SpanctlError: Spanner could not be reached or refused.
    """
    if target.emulator_host:
        _ensure_instance(target)
    client = _databases(target, credentials)
    try:
        operation = client.create_database(
            parent=target.database.instance_path,
            create_statement=f"CREATE DATABASE `{target.database.database}`",
            retry=None,
            timeout=_TIMEOUT,
        )
        _await_ddl(client, target, str(operation.operation.name))
    except AlreadyExists:
        return False
    except GoogleAPICallError as error:
        raise translate(error, target, "the database was created") from None
    finally:
        client.transport.close()
    return True


def _ensure_instance(target: Target) -> None:
    name = target.database
    instance: Any = {
        "config": f"projects/{name.project}/instanceConfigs/emulator-config",
        "display_name": name.instance,
        "node_count": 1,
    }
    client = open_instances(target, None)
    try:
        client.create_instance(
            parent=f"projects/{name.project}",
            instance_id=name.instance,
            instance=instance,
            retry=None,
            timeout=_TIMEOUT,
        ).result(timeout=_TIMEOUT)
    except AlreadyExists:
        return
    except GoogleAPICallError as error:
        raise translate(error, target, "the instance was created") from None
    finally:
        client.transport.close()


def read_ddl(target: Target, credentials: LiveCredentials | None = None) -> list[str]:
    """Return the statements that make the database's schema.

    Raises:
        SpanctlError: Spanner could not be reached or refused.
    """
    client = _databases(target, credentials)
    try:
        found = client.get_database_ddl(database=str(target.database), retry=None, timeout=_TIMEOUT)
        return list(found.statements)
    except GoogleAPICallError as error:
        raise translate(error, target, "the schema was read") from None
    finally:
        client.transport.close()


def refuse_large_ddl(
    target: Target, statements: Sequence[str], operation_id: str = f"ddl_{uuid.UUID(int=0).hex}_0"
) -> None:
    """Return unless a batch of DDL is larger than a request may be.

    Args:
        target: The database.
        statements: The statements.
        operation_id: The operation's id, or one of its length.

    Raises:
        LimitError: It is; nothing was sent.
    """
    request = _request(target, statements, operation_id)
    hint = "run fewer statements at once, and shorter ones"
    refuse_large_request(type(request).pb(request).ByteSize(), "the DDL", hint)


def _request(
    target: Target, statements: Sequence[str], operation_id: str
) -> "UpdateDatabaseDdlRequest":
    from google.cloud.spanner_admin_database_v1.types import UpdateDatabaseDdlRequest

    return UpdateDatabaseDdlRequest(
        database=str(target.database), statements=list(statements), operation_id=operation_id
    )


def execute_ddl(
    target: Target,
    statements: Sequence[str],
    credentials: LiveCredentials | None = None,
    *,
    operation_id: str | None = None,
) -> str:
    """Execute DDL statements in order, as one batch, and wait until they are done.

    The batch is sent under an id, so that it is begun once however often it has to be sent.

    Args:
        target: The database.
        statements: The statements.
        credentials: What to authenticate with, in place of what the target refers to.
        operation_id: The operation's id, of lower-case letters, digits and ``_``; made up when
            left out.

    Returns:
        The name of the long-running operation.

    Raises:
        UsageError: There is nothing to execute.
        LimitError: It is larger than a request may be; nothing was sent.
        StatementError: Spanner refused a statement; those before it stay applied, but none where
            ``details["begun"]`` is false: all was refused before the first.
        ConflictError: The id is that of an operation with other statements.
        PendingError: It was not done when :data:`DDL_TIMEOUT` was over; it goes on at Spanner.
        SpanctlError: Spanner could not be reached.
    """
    if not statements:
        msg = "there is no DDL to execute"
        raise UsageError(msg)
    operation_id = operation_id or f"ddl_{uuid.uuid4().hex}"
    refuse_large_ddl(target, statements, operation_id)
    client = _databases(target, credentials)
    try:
        name = _begin_ddl(client, target, list(statements), operation_id)
        try:
            _await_ddl(client, target, name)
        except KeyboardInterrupt as interruption:
            interruption.add_note(f"DDL goes on at Spanner: {name}")
            raise
    except GoogleAPICallError as error:
        told = translate(error, target, "DDL was executed", sql=";\n".join(statements))
        told.details["begun"] = False
        raise told from None
    finally:
        client.transport.close()
    return name


def _begin_ddl(
    client: "DatabaseAdminClient", target: Target, statements: list[str], operation_id: str
) -> str:
    request = _request(target, statements, operation_id)
    pauses = Pauses(monotonic() + SILENCE)
    while True:
        try:
            begun = client.update_database_ddl(request=request, retry=None, timeout=_TIMEOUT)
            return str(begun.operation.name)
        except AlreadyExists:
            return _known_ddl(client, target, statements, operation_id)
        except GoogleAPICallError as error:
            lost = read_again(error) or status_of(error) in TRANSIENT
            if not lost or not pauses.take(error):
                raise


def _known_ddl(
    client: "DatabaseAdminClient", target: Target, statements: list[str], operation_id: str
) -> str:
    """Return the operation of an id that was sent before, if it does the same."""
    name = f"{target.database}/operations/{operation_id}"
    found = client.transport.operations_client.get_operation(name, retry=None, timeout=_TIMEOUT)
    if list(_ddl_of(found).statements) != statements:
        msg = f"operation {operation_id} of {target.database} executes other DDL"
        raise ConflictError(msg, hint=_follow(target, name), operation=name)
    return name


def _await_ddl(client: "DatabaseAdminClient", target: Target, name: str) -> None:
    until = monotonic() + DDL_TIMEOUT
    silent = Pauses(until, longest=_POLL)
    heard, pause = monotonic(), _FIRST_POLL
    while True:
        try:
            found = client.transport.operations_client.get_operation(
                name, retry=None, timeout=_TIMEOUT
            )
        except GoogleAPICallError as error:
            # Nothing depends on who waits: it goes on, and so does the wait, for a while.
            again = read_again(error) or status_of(error) in TRANSIENT
            if again and silent.take(error, until=heard + _PATIENCE):
                continue
            told = translate(error, target, "DDL was executed")
            told.hint = f"{_follow(target, name)}; {told.hint}"
            told.details["operation"] = name
            raise told from None
        if found.done:
            if found.HasField("error"):
                refused = from_grpc_status(found.error.code, found.error.message)
                done = _ddl_of(found)
                sql = ";\n".join(done.statements)
                told = translate(refused, target, "DDL was executed", sql=sql)
                told.details["applied"] = len(done.commit_timestamps)
                raise told
            return
        heard = monotonic()
        silent.progressed()
        if heard + pause > until:
            msg = f"DDL is still being executed after {DDL_TIMEOUT:,} s: {name}"
            raise PendingError(msg, hint=_follow(target, name), operation=name)
        time.sleep(pause)
        pause = min(pause * 1.5, _POLL)


def _ddl_of(operation: "Operation") -> Any:  # noqa: ANN401 - a plain message
    """Return what an operation says of its DDL: the statements, and when each was applied."""
    from google.cloud.spanner_admin_database_v1.types import UpdateDatabaseDdlMetadata

    known = UpdateDatabaseDdlMetadata.pb(UpdateDatabaseDdlMetadata())
    operation.metadata.Unpack(known)
    return known


def _follow(target: Target, name: str) -> str:
    where = f"--instance={target.database.instance} --database={target.database.database}"
    operation = name.rpartition("/")[2]
    return f"it goes on at Spanner; run: gcloud spanner operations describe {operation} {where}"
