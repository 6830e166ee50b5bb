"""Signed statements taken apart and held against a flow run, without a server."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanctl.errors import UsageError, VerificationError
from spanctl.ledger.attestation import (
    AUDIENCE,
    LONGEST,
    MOST_AFTER,
    MOST_BEFORE,
    Claims,
    RunFacts,
    check,
    parameters_digest,
    parse,
)

MOMENT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
CLAIMS = Claims(
    signer="runner@p.iam.gserviceaccount.com",
    initiator="ada@example.com",
    deployment="d",
    nonce="n",
    parameters=parameters_digest("salt", {"cents": 7}),
    issued=MOMENT,
)
FACTS = RunFacts(deployment="d", nonce="n", parameters=CLAIMS.parameters, created=MOMENT)
HEADER = {"alg": "RS256", "kid": "k", "typ": "JWT"}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _part(data: Any) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _token(header: Any = None, **changes: Any) -> str:
    said = {**json.loads(CLAIMS.to_payload()), **changes}
    said = {name: value for name, value in said.items() if value is not ...}
    return f"{_part(HEADER if header is None else header)}.{_part(said)}.{_part(b'signature')}"


def test_what_is_said_is_read_back() -> None:
    """A statement says the same after its travel, and its id stays the same."""
    found = parse(_token())
    assert (found.claims, found.key_id, found.signature) == (CLAIMS, "k", b"signature")
    assert found.id == parse(_token()).id != parse(_token(nonce="other")).id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b",
        "a.b.c.d",
        "ü.ü.ü",
        _token().replace(".", "..", 1),
        "x" * (LONGEST + 1),
        f"{_token()}{'A' * LONGEST}",
        _token(["RS256"]),
        _token({"alg": "none", "kid": "k"}),
        _token({"alg": "HS256", "kid": "k"}),
        _token({"alg": "RS256"}),
        _token({"alg": "RS256", "kid": 1}),
        _token(aud="https://spanner.googleapis.com/"),
        _token(aud=[AUDIENCE]),
        _token(iss="../../v1/x@y"),
        _token(iss="runner"),
        _token(iat=True),
        _token(iat=MOMENT.timestamp() + 0.5),
        _token(iat=10**20),
        _token(iat=-1),
        _token(iat=...),
        _token(nonce=""),
        _token(deployment=["d"]),
        _token(parameters=...),
        _token(initiator=None),
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    """By our own error, which quotes nothing of it."""
    with pytest.raises(VerificationError) as told:
        parse(text)
    assert "runner" not in told.value.message


@given(st.text(max_size=60) | st.text("abcdefABCDEF0123456789-_.", max_size=60))
def test_garbage_is_refused(text: str) -> None:
    """Whatever somebody writes into a label, the answer is a refusal."""
    with pytest.raises(VerificationError):
        parse(text)


def test_a_statement_fits_its_run_alone() -> None:
    """Each thing that it binds is held against the run, and named when it differs."""
    check(CLAIMS, FACTS)
    for changes, told in (
        ({"deployment": "other"}, "another deployment"),
        ({"deployment": None}, "another deployment"),
        ({"nonce": "other"}, "another idempotency key"),
        ({"nonce": None}, "another idempotency key"),
        ({"parameters": parameters_digest("salt", {"cents": 8})}, "other parameters"),
        ({"parameters": parameters_digest("other", {"cents": 7})}, "other parameters"),
        ({"created": None}, "not signed when"),
    ):
        facts: RunFacts = replace(FACTS, **changes)  # type: ignore[arg-type]
        with pytest.raises(VerificationError, match=told):
            check(CLAIMS, facts)


@pytest.mark.parametrize(
    ("age", "fits"),
    [
        (timedelta(), True),
        (MOST_BEFORE, True),
        (MOST_BEFORE + timedelta(seconds=1), False),
        (-MOST_AFTER, True),
        (-MOST_AFTER - timedelta(seconds=1), False),
        (timedelta(days=365), False),
    ],
)
def test_it_is_signed_when_its_run_is_made(age: timedelta, fits: bool) -> None:
    """Near the creation of the run, with room for two requests and for two clocks."""
    facts = replace(FACTS, created=MOMENT + age)
    if fits:
        check(CLAIMS, facts)
        return
    with pytest.raises(VerificationError, match="not signed when the run was made"):
        check(CLAIMS, facts)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_parameters_keep_their_digest_on_their_way(parameters: dict[str, Any]) -> None:
    """JSON, another order of the keys, and a database that writes 1.0 as 1 don't change it."""
    digest = parameters_digest("s", parameters)
    travelled = json.loads(json.dumps(dict(reversed(parameters.items()))))
    assert parameters_digest("s", travelled) == digest
    assert parameters_digest("s", {**parameters, "one": 1.0}) == parameters_digest(
        "s", {**parameters, "one": 1}
    )
    assert parameters_digest("t", parameters) != digest


def test_parameters_that_no_text_can_hold() -> None:
    """Half of a character is refused as a wrong use, not as a fault of ours."""
    with pytest.raises(UsageError):
        parameters_digest("s", json.loads('{"a": "\\ud800"}'))


def test_parameters_that_differ_have_other_digests() -> None:
    """Types are told apart, and so is what is missing from what is null."""
    values = [{"a": 1}, {"a": "1"}, {"a": True}, {"a": None}, {}, {"a": [1]}, {"a": 1.5}, {"b": 1}]
    assert len({parameters_digest("s", one) for one in values}) == len(values)
