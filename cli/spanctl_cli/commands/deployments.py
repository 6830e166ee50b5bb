"""``spanctl deployments``: what can be run on workers, and with which parameters."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spanctl_cli.context import AppContext
from spanctl_cli.options import FieldsOption, OutputOption
from spanctl_cli.output import Column, Kind, Listing, Record, emit
from spanctl_cli.output.model import Section

if TYPE_CHECKING:
    from spanctl.orchestration.model import Deployment

app = typer.Typer(help="List deployments, and the parameters that they take.")

_COLUMNS: Final = (
    Column("name", title="deployment", kind=Kind.ID),
    Column("status", kind=Kind.STATE),
    Column("work_pool", title="work pool"),
    Column("schedules"),
    Column("paused", kind=Kind.FLAG),
    Column("tags"),
    Column("id", kind=Kind.ID, extra=True),
    Column("entrypoint", extra=True),
    Column("description", extra=True),
)
_SHOWN: Final = tuple(Column(one.key, one.title, one.kind) for one in _COLUMNS)
_PARAMETERS: Final = (
    Column("name", title="parameter"),
    Column("type"),
    Column("required", kind=Kind.FLAG),
    Column("default"),
    Column("description"),
)


@app.command("list")
def list_(
    ctx: typer.Context,
    *,
    flow: Annotated[
        str | None, typer.Option("--flow", metavar="NAME", help="Of this flow.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="With this tag. Repeatable.")
    ] = None,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """List deployments, sorted by name.

    Example: spanctl deployments list --flow transfer
    """
    from spanctl.orchestration.browsing import list_deployments
    from spanctl_cli.runs.deployments import connect

    with connect(AppContext.of(ctx)) as api:
        rows = [_row(one) for one in list_deployments(api, flow=flow, tags=tag or ())]
    empty = "no deployments; make one: prefect deploy"
    emit(Listing("deployments.list", _COLUMNS, rows, empty=empty), output, fields=fields)


@app.command()
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="FLOW/NAME", help="The deployment.")],
    *,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Show a deployment: where it runs, when, and which parameters it takes.

    Example: spanctl deployments show transfer/nightly
    """
    from spanctl_cli.runs.deployments import connect

    with connect(AppContext.of(ctx)) as api:
        found = api.deployment(name)
    parameters = Listing("deployments.parameters", _PARAMETERS, list(_parameters(found)))
    sections = (Section("parameters", "Parameters", parameters),)
    record = Record("deployments.show", _SHOWN, _row(found), sections=sections)
    emit(record, output, fields=fields)


def _row(found: "Deployment") -> dict[str, Any]:
    return {
        "name": found.name,
        "status": found.status,
        "work_pool": found.work_pool,
        "schedules": [text if active else f"{text} (off)" for text, active in found.schedules],
        "paused": found.paused,
        "tags": list(found.tags),
        "id": found.id,
        "entrypoint": found.entrypoint,
        "description": found.description or None,
    }


def _parameters(found: "Deployment") -> Iterator[dict[str, Any]]:
    from spanctl.orchestration.parameters import kind_of

    required = set(found.schema.get("required") or ())
    for name, about in (found.schema.get("properties") or {}).items():
        said: Mapping[str, Any] = about if isinstance(about, dict) else {}
        default = found.parameters.get(name, said.get("default"))
        yield {
            "name": name,
            "type": kind_of(said, found.schema),
            "required": name in required and name not in found.parameters,
            "default": default,
            "description": said.get("description"),
        }
