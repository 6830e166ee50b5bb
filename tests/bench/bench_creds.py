"""What short-lived credentials cost: to resolve them, and to lend them to a program."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.resolve import resolve
from spanctl.settings import Contexts
from tests.bench.measure import Figure, interleaved
from tests.local.identity import PROJECT, StandIns

_ROUNDS = 15
_WARM = 200
# What a program does that gets the same token by Google's library alone.
_LIBRARY = """
import json, sys
from google.auth import impersonated_credentials
from google.auth.transport.requests import Request
from google.oauth2 import credentials
known = json.load(open(sys.argv[1]))
names = ("refresh_token", "token_uri", "client_id", "client_secret")
user = credentials.Credentials(None, **{name: known[name] for name in names})
impersonated_credentials.Credentials(
    source_credentials=user,
    target_principal=sys.argv[2],
    target_scopes=["https://www.googleapis.com/auth/cloud-platform"],
    iam_endpoint_override=sys.argv[3],
).refresh(Request())
"""


def figures() -> Iterator[Figure]:
    """Measure resolving in a warm process, and ``creds exec -- true`` as a person types it."""
    with tempfile.TemporaryDirectory() as folder:
        standins = StandIns(Path(folder) / "identity").start()
        bundle = str(standins.places.bundle)
        values = {
            "project": PROJECT,
            "secretmanager_endpoint": f"127.0.0.1:{standins.ports['secretmanager']}",
            "iam_endpoint": standins.base,
            "ca_file": bundle,
            "adc_file": str(standins.places.user),
            "credentials": f"impersonate:{standins.email('runner')}",
        }
        contexts = Contexts.load(Path(folder) / "contexts.toml")
        contexts.with_context("bench", values).using("bench").save()
        environ = {
            **os.environ,
            "SPANCTL_CONFIG_HOME": folder,
            "SPANCTL_STATE_HOME": folder,
            "REQUESTS_CA_BUNDLE": bundle,
        }
        try:
            yield _warm(values)
            yield from _lent(environ, standins)
        finally:
            standins.stop()


def _warm(values: dict[str, str]) -> Figure:
    endpoints = Endpoints(
        secretmanager=values["secretmanager_endpoint"],
        iam=values["iam_endpoint"],
        admin=values["iam_endpoint"],
        oauth2=values["iam_endpoint"],
        ca_file=values["ca_file"],
        adc_file=values["adc_file"],
    )
    kept = resolve(values["credentials"], endpoints)

    def anew() -> None:
        resolve(values["credentials"], endpoints).ensure()

    new, again = interleaved([anew, lambda: kept.ensure()], rounds=_WARM, warm_up=5)  # noqa: PLW0108 - one signature
    return Figure(
        name="resolve: impersonation, warm process",
        unit="ms",
        ours=new,
        theirs=again,
        against="the one in use, which lives",
    )


def _lent(environ: dict[str, str], standins: StandIns) -> Iterator[Figure]:
    ours = (sys.executable, "-m", "spanctl_cli.main", "creds", "exec", "--", "true")
    email = standins.email("runner")
    url = f"{standins.base}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
    library = (sys.executable, "-c", _LIBRARY, str(standins.places.user), email, url)
    sides = [
        lambda command=command: _run(command, environ) for command in (ours, ("true",), library)
    ]
    exec_true, plain, with_library = interleaved(sides, rounds=_ROUNDS, warm_up=2)
    yield Figure(
        name="spanctl creds exec -- true",
        unit="ms",
        ours=exec_true,
        theirs=plain,
        against="true",
    )
    yield Figure(
        name="the same, against google-auth",
        unit="ms",
        ours=exec_true,
        theirs=with_library,
        against="a python that gets the token by google-auth",
    )


def _run(command: tuple[str, ...], environ: dict[str, str]) -> None:
    subprocess.run(command, check=True, env=environ, stdout=subprocess.DEVNULL)
