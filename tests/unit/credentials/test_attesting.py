"""Who signs for whom, and whose word is taken, without a server."""

from datetime import timedelta
from unittest import mock

import pytest

from spanctl.clock import now
from spanctl.credentials import issuer
from spanctl.credentials.attesting import hand_for
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.iam import AccessToken
from spanctl.credentials.identity import Principal, Standing
from spanctl.credentials.issuer import Issuer, asker
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.secret import Secret
from spanctl.credentials.signing import attest
from spanctl.errors import UnreachableError, UsageError
from spanctl.references import Signer, signers

EXPIRY = now() + timedelta(hours=1)


def _token(principal: str, base: AccessToken | None = None, *delegates: str) -> AccessToken:
    return AccessToken(
        token=Secret(f"token-of-{principal}"),
        expiry=EXPIRY,
        principal=principal,
        base=base,
        delegates=delegates,
    )


def test_who_asks_for_a_signature() -> None:
    """Whoever became the signer, through the same delegates; else the one at the base."""
    user = _token("user")
    middle = _token("middle@x", user, "d@x")
    last = _token("last@x", middle)
    assert hand_for(last, "middle@x").token is user
    assert hand_for(last, "middle@x").delegates == ("d@x",)
    assert hand_for(last, "last@x").token is middle
    assert hand_for(last, "other@x").token is user
    assert hand_for(last, "other@x").delegates == ()
    assert hand_for(user, "last@x").token is user


def test_who_asks() -> None:
    """The base of a proven chain; where nobody proved the chain, the principal itself."""
    proven, claimed = Standing.PROVEN, Standing.CLAIMED
    whole = Principal(name="r", standing=proven, chain=("u", "d"), chain_standing=proven)
    assert asker(whole) == ("u", proven)
    told = Principal(name="r", standing=proven, chain=("u",), chain_standing=claimed)
    assert asker(told) == ("r", proven)
    assert asker(Principal(name="r", standing=claimed)) == ("r", claimed)


def test_whose_word_is_taken() -> None:
    """Those that are set, or else the account that the credentials act as."""
    assert signers("impersonate:a@x.y@via:b@x.y", None) == (Signer("a@x.y"),)
    assert signers("chain:adc,impersonate:a@x.y", None) == (Signer("a@x.y"),)
    assert signers("adc", None) == ()
    assert signers("impersonate:a@x.y", "b@x.y, c@x.y") == (Signer("b@x.y"), Signer("c@x.y"))
    for wrong in ("b@x.y,", "b", ",", "b@x.y c@x.y"):
        with pytest.raises(UsageError):
            signers("adc", wrong)


def test_what_prefect_fills_in_is_not_signed() -> None:
    """Such a run would be refused by its worker: who asks for it is told, and only claimed."""
    credentials = mock.Mock()
    template = {"a": [{"__prefect_kind": "workspace_variable", "variable_name": "v"}]}
    given = {"deployment": "d", "nonce": "n"}
    with pytest.raises(UsageError, match="fills in a parameter"):
        attest(credentials, Endpoints(), "a@x.y", parameters=template, **given)
    credentials.ensure.assert_not_called()


def test_the_issuer_is_asked_once_for_each_token() -> None:
    """And again, after a while, when it did not answer: until then nothing is proven."""
    tokens = [_token("a@x.y"), _token("b@x.y")]
    source = mock.Mock()
    source.fetch.side_effect = tokens
    live = LiveCredentials(source, Http(Endpoints()))
    asked = Issuer(live, Endpoints())

    def told(_http: Http, _endpoints: Endpoints, token: AccessToken) -> Principal:
        return Principal(name=str(token.principal), standing=Standing.PROVEN)

    with mock.patch.object(issuer, "identify", side_effect=told) as identify:
        assert {asked.principal().name for _ in range(5)} == {"a@x.y"}
        assert identify.call_count == 1
        live.renew(tokens[0].token)
        assert {asked.principal().name for _ in range(5)} == {"b@x.y"}
        assert identify.call_count == 2
    silent = Issuer(live, Endpoints())
    failing = mock.patch.object(issuer, "identify", side_effect=UnreachableError("silence"))
    with failing as identify, mock.patch.object(issuer, "monotonic") as clock:
        clock.return_value = 100.0
        assert {silent.principal().standing for _ in range(5)} == {Standing.CLAIMED}
        assert identify.call_count == 1
        clock.return_value = 131.0
        assert silent.principal().standing is Standing.CLAIMED
        assert identify.call_count == 2
        identify.side_effect = told
        clock.return_value = 162.0
        assert silent.principal().standing is Standing.PROVEN
