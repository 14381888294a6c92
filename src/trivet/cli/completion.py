"""``trivet completion``, and hints at the command that was meant."""

from __future__ import annotations

import difflib
from typing import Any

import click
from click.shell_completion import get_completion_class


class HintingGroup(click.Group):
    """A group of commands that tells them in sections, and says which one may have been meant."""

    group_class = type

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sections: dict[str, tuple[click.Command, ...]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands that the help shows together, in this order."""
        self.sections[title] = commands
        for command in commands:
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first sentence of each command, whole."""
        sections = self.sections or {"Commands": tuple(self.commands.values())}
        width = max(map(len, self.commands))
        for title, commands in sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{c.name:<{width}}", c.get_short_help_str(200)) for c in commands]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not close or "Did you mean" in error.message:
                raise
            raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?", ctx) from None


@click.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL: bash, zsh or fish.

    Put `eval "$(trivet completion bash)"` into ~/.bashrc, the same with zsh into ~/.zshrc; for
    fish, write it to ~/.config/fish/completions/trivet.fish.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click has all of the choices
    program = context.find_root().command
    click.echo(kind(program, {}, "trivet", "_TRIVET_COMPLETE").source())
