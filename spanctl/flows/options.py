"""Prefect's options of a task that would let one call of a step answer for another."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prefect.cache_policies import NO_CACHE, CachePolicy, CompoundCachePolicy, Inputs, RunId

from spanctl.errors import UsageError
from spanctl.flows.callsite import CallSite
from spanctl.ledger.digests import ModuleNames, injective, part

if TYPE_CHECKING:
    from prefect.context import TaskRunContext

    from spanctl.flows.body import Step

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


@dataclass
class OneCall(CachePolicy):
    """Answers a call from the cache with the result of that very call alone.

    Prefect's own policies hash what JSON makes of the arguments, and the source of the function:
    two databases, two functions of one factory and many values look alike to them.
    """

    @classmethod
    def instead_of(cls, policy: Any) -> Any:  # noqa: ANN401 - Prefect's: a policy, None or NotSet
        """Return the policy that a step has in place of the one that Prefect would use."""
        if not isinstance(policy, CachePolicy) or policy == NO_CACHE:
            return policy
        return cls(
            key_storage=policy.key_storage,
            isolation_level=policy.isolation_level,
            lock_manager=policy.lock_manager,
        )

    def compute_key(
        self,
        task_ctx: "TaskRunContext",
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: object,
    ) -> str | None:
        """Return the digest of all that makes a call; None where it has none: nothing is cached."""
        del flow_parameters, kwargs
        sites = [one for one in inputs.values() if isinstance(one, CallSite)]
        step: Step | None = getattr(task_ctx.task, "step", None)
        ignored = step.ignore_arguments if step else frozenset()
        if len(sites) != 1:
            return None
        origin = sites[0].origin
        names = origin.identified.names if origin.identified else ModuleNames.of_run()
        given = {
            name: value
            for name, value in inputs.items()
            if name not in ignored and value is not sites[0]
        }
        known = origin.identified.step if origin.identified else None
        called = (
            *(str(origin.key), str(origin.target.database), origin.target.host),
            *(str(task_ctx.task_run.flow_run_id), known.function if known else None),
            *(known.surroundings if known else None, known.path if known else ()),
        )
        try:
            told = part(b"K", injective(called, names), injective(given, names))
        except UsageError:
            return None
        return hashlib.sha256(told).hexdigest()


def _is_of_one_call(policy: CachePolicy, hidden: str) -> bool:
    """Tell whether a policy's key holds the call's own key and its run, as the default's does."""
    parts = policy.policies if isinstance(policy, CompoundCachePolicy) else [policy]
    inputs = [one for one in parts if isinstance(one, Inputs)]
    whole = any(hidden not in one.exclude for one in inputs)
    return policy == NO_CACHE or (whole and any(isinstance(one, RunId) for one in parts))


def _refused(step: str, option: str) -> UsageError:
    msg = f"step {step!r} can't have {option}: a cached result would stand for a write not made"
    return UsageError(msg, hint=_HINT)
