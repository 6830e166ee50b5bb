"""What serves a Prefect API: the server's version, its work pools, and their workers."""

import http.client
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

from spanctl.answers import Answer
from spanctl.clock import monotonic
from spanctl.closing import Closing
from spanctl.errors import (
    NotFoundError,
    NotPermittedError,
    SpanctlError,
    UnreachableError,
    UsageError,
)
from spanctl.orchestration.connections import LARGEST
from spanctl.orchestration.model import moment
from spanctl.orchestration.settings import ApiSettings
from spanctl.orchestration.transport import Transport

_PAGE: Final = 200
_PROBE: Final = "spanctl-probe"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker of a work pool.

    Attributes:
        name: Its name.
        online: Whether it has reported lately.
        seen: When it last reported.
    """

    name: str
    online: bool
    seen: datetime | None


@dataclass(frozen=True, slots=True)
class WorkPool:
    """A work pool.

    Attributes:
        name: Its name.
        type: Its type, such as ``process``.
        paused: Whether it hands out no runs.
        workers: Its workers.
    """

    name: str
    type: str
    paused: bool
    workers: tuple[Worker, ...] = ()

    @property
    def online(self) -> tuple[Worker, ...]:
        """The workers that have reported lately."""
        return tuple(worker for worker in self.workers if worker.online)

    @property
    def needs_workers(self) -> bool:
        """Whether runs wait for a worker; Prefect itself runs those of the other pools."""
        return not self.type.endswith((":push", ":managed"))


class Fleet(Closing):
    """A Prefect server as its operator sees it.

    Every method raises ``UnreachableError`` when there is no answer in time, and
    ``NotPermittedError`` when the server wants other credentials.
    """

    def __init__(self, settings: ApiSettings, *, timeout: float = 10.0) -> None:
        """Remember where the server is; nothing is sent yet."""
        self._http = Transport(settings, timeout=timeout)

    def version(self) -> str | None:
        """Return the server's version; None where it doesn't tell, as Prefect Cloud."""
        try:
            _, told = self._http.request("GET", "/admin/version", doing="asking for its version")
        except NotFoundError:
            return None
        return told if isinstance(told, str) else None

    def check_writing(self) -> None:
        """Have the server write: a saved search is made, and removed again.

        Where it may not be made, nothing is known, and nothing is said.

        Raises:
            UnreachableError: The server doesn't write, or not in time.
        """
        try:
            _, made = self._http.request(
                "PUT", "/saved_searches/", {"name": _PROBE}, doing="having something written"
            )
            gone = f"/saved_searches/{made['id']}" if isinstance(made, dict) else "/saved_searches"
            self._http.request("DELETE", gone, doing="removing that again")
        except (NotFoundError, NotPermittedError, UsageError):
            return
        except SpanctlError as error:
            msg = f"{error.message}: it answers, and can't write to its database"
            hint = "look at the server's log, and at its database"
            raise UnreachableError(msg, hint=hint) from error

    def pools(self) -> list[WorkPool]:
        """Return the work pools by name, without their workers."""
        found: list[Any] = []
        while len(found) % _PAGE == 0:
            body = {"limit": _PAGE, "offset": len(found)}
            _, page = self._http.request(
                "POST", "/work_pools/filter", body, doing="looking for work pools"
            )
            if not page:
                break
            found += page
        pools = [WorkPool(one["name"], one["type"], bool(one.get("is_paused"))) for one in found]
        return sorted(pools, key=lambda pool: pool.name)

    def workers(self, pool: str) -> tuple[Worker, ...]:
        """Return a pool's workers, those that reported last first."""
        _, found = self._http.request(
            "POST",
            f"/work_pools/{quote(pool, safe='')}/workers/filter",
            {"limit": _PAGE},
            doing="looking for workers",
        )
        workers = [
            Worker(
                one["name"], one.get("status") == "ONLINE", moment(one.get("last_heartbeat_time"))
            )
            for one in found
        ]
        never = datetime.fromtimestamp(0, UTC)
        return tuple(sorted(workers, key=lambda worker: worker.seen or never, reverse=True))

    def close(self) -> None:
        """Close the connections, if there are any."""
        self._http.close()


def server_time(settings: ApiSettings, *, timeout: float = 10.0) -> datetime | None:
    """Return the time that the server puts on its answers, in whole seconds; None if it doesn't.

    Raises:
        UnreachableError: There was no answer in time.
    """
    parts = urlsplit(settings.url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        import ssl

        trust = ssl.create_default_context(cafile=settings.certificates)
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=timeout, context=trust
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    bounded = partial(Answer, deadline=monotonic() + timeout, most=LARGEST)
    connection.response_class = cast("type[http.client.HTTPResponse]", bounded)
    try:
        # Also what it answers to who isn't let in carries the time: nothing secret is sent.
        connection.request("GET", f"{parts.path}/health")
        told = connection.getresponse().getheader("Date")
        return parsedate_to_datetime(told).astimezone(UTC) if told else None
    except (OSError, http.client.HTTPException) as error:
        msg = f"Prefect at {settings.url} did not answer while its time was asked for"
        raise UnreachableError(msg, hint="run: spanctl local status") from error
    except ValueError:
        return None
    finally:
        connection.close()
