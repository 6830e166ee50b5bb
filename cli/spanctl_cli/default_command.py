"""A group whose first word may also be an argument: ``spanctl run flow.py:f``, ``run sql``."""

from typing import Any, ClassVar

from spanctl_cli.help import Group


class DefaultGroup(Group):
    """A group that hands a first word which is no command to its command ``default``."""

    default: ClassVar[str]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - Typer's vendored types
        """Take the word as a command, else put the default command before it."""
        if args and args[0] not in self.commands:
            args = [self.default, *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's vendored types
        """Let options of the default command stand before its argument."""
        if args and args[0].startswith("-") and args[0] not in {"--help", "-h"}:
            args = [self.default, *args]
        return super().parse_args(ctx, args)
