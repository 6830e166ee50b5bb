"""Every kind of credential that google-auth takes: where it sends what, and whose quota it uses."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from spanctl.credentials import store as stores
from spanctl.credentials.document import parse_document
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.secret import Secret
from spanctl.credentials.sources import DefaultSource, document_source
from spanctl.errors import ConfigurationError, NotPermittedError, UsageError
from spanctl.references import SecretName, SecretReference, parse_reference
from spanctl.settings import resolve
from spanctl.spanner import channel
from tests.unit.credentials.test_live import Answer, FakeHttp

ELSEWHERE = "apis-example.goog"
STS = "https://sts.googleapis.com/v1/token"
POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x"
RUNNER = "runner@p1.iam.gserviceaccount.com"
IMPERSONATION = (
    f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{RUNNER}"
    ":generateAccessToken"
)
TOKENS = {
    "/token": Answer(200, {"access_token": "exchanged", "expires_in": 3600}),
    "/oauthtoken": Answer(200, {"access_token": "exchanged", "expires_in": 3600}),
    ":generateAccessToken": Answer(
        200, {"accessToken": "minted", "expireTime": "2999-01-01T00:00:00Z"}
    ),
}
USER = {
    "type": "authorized_user",
    "client_id": "c",
    "client_secret": "s",
    "refresh_token": "r",
    "quota_project_id": "billed",
}
WORKFORCE = {
    "type": "external_account_authorized_user",
    "audience": "//iam.googleapis.com/locations/global/workforcePools/p/providers/x",
    "client_id": "c",
    "client_secret": "s",
    "refresh_token": "r",
    "token_url": "https://sts.googleapis.com/v1/oauthtoken",
    "token_info_url": "https://sts.googleapis.com/v1/introspect",
    "quota_project_id": "billed",
}
AWS = {
    "type": "external_account",
    "audience": POOL,
    "token_url": STS,
    "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
    "credential_source": {
        "environment_id": "aws1",
        "region_url": "http://169.254.169.254/latest/meta-data/placement/availability-zone",
        "url": "http://169.254.169.254/latest/meta-data/iam/security-credentials",
        "regional_cred_verification_url": (
            "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
        ),
    },
    "service_account_impersonation_url": IMPERSONATION,
    "quota_project_id": "billed",
}


@pytest.fixture(autouse=True)
def _nothing_of_google_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "GOOGLE_CLOUD_QUOTA_PROJECT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def adc(tmp_path: Path) -> Callable[..., tuple[LiveCredentials, FakeHttp]]:
    """Return a function that makes credentials of a default document in a file."""

    def make(
        info: dict[str, Any], *, mode: int = 0o600, universe: str = "googleapis.com"
    ) -> tuple[LiveCredentials, FakeHttp]:
        path = tmp_path / "adc.json"
        path.write_text(json.dumps(info))
        path.chmod(mode)
        endpoints = Endpoints(adc_file=str(path), universe=universe)
        http = FakeHttp(dict(TOKENS))
        return LiveCredentials(DefaultSource(endpoints), http, universe), http

    return make


Adc = Callable[..., tuple[LiveCredentials, FakeHttp]]


def key_of(universe: str, token_uri: str) -> dict[str, str]:
    """Return a service-account key's document."""
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "p1",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_id": "1",
        "client_email": RUNNER,
        "token_uri": token_uri,
        "universe_domain": universe,
    }


# -- workloads


def test_aws_s_identity_is_exchanged(adc: Adc, monkeypatch: pytest.MonkeyPatch) -> None:
    """What AWS signed goes to Google's exchange; the service account's token is minted with it."""
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-from-all")
    live, http = adc(AWS)
    assert live.ensure().reveal_text() == "minted"
    (exchange, body, _), (mint, _, headers) = http.sent
    assert (exchange, mint) == (STS, IMPERSONATION)
    assert "eu-central-1.amazonaws.com" in str(body)
    assert "hidden-from-all" not in str(body)
    assert headers["Authorization"] == "Bearer exchanged"
    assert live.live is not None
    assert live.live.principal == RUNNER


def test_aws_without_an_identity_says_so(adc: Adc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its metadata server is asked through our transport, and its failure is told in a line."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    live, http = adc(AWS)
    http.answers = {"/availability-zone": Answer(404, b"")}
    with pytest.raises(NotPermittedError, match="refused the credential"):
        live.ensure()
    assert [url for url, _, _ in http.sent] == [AWS["credential_source"]["region_url"]]  # type: ignore[index]


def with_program(*words: str) -> dict[str, Any]:
    command = " ".join((sys.executable, *words))
    return {
        "type": "external_account",
        "audience": POOL,
        "token_url": STS,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "credential_source": {"executable": {"command": command, "timeout_millis": 20_000}},
    }


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return a program that tells a subject token."""
    path = tmp_path / "tell.py"
    told = {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": "of-the-program",
    }
    path.write_text(f"print({json.dumps(json.dumps(told))})\n")
    return path


def test_a_program_is_run_where_its_owner_allows_it(
    adc: Adc, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a file of one's own, and with Google's switch for it."""
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    live, http = adc(with_program(str(program)))
    assert live.ensure().reveal_text() == "exchanged"
    ((url, body, _),) = http.sent
    assert url == STS
    assert "of-the-program" in str(body)


@pytest.mark.parametrize(
    ("mode", "allowed", "told", "hint"),
    [
        (0o600, False, "which nobody has allowed", "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1"),
        (0o660, True, "would run a program", "nobody else can write to"),
        (0o602, True, "would run a program", "nobody else can write to"),
    ],
)
def test_no_program_is_run_that_somebody_else_may_have_named(  # noqa: PLR0913, PLR0917 - cases
    adc: Adc,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: int,
    allowed: bool,
    told: str,
    hint: str,
) -> None:
    """Nothing is run, and the error says what lets it."""
    if allowed:
        monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    ran = tmp_path / "ran"
    tell = tmp_path / "mark.py"
    tell.write_text(f"open({str(ran)!r}, 'w')\n")
    live, _ = adc(with_program(str(tell)), mode=mode)
    with pytest.raises(ConfigurationError, match=told) as caught:
        live.ensure()
    assert hint in (caught.value.hint or "")
    assert not ran.exists()


def test_a_secret_names_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write the secret would run it here."""
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    with pytest.raises(ConfigurationError, match="would run a program"):
        parse_document(Secret(json.dumps(with_program("-V"))))


def test_a_program_that_fails_shows_nothing_of_what_it_wrote(
    adc: Adc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its output may be a token."""
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    failing = tmp_path / "fails.py"
    failing.write_text("print('half-a-token')\nraise SystemExit(3)\n")
    with pytest.raises(NotPermittedError) as caught:
        adc(with_program(str(failing)))[0].ensure()
    assert "half-a-token" not in repr(caught.value) + str(caught.value.__context__)
    missing = with_program()
    missing["credential_source"]["executable"]["command"] = str(tmp_path / "missing")
    with pytest.raises(NotPermittedError, match=r"the program .* can't be run"):
        adc(missing)[0].ensure()


# -- people


@pytest.mark.parametrize(
    ("document", "url"),
    [(USER, "https://oauth2.googleapis.com/token"), (WORKFORCE, WORKFORCE["token_url"])],
)
def test_a_log_in_is_renewed(adc: Adc, document: dict[str, Any], url: str) -> None:
    """Of a Google account, and of a workforce pool; its quota project is kept."""
    live, http = adc(document)
    assert live.ensure().reveal_text() == "exchanged"
    assert [sent[0] for sent in http.sent] == [url]
    assert live.quota_project_id == "billed"


def test_a_workforce_s_log_in_stands_behind_an_impersonation() -> None:
    """As the source of another document; the asker's quota project is used to ask."""
    document = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": IMPERSONATION,
        "source_credentials": WORKFORCE,
        "quota_project_id": "another",
    }
    http = FakeHttp(dict(TOKENS))
    found = document_source(parse_document(Secret(json.dumps(document))), Endpoints()).fetch(
        http, None
    )
    assert (found.principal, found.quota_project) == (RUNNER, "another")
    assert http.sent[1][2]["x-goog-user-project"] == "billed"


@pytest.mark.parametrize("document", [USER | {"token_uri": "x"}, WORKFORCE | {"token_url": "x"}])
def test_a_log_in_is_sent_to_no_foreign_host(adc: Adc, document: dict[str, Any]) -> None:
    """A refresh token is what it would get."""
    elsewhere = {
        name: "https://googleapis.com.example.org/token" if value == "x" else value
        for name, value in document.items()
    }
    live, http = adc(elsewhere)
    with pytest.raises(ConfigurationError, match=r"token_ur[il] is neither Google's"):
        live.ensure()
    assert http.sent == []


# -- quota


def test_the_environment_says_whose_quota_is_used(
    adc: Adc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for all of Google's clients, it wins over the document."""
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "of-the-shell")
    live, _ = adc(USER)
    headers: dict[str, str] = {}
    live.before_request(None, "POST", "https://secretmanager.googleapis.com", headers)  # type: ignore[no-untyped-call]
    assert headers["x-goog-user-project"] == "of-the-shell"


def test_spanner_is_told_whose_quota_is_used(adc: Adc) -> None:
    """On each RPC beside the token; without a quota project no header is sent."""
    for document, wanted in ((USER, "billed"), ({**USER, "quota_project_id": None}, None)):
        sent: list[Any] = []

        class Call:
            """An RPC that went well."""

            def code(self) -> grpc.StatusCode:
                return grpc.StatusCode.OK

        def send(details: Any, request: Any, sent: list[Any] = sent) -> Any:
            del request
            sent.append(dict(details.metadata))
            return Call()

        details = channel._Details("/x/Commit", 1.0, (), None, None, None)  # noqa: SLF001
        channel._Bearer(adc(document)[0]).intercept_unary_unary(send, details, None)  # noqa: SLF001
        assert sent[0]["authorization"] == "Bearer exchanged"
        assert sent[0].get("x-goog-user-project") == wanted


# -- universes


def test_a_key_of_another_universe_signs_its_own_tokens(adc: Adc) -> None:
    """Nothing is sent; where the context is another universe's, the credential is refused."""
    document = key_of(ELSEWHERE, f"https://oauth2.{ELSEWHERE}/token")
    live, http = adc(document, universe=ELSEWHERE)
    claims = jwt.decode(live.ensure().reveal_text(), verify=False)
    assert (claims["iss"], http.sent) == (RUNNER, [])
    live, http = adc(document)
    with pytest.raises(ConfigurationError, match=ELSEWHERE) as caught:
        live.ensure()
    assert caught.value.hint == f"run: spanctl context set universe_domain={ELSEWHERE}"


def test_a_key_of_this_universe_is_sent_to_no_other(adc: Adc) -> None:
    """Whose token endpoint is foreign is refused as before."""
    live, http = adc(key_of("googleapis.com", f"https://oauth2.{ELSEWHERE}/token"))
    with pytest.raises(ConfigurationError, match="token_uri is neither"):
        live.ensure()
    assert http.sent == []


def test_a_universe_has_its_own_endpoints() -> None:
    """Those that are set stay as they are; a domain that is none is refused."""
    environ = {"SPANCTL_UNIVERSE_DOMAIN": ELSEWHERE, "SPANCTL_SPANNER_ENDPOINT": "private:443"}
    settings = resolve(environ=environ)
    assert settings.get("spanner_endpoint") == "private:443"
    assert settings.get("secretmanager_endpoint") == f"secretmanager.{ELSEWHERE}"
    found = Endpoints.from_settings(settings)
    assert found == Endpoints.of(ELSEWHERE)
    assert found.iam == f"https://iamcredentials.{ELSEWHERE}"
    assert found.check(f"https://sts.{ELSEWHERE}/v1/token", "token_url")
    with pytest.raises(ConfigurationError, match="universe_domain"):
        resolve(environ={"SPANCTL_UNIVERSE_DOMAIN": "https://apis-example.goog/"})


# -- regional secrets


def test_a_regional_secret_has_its_own_name_and_endpoint() -> None:
    """It reads back as it was written; an endpoint that was set is taken for all."""
    text = "secret:projects/p1/locations/europe-west3/secrets/db"
    name = SecretName("p1", "db", "europe-west3")
    assert parse_reference(text) == SecretReference(name)
    assert str(SecretReference(name)) == text
    assert SecretName.parse(str(name)) == name
    assert name.version(7) == "projects/p1/locations/europe-west3/secrets/db/versions/7"
    regional = "secretmanager.europe-west3.rep.googleapis.com"
    assert Endpoints().secretmanager_of(name.location) == regional
    assert Endpoints(secretmanager="127.0.0.1:1").secretmanager_of(name.location) == "127.0.0.1:1"
    assert Endpoints().secretmanager_of(None) == "secretmanager.googleapis.com"


@pytest.mark.parametrize("place", ["", "/locations/europe-west3"])
def test_a_version_is_taken_as_the_console_copies_it(place: str) -> None:
    """``/versions/7`` is the number 7, written as ``@7``."""
    found = parse_reference(f"secret:projects/4711{place}/secrets/db/versions/7")
    assert isinstance(found, SecretReference)
    assert found.number == 7
    assert str(found) == f"secret:projects/4711{place}/secrets/db@7"
    with pytest.raises(UsageError):
        parse_reference(f"secret:projects/4711{place}/secrets/db/versions/7/access")


def test_a_store_asks_each_secret_s_own_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """One client an endpoint, all closed together."""

    class Client:
        """Google's client, but for the network."""

        hosts: ClassVar[list[str]] = []
        closed: ClassVar[list[str]] = []

        def __init__(self, host: str) -> None:
            self.host = host
            self.transport = self
            self.hosts.append(host)

        def get_secret(self, **_: Any) -> Any:
            return stores.SecretResource(etag=self.host)

        def close(self) -> None:
            self.closed.append(self.host)

    monkeypatch.setattr(stores, "open_client", lambda _endpoints, _credentials, host: Client(host))
    store = stores.GoogleSecretStore(Endpoints(), None)  # type: ignore[arg-type]
    names = [SecretName("p1", "a"), SecretName("p1", "b", "us-east1"), SecretName("p1", "c")]
    found = [store.get(name).etag for name in names]
    usual, regional = "secretmanager.googleapis.com", "secretmanager.us-east1.rep.googleapis.com"
    assert found == [usual, regional, usual]
    assert Client.hosts == [usual, regional]
    store.close()
    assert Client.closed == [usual, regional]
