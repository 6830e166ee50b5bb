"""The stand-ins as a process of their own, and Google's clients pointed at them."""

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import grpc
from google.auth import impersonated_credentials
from google.auth.credentials import Credentials
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceGrpcTransport,
)
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account

from spanctl.local import ports
from spanctl.local.standins.authority import Authority
from spanctl.local.standins.files import Places
from tests.fixtures.cli import child_environment

PROJECT = "spanctl-local"
PARENT = f"projects/{PROJECT}"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
EMAIL = "https://www.googleapis.com/auth/userinfo.email"
_PATIENCE = 20.0


class Impersonated(impersonated_credentials.Credentials):
    """Google's own, but for its look-up, in the background, of a regional boundary at Google."""

    def _is_regional_access_boundary_lookup_required(self) -> bool:
        return False


class Keyed(service_account.Credentials):
    """Google's own, but for the same look-up."""

    def _is_regional_access_boundary_lookup_required(self) -> bool:
        return False


@dataclass
class Answer:
    """What came back over HTTPS."""

    status: int
    data: Any


@dataclass
class StandIns:
    """One folder, its ports, and the process that serves it, if it runs."""

    folder: Path
    spanner: str = "127.0.0.1:1"
    process: subprocess.Popen[bytes] | None = None
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("iam", "secretmanager", "gateway"):
            self.ports[name] = ports.choose(taken=frozenset(self.ports.values()))

    @property
    def places(self) -> Places:
        return Places(self.folder)

    @property
    def base(self) -> str:
        return f"https://127.0.0.1:{self.ports['iam']}"

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    def use_authority_of(self, other: Places) -> None:
        """Take another folder's CA, so that one bundle fits both."""
        self.places.create()
        for path in (other.ca_certificate, other.ca_key):
            shutil.copy(path, self.folder / path.name)
        Authority(self.places).ensure()

    def command(self) -> list[str]:
        told = ["--folder", str(self.folder), "--project", PROJECT, "--spanner", self.spanner]
        for name, port in self.ports.items():
            told += [f"--{name}", str(port)]
        return [sys.executable, "-m", "spanctl.local.standins", *told]

    def start(self) -> "StandIns":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=child_environment(), stdout=log, stderr=log
            )
        deadline = time.monotonic() + _PATIENCE
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return self

    def answers(self) -> bool:
        try:
            return self.http("GET", "/healthz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(_PATIENCE)

    def stop(self) -> int:
        assert self.process
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(_PATIENCE)
        finally:
            self.process.kill()

    def http(
        self, method: str, path: str, body: Any = None, token: str | None = None, form: str = ""
    ) -> Answer:
        context = ssl.create_default_context(cafile=str(self.places.bundle))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.ports["iam"], timeout=10, context=context
        )
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            data = form or (None if body is None else json.dumps(body))
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return Answer(answer.status, json.loads(answer.read()))
        finally:
            connection.close()

    def email(self, name: str) -> str:
        return f"{name}@{PROJECT}.iam.gserviceaccount.com"

    def user(self) -> user_credentials.Credentials:
        known = json.loads(self.places.user.read_text())
        names = ("refresh_token", "token_uri", "client_id", "client_secret")
        return user_credentials.Credentials(None, **{name: known[name] for name in names})

    def user_token(self) -> str:
        known = json.loads(self.places.user.read_text())
        answer = self.http(
            "POST", "/token", form=urlencode({"grant_type": "refresh_token", **known})
        )
        return str(answer.data["access_token"])

    def acting_as(self, name: str, lifetime: int = 3600, **more: Any) -> Impersonated:
        email = self.email(name)
        url = f"{self.base}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
        return Impersonated(
            source_credentials=more.pop("source", None) or self.user(),
            target_principal=email,
            target_scopes=more.pop("scopes", [SCOPE, EMAIL]),
            lifetime=lifetime,
            iam_endpoint_override=url,
            **more,
        )

    def new_key(self, name: str, token: str | None = None) -> dict[str, Any]:
        path = f"/v1/projects/-/serviceAccounts/{self.email(name)}/keys"
        answer = self.http("POST", path, {}, token or self.user_token())
        assert answer.status == 200, answer
        document: dict[str, Any] = json.loads(base64.b64decode(answer.data["privateKeyData"]))
        return document

    def secret_manager(self, credentials: Credentials) -> SecretManagerServiceClient:
        transport = SecretManagerServiceGrpcTransport(
            host=f"127.0.0.1:{self.ports['secretmanager']}",
            credentials=credentials,
            ssl_channel_credentials=self.roots(),
            always_use_jwt_access=True,  # as the client sets it when it makes its transport
        )
        return SecretManagerServiceClient(transport=transport)

    def spanner_client(self, credentials: Credentials) -> SpannerClient:
        transport = SpannerGrpcTransport(
            host=f"127.0.0.1:{self.ports['gateway']}",
            credentials=credentials,
            ssl_channel_credentials=self.roots(),
            always_use_jwt_access=True,  # as the client sets it when it makes its transport
        )
        return SpannerClient(transport=transport)

    def roots(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.places.bundle.read_bytes())


def environment(standins: StandIns) -> dict[str, str]:
    """Return the environment of a program that trusts the local CA."""
    bundle = str(standins.places.bundle)
    return {
        **os.environ,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": bundle,
        "REQUESTS_CA_BUNDLE": bundle,
    }
