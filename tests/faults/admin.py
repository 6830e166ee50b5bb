"""A scripted admin API in front of the emulator, which tells no creation time and denies nobody.

GetDatabase is answered as the test says; every other RPC is forwarded to the emulator.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import grpc
from google.cloud.spanner_admin_database_v1.types import Database, GetDatabaseRequest

from tests.faults.proxy import FaultProxy

FIRST = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LATER = FIRST + timedelta(days=1)


@dataclass(slots=True)
class Script:
    """How GetDatabase is answered.

    Attributes:
        created: The creation time that it tells; None for none.
        name: The name that it tells; empty for the one that was asked for.
        code: The status that it is refused with; None where it answers.
        asked: The names that it was asked for.
    """

    created: datetime | None = FIRST
    name: str = ""
    code: grpc.StatusCode | None = None
    asked: list[str] = field(default_factory=list)


class ScriptedAdmin(FaultProxy):
    """The proxy, with GetDatabase answered by ``script``."""

    def __init__(self, upstream: str) -> None:
        """Prepare to forward to ``upstream`` (host:port)."""
        super().__init__(upstream)
        self.script = Script()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Take every method; answer GetDatabase here."""
        if handler_call_details.method.endswith("/GetDatabase"):
            return grpc.unary_unary_rpc_method_handler(self._get_database)
        return super().service(handler_call_details)

    def _get_database(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        name = GetDatabaseRequest.deserialize(request).name
        self.script.asked.append(name)
        if self.script.code is not None:
            context.abort(self.script.code, "scripted")
        answer = Database(name=self.script.name or name, create_time=self.script.created)
        return bytes(Database.serialize(answer))
