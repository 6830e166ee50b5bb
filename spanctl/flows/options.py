"""Prefect's options of a task that a step can't have: they let one call answer for another."""

from collections.abc import Mapping
from typing import Any, Final

from prefect.cache_policies import NO_CACHE, CachePolicy, CompoundCachePolicy, Inputs, RunId

from spanctl.errors import UsageError

_HINT: Final = "leave it out: repeats are answered by receipts, and key= says which calls are one"
_REFUSED: Final = ("cache_key_fn", "result_storage_key")


def check(step: str, options: Mapping[str, Any], hidden: str) -> None:
    """Return when Prefect can answer a call of a step from its cache only with its own result.

    Args:
        step: The step's name.
        options: Prefect's task options.
        hidden: The argument that carries the call's operation key.

    Raises:
        UsageError: A cached result of one call would answer for another, whose write never ran.
    """
    for name in _REFUSED:
        if options.get(name):
            raise _refused(step, name)
    policy = options.get("cache_policy")
    if isinstance(policy, CachePolicy) and not _is_of_one_call(policy, hidden):
        raise _refused(step, "cache_policy")


def _is_of_one_call(policy: CachePolicy, hidden: str) -> bool:
    """Tell whether a policy's key holds the call's own key and its run, as the default's does."""
    parts = policy.policies if isinstance(policy, CompoundCachePolicy) else [policy]
    inputs = [one for one in parts if isinstance(one, Inputs)]
    whole = any(hidden not in one.exclude for one in inputs)
    return policy == NO_CACHE or (whole and any(isinstance(one, RunId) for one in parts))


def _refused(step: str, option: str) -> UsageError:
    msg = f"step {step!r} can't have {option}: a cached result would stand for a write not made"
    return UsageError(msg, hint=_HINT)
