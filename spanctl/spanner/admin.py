"""Instances, databases and DDL."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from google.api_core.exceptions import AlreadyExists, GoogleAPICallError
from google.auth.credentials import AnonymousCredentials

from spanctl.credentials.live import LiveCredentials
from spanctl.errors import StatementError, UsageError
from spanctl.spanner.failures import translate
from spanctl.spanner.rpc import Target

if TYPE_CHECKING:
    from google.cloud.spanner_admin_database_v1 import DatabaseAdminClient
    from google.cloud.spanner_admin_instance_v1 import InstanceAdminClient

_TIMEOUT: Final = 30.0
DDL_TIMEOUT: Final = 600.0


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
        operation.result(timeout=DDL_TIMEOUT)
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


def execute_ddl(
    target: Target, statements: Sequence[str], credentials: LiveCredentials | None = None
) -> str:
    """Execute DDL statements in order, as one batch, and wait until they are done.

    Returns:
        The name of the long-running operation.

    Raises:
        UsageError: There is nothing to execute.
        StatementError: Spanner refused a statement; those before it stay applied.
        SpanctlError: Spanner could not be reached.
    """
    if not statements:
        msg = "there is no DDL to execute"
        raise UsageError(msg)
    client = _databases(target, credentials)
    operation = None
    try:
        operation = client.update_database_ddl(
            database=str(target.database),
            statements=list(statements),
            retry=None,
            timeout=_TIMEOUT,
        )
        operation.result(timeout=DDL_TIMEOUT)
        return str(operation.operation.name)
    except GoogleAPICallError as error:
        told = translate(error, target, "DDL was executed")
        if isinstance(told, StatementError) and operation is not None and operation.metadata:
            told.details["applied"] = len(operation.metadata.commit_timestamps)
        raise told from None
    finally:
        client.transport.close()


def ddl(target: Target, credentials: LiveCredentials | None = None) -> list[str]:
    """Return the DDL that makes a database as it is now, a statement each.

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
