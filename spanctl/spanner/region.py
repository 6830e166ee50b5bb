"""Where an instance's leader is."""

from typing import TYPE_CHECKING, Final

from google.api_core.exceptions import GoogleAPICallError

from spanctl.spanner.admin import open_instances
from spanctl.spanner.failures import translate

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_LEADER: Final = """SELECT option_value FROM information_schema.database_options
  WHERE option_name = 'default_leader'"""


def leader_region(database: "Database", *, timeout: float = 10.0) -> str | None:
    """Return the region of the leader: the database's own, else that of its instance.

    Args:
        database: The database.
        timeout: Seconds that each request may take.

    Returns:
        A region such as ``europe-west3``; None where the configuration names none.

    Raises:
        NotPermittedError: The credentials may not look at the instance.
        SpanctlError: Spanner could not be reached or refused.
    """
    for (own,) in database.query(_LEADER, timeout=timeout):
        if own:
            return str(own)
    target = database.target
    client = open_instances(target, database.rpc.credentials)
    try:
        instance = client.get_instance(
            name=target.database.instance_path, retry=None, timeout=timeout
        )
        found = client.get_instance_config(name=instance.config, retry=None, timeout=timeout)
    except GoogleAPICallError as error:
        raise translate(error, target, "the instance was looked at") from None
    finally:
        client.transport.close()
    return next((str(one.location) for one in found.replicas if one.default_leader_location), None)
