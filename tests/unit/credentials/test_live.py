"""Live credentials renew themselves, share one token, and say why when there is none."""

import copy
import json
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.auth import exceptions

from spanctl.clock import now
from spanctl.credentials.document import parse_document
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http, call
from spanctl.credentials.iam import AccessToken, impersonate
from spanctl.credentials.identity import Standing, claimed, identify
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.reference import SecretReference
from spanctl.credentials.resolve import resolve
from spanctl.credentials.rotation.ports import VersionState, VersionStateError
from spanctl.credentials.secret import Secret
from spanctl.credentials.secretsource import SecretSource
from spanctl.credentials.sources import (
    ChainSource,
    DefaultSource,
    document_source,
)
from spanctl.errors import (
    ConfigurationError,
    NotFoundError,
    NotPermittedError,
    SpanctlError,
    UnreachableError,
)
from tests.unit.credentials.fakes import NAME, RUNNER, Stage

ENDPOINTS = Endpoints()
CANARY = "ya29.canary-token-of-a-test"


def token(text: str = CANARY, **left: float) -> AccessToken:
    return AccessToken(token=Secret(text), expiry=now() + timedelta(**(left or {"hours": 1})))


class Answer:
    """An HTTP response as google-auth's transports give it."""

    def __init__(self, status: int, data: Any) -> None:
        self.status = status
        self.data = data if isinstance(data, bytes) else json.dumps(data).encode()


class FakeHttp(Http):
    """Answers from a table, by the end of the path, and remembers what was sent."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.sent: list[tuple[str, Any, Any]] = []

    def __call__(self, url: str, *_: Any, **kwargs: Any) -> Any:
        self.sent.append((url, kwargs.get("body"), kwargs.get("headers")))
        for end, answer in self.answers.items():
            if url.endswith(end):
                if isinstance(answer, Exception):
                    raise answer
                return answer(kwargs) if callable(answer) else answer
        raise AssertionError(url)


@dataclass
class Source:
    """Gives the tokens of a list, one by one, and counts."""

    tokens: list[AccessToken | SpanctlError]
    rejected: list[Secret | None] = field(default_factory=list)

    def fetch(self, http: Http, rejected: Secret | None) -> AccessToken:
        del http
        self.rejected.append(rejected)
        given = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        if isinstance(given, SpanctlError):
            raise given
        return given


def credentials(*tokens: AccessToken | SpanctlError) -> tuple[LiveCredentials, Source]:
    source = Source(list(tokens))
    return LiveCredentials(source, FakeHttp({})), source


# -- live credentials


def test_google_sees_credentials_that_refresh_themselves() -> None:
    """A request fetches a token once, and carries it."""
    live, source = credentials(token())
    headers: dict[str, str] = {}
    live.before_request(None, "GET", "https://spanner.googleapis.com/", headers)
    live.before_request(None, "GET", "https://spanner.googleapis.com/", headers)
    assert headers["authorization"] == f"Bearer {CANARY}"
    assert len(source.rejected) == 1


def test_a_token_is_replaced_before_it_expires() -> None:
    """Within google-auth's margin a new one is looked for, and taken."""
    live, _ = credentials(token("ya29.old-token-1", minutes=2), token("ya29.new-token-2"))
    assert live.ensure() == Secret("ya29.old-token-1")
    live._looked = -1000.0  # noqa: SLF001 - as if ten seconds had passed
    assert live.ensure() == Secret("ya29.new-token-2")


def test_an_old_token_that_lives_is_not_looked_for_at_every_request() -> None:
    """While the secret still holds the old token, one look in ten seconds is enough."""
    live, source = credentials(token(minutes=2))
    for _ in range(50):
        live.ensure()
    assert len(source.rejected) == 1


def test_an_unreachable_secret_manager_is_no_harm_while_the_token_lives() -> None:
    """What still lives is used on; what is over is not."""
    down = UnreachableError("x")
    live, _ = credentials(token(minutes=2), down)
    live.ensure()
    live._looked = -1000.0  # noqa: SLF001 - as if ten seconds had passed
    assert live.ensure() == Secret(CANARY)
    dead, _ = credentials(down)
    with pytest.raises(UnreachableError):
        dead.ensure()


def test_an_expired_token_is_never_used() -> None:
    """A source that gives a dead token is told as such, with what to do."""
    live, _ = credentials(token(seconds=-1))
    with pytest.raises(NotPermittedError, match="expired") as caught:
        live.ensure()
    assert "rotate" in caught.value.hint


def test_a_refused_token_is_renewed_once_for_all_threads() -> None:
    """However many threads saw UNAUTHENTICATED with the same token, one fetch replaces it."""
    live, source = credentials(token(), *(token(f"ya29.next-token-{i}") for i in range(9)))
    used = live.ensure()
    barrier = threading.Barrier(8)

    def flow() -> None:
        barrier.wait()
        live.renew(used)

    threads = [threading.Thread(target=flow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert live.ensure() == Secret("ya29.next-token-0")
    assert source.rejected == [None, used]


def test_the_same_token_again_is_no_renewal() -> None:
    """If there is no other token, that is said, and not tried for ever."""
    live, _ = credentials(token())
    with pytest.raises(NotPermittedError, match="no newer"):
        live.renew(live.ensure())


def test_live_credentials_are_neither_pickled_nor_doubled() -> None:
    """Copies are the same object; a pickle is refused."""
    live, _ = credentials(token())
    live.ensure()
    assert copy.copy(live) is live
    assert copy.deepcopy(live) is live
    assert live.with_quota_project("p") is live
    with pytest.raises(TypeError, match="reference"):
        pickle.dumps(live)
    assert "canary" not in repr(live)


# -- sources


def secret_source(stage: Stage, version: str = "current") -> SecretSource:
    return SecretSource(stage.store, SecretReference(NAME, version), ENDPOINTS)


@pytest.fixture
def stage() -> Stage:
    """A secret whose version 1 holds a token that lives now."""
    made = Stage()
    made.clock.time = now()
    made.store.payloads.clear()
    made.store.states.clear()
    made.store.seed(made.minter.make())
    return made


def test_a_secrets_token_comes_with_its_version(stage: Stage) -> None:
    """The version's number, principal and expiry travel with the token."""
    found = secret_source(stage).fetch(FakeHttp({}), None)
    assert (found.version, found.principal) == (1, RUNNER)


def test_a_rotation_is_taken_up_at_the_next_look(stage: Stage) -> None:
    """After the alias has moved, the new version's token is used."""
    source = secret_source(stage)
    source.fetch(FakeHttp({}), None)
    stage.rotator().rotate()
    assert source.fetch(FakeHttp({}), None).version == 2


def test_an_alias_that_lags_is_overtaken_when_its_token_is_dead(stage: Stage) -> None:
    """If what the alias serves is refused, disabled or over, the secret itself is asked."""
    source = secret_source(stage)
    first = source.fetch(FakeHttp({}), None)
    stage.rotator().rotate()
    stage.store.served = {"current": 1}
    assert source.fetch(FakeHttp({}), None).version == 1
    assert source.fetch(FakeHttp({}), first.token).version == 2
    stage.store.states[0] = VersionState.DISABLED
    assert source.fetch(FakeHttp({}), None).version == 2


def test_a_number_is_never_replaced_by_another_version(stage: Stage) -> None:
    """Who names a version gets that one or an error."""
    source = secret_source(stage, "1")
    first = source.fetch(FakeHttp({}), None)
    stage.rotator().rotate()
    assert source.fetch(FakeHttp({}), None).version == 1
    with pytest.raises(NotPermittedError):
        source.fetch(FakeHttp({}), first.token)
    stage.store.states[0] = VersionState.DISABLED
    with pytest.raises(VersionStateError):
        source.fetch(FakeHttp({}), None)


def test_a_payload_damaged_on_its_way_is_read_again(stage: Stage) -> None:
    """Two damaged answers are no error, three are."""
    stage.store.corrupt = 2
    assert secret_source(stage).fetch(FakeHttp({}), None).version == 1
    stage.store.corrupt = 3
    with pytest.raises(SpanctlError):
        secret_source(stage).fetch(FakeHttp({}), None)


def test_a_chain_stays_with_what_worked() -> None:
    """The member that had a token is asked first the next time."""
    missing, good = Source([NotFoundError("x")]), Source([token()])
    chain = ChainSource([("a", missing), ("b", good)])
    chain.fetch(FakeHttp({}), None)
    chain.fetch(FakeHttp({}), None)
    assert (len(missing.rejected), len(good.rejected)) == (1, 2)


def test_a_broken_document_ends_a_chain() -> None:
    """A damaged configuration is told, not hidden behind the next member."""
    chain = ChainSource([("a", Source([ConfigurationError("x")])), ("b", Source([token()]))])
    with pytest.raises(ConfigurationError):
        chain.fetch(FakeHttp({}), None)


def minted(kwargs: Any) -> Answer:
    lifetime = json.loads(kwargs["body"])["lifetime"].removesuffix("s")
    expiry = datetime.now(UTC) + timedelta(seconds=int(lifetime))
    return Answer(200, {"accessToken": CANARY, "expireTime": f"{expiry:%Y-%m-%dT%H:%M:%SZ}"})


def test_an_impersonation_document_is_built_by_us() -> None:
    """IAM is asked at the context's endpoint, not at the host that the document names."""
    info = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": (
            f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{RUNNER}"
            ":generateAccessToken"
        ),
        "delegates": ["d@p1.iam.gserviceaccount.com"],
        "source_credentials": {
            "type": "authorized_user",
            "client_id": "c",
            "client_secret": "client-secret-1",
            "refresh_token": "refresh-token-1",
            "token_uri": "https://127.0.0.1:1/token",
        },
    }
    local = replace(ENDPOINTS, iam="https://127.0.0.1:1", oauth2="https://127.0.0.1:1")
    http = FakeHttp(
        {
            "/token": Answer(200, {"access_token": "ya29.base-token", "expires_in": 3600}),
            ":generateAccessToken": minted,
        }
    )
    document = parse_document(Secret(json.dumps(info)))
    found = document_source(document, local).fetch(http, None)
    assert found.token == Secret(CANARY)
    assert found.principal == RUNNER
    assert {url.split("/")[2] for url, _, _ in http.sent} == {"127.0.0.1:1"}
    assert "projects/-/serviceAccounts/d@p1" in http.sent[1][1]
    with pytest.raises(ConfigurationError, match="token_uri"):
        document_source(document, ENDPOINTS)


def test_a_log_in_that_can_not_be_read_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged or missing file that was named is an error, not the next place to look."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ConfigurationError, match=r"none\.json"):
        DefaultSource(ENDPOINTS).fetch(FakeHttp({}), None)


def test_resolving_sends_nothing() -> None:
    """Credentials for a reference cost nothing until they are used."""
    assert resolve(f"chain:secret:{NAME},impersonate:{RUNNER},adc").live is None


# -- requests


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (exceptions.TransportError("canary"), UnreachableError),
        (Answer(503, {}), UnreachableError),
        (Answer(429, {}), UnreachableError),
        (Answer(200, b"<html>"), UnreachableError),
        (Answer(200, []), UnreachableError),
        (Answer(401, {"error": CANARY}), NotPermittedError),
        (Answer(403, {"error": CANARY}), NotPermittedError),
        (Answer(404, {}), NotFoundError),
        (Answer(302, {}), ConfigurationError),
        (Answer(400, {"error": CANARY}), ConfigurationError),
    ],
)
def test_each_answer_is_one_kind_of_error(answer: Any, error: type[SpanctlError]) -> None:
    """Scripts can tell them apart; what was sent and answered is in none of them."""
    http = FakeHttp({"/x": answer})
    with pytest.raises(error) as caught:
        call(http, "POST", "https://h/x", "testing", token=Secret(CANARY), body={"a": CANARY})
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.hint


@pytest.mark.parametrize(
    "answer", [{}, {"accessToken": CANARY}, {"accessToken": CANARY, "expireTime": "x"}]
)
def test_an_answer_without_a_token_is_no_token(answer: dict[str, str]) -> None:
    """A minted token has a time at which it ends, or it is refused."""
    http = FakeHttp({":generateAccessToken": Answer(200, answer)})
    with pytest.raises(UnreachableError):
        impersonate(http, ENDPOINTS, token(), RUNNER)


# -- identity


def told(email: str | None = None, **more: Any) -> Callable[[Any], Answer]:
    known = {"exp": "1900000000", "scope": "a b", "azp": "1234", **more}
    if email:
        known |= {"email": email, "email_verified": "true"}
    return lambda _: Answer(200, known)


def test_whose_a_token_is_is_what_the_issuer_says() -> None:
    """The document's principal gives way to the issuer's; the token isn't in the address."""
    http = FakeHttp({"/tokeninfo": told("real@p1")})
    who = identify(http, ENDPOINTS, replace(token(), principal="liar@p1"))
    assert (who.name, who.standing) == ("real@p1", Standing.PROVEN)
    assert who.scopes == {"a", "b"}
    assert CANARY not in http.sent[0][0]


def test_what_the_issuer_does_not_say_is_claimed() -> None:
    """Without a verified e-mail, a document's principal stays a claim, and an id is proven."""
    http = FakeHttp({"/tokeninfo": told(email_verified="false")})
    who = identify(http, ENDPOINTS, replace(token(), principal="somebody@p1"))
    assert (who.name, who.standing) == ("somebody@p1", Standing.CLAIMED)
    unnamed = identify(http, ENDPOINTS, token())
    assert (unnamed.name, unnamed.standing) == ("1234", Standing.PROVEN)


def test_a_chain_is_proven_only_from_a_proven_start() -> None:
    """Links that this process exchanged are proven if the first token is; documents' are not."""
    http = FakeHttp({"/tokeninfo": told("real@p1")})
    inner = replace(token(), base=token("ya29.base-token"), delegates=("d@p1",))
    who = identify(http, ENDPOINTS, inner)
    assert who.chain == ("real@p1", "d@p1")
    assert who.chain_standing is Standing.PROVEN
    assert str(who) == "real@p1 via d@p1 via real@p1"
    stored = replace(token("ya29.base-token"), minted_by="boss@p1")
    outer = replace(token(), base=stored)
    assert identify(http, ENDPOINTS, outer).chain == ("boss@p1", "real@p1")
    assert identify(http, ENDPOINTS, outer).chain_standing is Standing.CLAIMED
    assert claimed(replace(inner, principal=RUNNER)).standing is Standing.CLAIMED


@pytest.mark.parametrize("answer", [Answer(400, {}), Answer(200, {}), Answer(200, {"exp": "x"})])
def test_a_token_that_is_not_live_has_no_owner(answer: Answer) -> None:
    """The issuer's refusal is a refusal."""
    with pytest.raises(NotPermittedError):
        identify(FakeHttp({"/tokeninfo": answer}), ENDPOINTS, token())
