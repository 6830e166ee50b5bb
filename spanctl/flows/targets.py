"""Which database a step writes to: the call's or decorator's, the invocation's, the context's."""

from functools import lru_cache
from typing import TYPE_CHECKING

from prefect.blocks.core import Block

from spanctl import settings
from spanctl.errors import ConfigurationError, NotFoundError, UsageError
from spanctl.resources import DatabaseName

if TYPE_CHECKING:
    from spanctl.spanner.rpc import Target


def resolve(database: object = None, *, scope: str = "") -> "Target":
    """Return the target of a database, or of the context in use when none is named.

    Args:
        database: A target, a ``SpannerDatabase`` block, a block's name (with or without its type),
            or a full resource name, which is reached as the context in use says.
        scope: Blocks are read once in a scope (a run), so that a run never changes its database.

    Raises:
        ConfigurationError: Nothing names a database.
        NotFoundError: There is no such block.
        UsageError: It is nothing that names a database.
    """
    from spanctl.spanner.rpc import Target

    if isinstance(database, Target):
        return database
    if database is None:
        return Target.from_settings(settings.resolve())
    if isinstance(database, str):
        return _named(database) if database.startswith("projects/") else _stored(database, scope)
    from spanctl.flows.blocks import SpannerDatabase

    if isinstance(database, SpannerDatabase):
        return database.target()
    msg = f"a {type(database).__qualname__} names no database"
    hint = "pass a Target, a SpannerDatabase block, its name, or projects/P/instances/I/databases/D"
    raise UsageError(msg, hint=hint)


def _named(name: str) -> "Target":
    from spanctl.spanner.rpc import Target

    return Target.from_settings(settings.resolve(), DatabaseName.parse(name))


@lru_cache(maxsize=128)
def _stored(name: str, scope: str) -> "Target":  # noqa: ARG001 - the scope keeps runs apart
    from spanctl.flows.blocks import SpannerDatabase

    slug = SpannerDatabase._block_type_slug or ""  # noqa: SLF001 - Prefect's own name for it
    wanted = name if "/" in name else f"{slug}/{name}"
    try:
        block = Block.load(wanted, _sync=True)  # type: ignore[call-arg]  # added by async_dispatch
    except ValueError as error:
        msg = f"there is no Prefect block {wanted!r}"
        hint = "run: prefect block ls, or save a SpannerDatabase block under that name"
        raise NotFoundError(msg, hint=hint) from error
    if not isinstance(block, SpannerDatabase):
        msg = f"Prefect block {wanted!r} is no SpannerDatabase"
        raise ConfigurationError(msg, hint=f"name a block of type {slug}")
    return block.target()
