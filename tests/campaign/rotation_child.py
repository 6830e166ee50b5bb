"""A child that rotates a secret, and dies where it is told to."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.reference import SecretName
from spanctl.credentials.resolve import resolve_store
from spanctl.errors import ConflictError, SpanctlError
from tests.campaign import vault as vaults
from tests.campaign.vault import Address
from tests.campaign.zygote import Say, die


def work(  # noqa: PLR0913 - as its zygote is told
    say: Say, *, address: dict[str, Any], name: str, kind: str, intent: str, point: str
) -> None:
    """Rotate, resume or abort, and say how it ended; die at the call that the point names."""
    where = Address(**address)
    secret = SecretName.parse(name)
    store = resolve_store("adc", Endpoints(**where.endpoints))
    rotator = where.rotator(secret, kind, store)
    if found := re.fullmatch(r"(before|after) call (\d+)", point):
        _arm(rotator, found[1], int(found[2]))
    say("begun")
    try:
        done = getattr(rotator, intent)(wait_until=vaults.until(3))
    except ConflictError:
        say("blocked")
    except SpanctlError as error:
        say(f"failed: {type(error).__name__}")
    else:
        say([done.ending, done.version])


def _arm(rotator: Any, when: str, call: int) -> None:
    count = itertools.count(1)

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **given: Any) -> Any:
            here = next(count) == call
            if here and when == "before":
                die()
            answer = original(*args, **given)
            if here:
                die()
            return answer

        return wrapped

    store = ("get", "update", "add", "access", "versions", "disable", "destroy")
    for of, methods in (
        (rotator.store, store),
        (rotator.minter, ("mint", "disable_key", "delete_key")),
    ):
        for method in methods:
            setattr(of, method, dying(getattr(of, method)))
    rotator.tester = _Dying(dying(rotator.tester.test))


@dataclass(frozen=True, slots=True)
class _Dying:
    test: Callable[..., Any]
