"""What the gateway adds to an RPC: the same request, straight to the emulator and through it."""

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
from google.auth.credentials import AnonymousCredentials
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport

from tests.bench.measure import Figure, interleaved
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT, Emulator
from tests.local.identity import StandIns

_ROUNDS = 300
_WARM_UP = 30
_GOAL_MS = 1.0


def figures() -> Iterator[Figure]:
    """Measure a query, for one who may write and for one who may not (whose requests are read)."""
    with Emulator() as emulator, tempfile.TemporaryDirectory() as folder:
        made = raw.create_database(emulator.address, ["CREATE TABLE t (k INT64) PRIMARY KEY (k)"])
        database = f"projects/{PROJECT}/instances/{INSTANCE}/databases/{made}"
        standins = StandIns(Path(folder) / "identity", spanner=emulator.address).start()
        os.environ["REQUESTS_CA_BUNDLE"] = str(standins.places.bundle)
        try:
            yield from _figures(standins, emulator.address, database)
        finally:
            standins.stop()


def _figures(standins: StandIns, emulator: str, database: str) -> Iterator[Figure]:
    channel = grpc.insecure_channel(emulator)
    transport = SpannerGrpcTransport(channel=channel, credentials=AnonymousCredentials())
    plain = _query(SpannerClient(transport=transport), database)
    for name in ("runner", "reader"):
        client = standins.spanner_client(standins.acting_as(name))
        ours, theirs = interleaved(
            [_query(client, database), plain], rounds=_ROUNDS, warm_up=_WARM_UP
        )
        yield Figure(
            name=f"a query through the gateway, as {name}",
            unit="ms",
            ours=ours,
            theirs=theirs,
            against="the emulator alone",
        )


def _query(client: SpannerClient, database: str) -> partial[object]:
    session = client.create_session(database=database).name
    return partial(client.execute_sql, request={"session": session, "sql": "SELECT 1"})
