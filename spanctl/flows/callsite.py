"""The call site of a step: there the operation gets its key, before anything can run twice.

Keys are given out in the flow's own thread, in the order of its calls, and travel to the body as a
hidden argument. A key that the caller gives (``key=``) names the call within the whole run,
wherever it is made: no path goes into it.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.context import FlowRunContext

from spanctl import invocation
from spanctl.errors import (
    ContextLostError,
    KeyRequiredError,
    KeyReusedError,
    SpanctlError,
    UsageError,
)
from spanctl.flows import contexts
from spanctl.flows.asking import Asking, asking
from spanctl.flows.identity import identify
from spanctl.flows.keyed import requested
from spanctl.flows.ledgers import ledger_label
from spanctl.flows.place import Place, claim, here, put_labels
from spanctl.flows.targets import resolve
from spanctl.invocation import ATTESTATION_LABEL, FLOW_KEY_LABEL, Invocation
from spanctl.ledger.digests import ModuleNames
from spanctl.ledger.keys import JOB, KEYED, OUTSIDE, OperationKey, txn_id
from spanctl.ledger.receipt import Provenance
from spanctl.ledger.step_identity import told
from spanctl.spanner.operation import Identified

if TYPE_CHECKING:
    from spanctl.flows.body import Step
    from spanctl.invocation import DatabaseLike
    from spanctl.spanner.rpc import Target


_PROGRAM = "__main__"
"""What the main module is called where no file gives it a name: on stdin, in a notebook."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the call site knows and the body, maybe in another process, needs. It pickles.

    Attributes:
        key: The operation's key.
        target: The database.
        provenance: Where the call comes from; the body adds its task run.
        expect_replay: Whether the operation may well have been committed by an earlier run.
        ledger: Id of the ledger that the root flow run belongs to; None while nobody has said.
        asked: The signed statement of who asked for a deployment's run; None without one.
        identified: Which function is called; None for what has no function of the user's.
        request: What was asked for under the idempotency key, where that is known.
        ancestors: The executors on whose behalf another process executes it, the nearest first.
    """

    key: OperationKey
    target: "Target"
    provenance: Provenance = field(default_factory=Provenance)
    expect_replay: bool = False
    ledger: str | None = None
    asked: Asking | None = None
    identified: Identified | None = None
    request: str | None = None
    ancestors: tuple[str, ...] = ()


class CallSite(str):  # noqa: SLOT000 - the origin is kept in its dictionary, which pickles
    """The hidden argument of a step: the text of its operation key, with its origin attached.

    It is a string so that whatever Prefect does with arguments (hash them for the cache, walk them
    for futures, show them) sees the operation key alone: the same on every attempt, and different
    for two calls that are otherwise alike.
    """

    origin: Origin

    @classmethod
    def of(cls, origin: Origin) -> "CallSite":
        """Return the call site of an origin."""
        site = cls(str(origin.key))
        site.origin = origin
        return site


def allot(
    name: str,
    *,
    step: "Step | None" = None,
    count: int | None = None,
    key: object = None,
    database: "DatabaseLike | None" = None,
) -> list[CallSite]:
    """Give out the keys of one call of a step, or of the elements of one ``map``.

    Args:
        name: The declared name of the step.
        step: The step, whose function no other one answers for; None where it has none.
        count: The number of elements; None for a single call.
        key: The caller's own key; for several elements one key each.
        database: The database that the call or its decorator names.

    Raises:
        KeyRequiredError: Ordinals are not stable here, and no key was given.
        ContextLostError: A flow run is executed here, and the call doesn't know which is its own.
        UsageError: A key is of the wrong type, or there is not one for each element.
        ConfigurationError: No database is set.
    """
    found = here()
    place = found[1] if found else None
    _refuse_lost(name, place, named=key is not None)
    keys: Sequence[int | str] = (
        _named(name, count, key) if key is not None else _counted(name, count or 1, found)
    )
    given = _invocation(place)
    root = _root(place, given)
    path = place.path if place and key is None else ()
    target = resolve(database or given.database, scope=root)
    if key is not None and found:
        _refuse_shared((OperationKey(root, (), name, one) for one in keys), *found, target)
    provenance = _provenance(place, given, target)
    asked = asking(place) if place else None
    if step is None:
        identities: Sequence[Identified | None] = [None] * len(keys)
    elif place:
        identities = [_identity(step, place, root, keys, named=key is not None)] * len(keys)
    else:
        identities = [_identity(step, None, root, [call], named=True) for call in keys]
    origins = [
        Origin(
            key=OperationKey(root, path, name, call),
            target=target,
            provenance=provenance,
            # Outside of flows anybody may have used the key before.
            expect_replay=place is None or place.rerun or bool(given.idempotency_key),
            ledger=place.labels.get(ledger_label(target)) if place else None,
            asked=asked,
            identified=identity,
            request=requested(place.root_run) if place and given.idempotency_key else None,
        )
        for call, identity in zip(keys, identities, strict=True)
    ]
    return [CallSite.of(origin) for origin in origins]


def _root(place: Place | None, given: Invocation) -> str:
    if given.idempotency_key:
        return f"{KEYED}{given.idempotency_key}"
    if place is not None:
        return str(place.root_run)
    return f"{JOB}{given.job}" if given.job else OUTSIDE


def _refuse_lost(name: str, place: Place | None, *, named: bool) -> None:
    """Refuse a call that may belong to a run that is or was executed here, and doesn't know it.

    Raises:
        ContextLostError: It may; with its own job or idempotency key it says what it belongs to.
    """
    given = invocation.current()
    if given.idempotency_key or (given.job and place is None):
        return
    where = place.lost if place else contexts.lost() or contexts.left_behind() or _hook_outside()
    if not where:
        return
    what = "the context of its flow run" if named else "key= and the context of its flow run"
    msg = f"step {name!r} needs {what}, because it is called {where} that has lost it"
    hint = (
        "start the thread's work with contextvars.copy_context().run and wait for it in the flow,"
        " or use the task runner; or: with using(job=...)"
    )
    raise ContextLostError(msg, hint=hint, step=name)


def _refuse_shared(
    keys: Iterable[OperationKey], context: FlowRunContext, place: Place, target: "Target"
) -> None:
    """Refuse a key that two subflows use whose order is not fixed.

    Raises:
        KeyReusedError: Another flow run has used it in this attempt of what is around the two.
    """
    for key in keys:
        if not claim(context, place.lineage, f"{ledger_label(target)}:{key}"):
            msg = f"step {key.step!r} is called with one key in two runs of {told(place.turns)}"
            hint = "for another write use another key, such as what the subflow is called with"
            raise KeyReusedError(msg, hint=hint, txn_id=txn_id(key))


def _hook_outside() -> str:
    return "in a hook" if contexts.in_hook() else ""


def _identity(
    step: "Step", place: Place | None, root: str, calls: Sequence[int | str], *, named: bool
) -> Identified:
    """Return who is called: one identity for all calls of a run, outside of runs for one call."""
    names = ModuleNames.of_run(*filter(None, [place.module if place else None]))
    if place:
        path = place.turns if named else ()
        fixed = place.turns == place.path
        found = identify(step, names, within=root, path=path, fixed=fixed)
        return Identified(
            step=replace(found, lineage=place.lineage) if named else found, names=names
        )
    (call,) = calls
    if root == OUTSIDE and names.of(step.function.__module__) == _PROGRAM:
        msg = f"step {step.name!r} is of a program that has no file, so nothing names its job"
        raise KeyRequiredError(msg, hint="call it with using(job=NAME)", step=step.name)
    # Outside of runs a process may define a function anew, for another call.
    found = identify(step, names, within=f"{root} {call}", path=(), fixed=True)
    # Before its job was given a name, a call had another key.
    unnamed = OperationKey(OUTSIDE, (), step.name, call) if root.startswith(JOB) else None
    return Identified(step=found, names=names, unnamed=unnamed)


def _counted(step: str, count: int, found: tuple[FlowRunContext, Place] | None) -> Sequence[int]:
    if found is None:
        raise _key_required(step, "it is called outside of a flow")
    context, place = found
    if place.unstable:
        raise _key_required(step, place.unstable)
    # The counters are new for every attempt of the flow run, so each attempt counts from 0.
    counter = f"spanctl:{step}"
    first = int(context.task_run_dynamic_keys.get(counter, 0))
    context.task_run_dynamic_keys[counter] = first + count
    return range(first, first + count)


def _key_required(step: str, why: str) -> KeyRequiredError:
    msg = f"step {step!r} needs key=, because {why}"
    hint = "call it in the flow's own body, or pass key= with a value that names this write"
    return KeyRequiredError(msg, hint=hint, step=step)


def _named(step: str, count: int | None, key: Any) -> list[str]:  # noqa: ANN401 - the caller's
    if count is None:
        return [_text(step, key)]
    if isinstance(key, str | bytes | int | UUID):
        msg = f"one key= is given for the {count} elements of {step!r}.map"
        raise UsageError(msg, hint="pass a list with one key for each element")
    keys = [_text(step, one) for one in key]
    if len(keys) != count:
        msg = f"{len(keys)} keys are given for the {count} elements of {step!r}.map"
        raise UsageError(msg, hint="pass a list with one key for each element")
    if len(set(keys)) != count:
        msg = f"two elements of {step!r}.map have the same key="
        raise UsageError(msg, hint="a key names one write: make them differ")
    return keys


def _text(step: str, key: object) -> str:
    if isinstance(key, str | int | UUID) and not isinstance(key, bool) and str(key):
        return str(key)
    msg = f"step {step!r} got a key= of type {type(key).__qualname__}"
    raise UsageError(msg, hint="a key is a text that isn't empty, an integer or a UUID")


def _invocation(place: Place | None) -> Invocation:
    """Return what applies here; what only this process knows is put on the root flow run.

    A retry in another process, by a worker, must find the same root and the same initiator.

    Raises:
        UsageError: The run was created under another idempotency key.
    """
    given = invocation.current()
    if place is None:
        return given
    stored = Invocation.from_labels(place.labels)
    is_signed = ATTESTATION_LABEL in place.labels
    # What somebody has signed goes before what the flow's code says, and no label joins it later.
    merged = stored.over(given) if is_signed else given.over(stored)
    asked_for = given.over(stored).idempotency_key
    if stored.idempotency_key and stored.idempotency_key != asked_for:
        msg = f"flow run {place.root_run} was created under another idempotency key"
        raise UsageError(msg, hint="leave the key out, or start another run")
    told = merged.labels
    if is_signed:
        told = {} if stored.idempotency_key or not asked_for else {FLOW_KEY_LABEL: asked_for}
    missing = {name: text for name, text in told.items() if name not in place.labels}
    if missing:
        put_labels(place.root_run, missing)
        place.labels.update(missing)
    return merged


def _provenance(place: Place | None, given: Invocation, target: "Target") -> Provenance:
    initiator = given.initiator or invocation.user_at_host()
    if place is None:
        return _asked_here(Provenance(initiator=initiator, reason=given.reason), target)
    found = Provenance(
        initiator=initiator,
        reason=given.reason,
        root_run=str(place.root_run),
        flow_run=str(place.flow_run),
        flow=place.flow,
        deployment=place.deployment,
    )
    # A label says who asked elsewhere: that is a claim, unless a statement goes with it.
    return _asked_here(found, target) if place.is_asked_here else found


def _asked_here(provenance: Provenance, target: "Target") -> Provenance:
    """Add who asks in this process. Whoever has no token writes nothing, and is told so then."""
    from spanctl.spanner.client import shared

    with suppress(SpanctlError):
        return shared(target).actors.asked(provenance)
    return provenance
