"""Tables without a database."""

from spanctl.spanner.catalog import Column, Index, Table
from spanctl.spanner.types import length_limit, type_from_name


def column(name, spanner_type, *, null=True, **more):
    return Column(
        name=name,
        type=type_from_name(spanner_type),
        spanner_type=spanner_type,
        nullable=null,
        length=length_limit(spanner_type),
        **more,
    )


PEOPLE = Table(
    name="People",
    columns=(
        column("Id", "INT64", null=False),
        column("name", "STRING(5)", null=False),
        column("note", "STRING(MAX)"),
        column("born", "DATE"),
        column("tags", "ARRAY<STRING(3)>"),
        column("photo", "BYTES(2)"),
        column("size", "FLOAT64", null=False, default="0.0"),
        column("upper", "STRING(5)", generated=True),
    ),
    primary_key=("Id",),
    indexes=(Index(name="by_name", columns=("name",), storing=("note",)),),
)
