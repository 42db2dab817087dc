"""The predecessor's flags and commands on the command line: taken, or answered with what to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sollold.config.predecessor import COMMANDS, FLAGS

if TYPE_CHECKING:
    from sollold.config.predecessor import Flag

_GIVEN = "sollold.old_words"
_POINTER = (
    "Its other flags are known, too: the log says of each that it does nothing, or it is refused."
)


class OldWords(click.Group):
    """A group that knows the predecessor's words besides its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; a leading `up` is what happens anyway."""
        rest = super().parse_args(ctx, args[1:] if args[:1] == ["up"] else args)
        refused = [
            f"{flag.name}: {flag.text}"
            for flag in FLAGS
            if flag.fate == "refused" and flag.name in dict(given(ctx))
        ]
        if refused:
            raise click.UsageError("\n       ".join(refused), ctx)
        return rest

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; one of the predecessor's is answered with what to use."""
        for word in COMMANDS:
            if args[0] == word.name:
                late = "write it first, or leave it out: it starts the daemon"
                raise click.UsageError(
                    f"{word.name}: {late if word.fate == 'taken' else word.text}"
                )
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and apart from them those of the predecessor."""
        old = {flag.name for flag in FLAGS}
        own: list[tuple[str, str]] = []
        others: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                (others if old & set(parameter.opts) else own).append(record)
        with formatter.section("Options"):
            formatter.write_dl(own)
        with formatter.section("Flags of the predecessor (docs/migration.md)"):
            formatter.write_dl(others)
            formatter.write_text(_POINTER)
        self.format_commands(ctx, formatter)


def given(context: click.Context) -> tuple[tuple[str, str], ...]:
    """Return the predecessor's flags that were given, each with what follows it."""
    return tuple(context.meta.get(_GIVEN, ()))


def old_options() -> list[click.Parameter]:
    """Return an option for every flag of the predecessor; `given` tells which were used."""
    return [_option(flag) for flag in FLAGS]


def _option(flag: Flag) -> click.Option:
    return click.Option(
        [flag.name],
        is_flag=not flag.metavar,
        metavar=flag.metavar or None,
        type=click.IntRange(0, 65535) if flag.name == "--port" else None,
        default=None,
        hidden=flag.fate != "taken",
        help=f"{flag.text[:1].upper()}{flag.text[1:]}.",
        expose_value=False,
        callback=_note,
    )


def _note(context: click.Context, parameter: click.Parameter, value: object) -> None:
    source = context.get_parameter_source(parameter.name or "")
    if source is click.core.ParameterSource.COMMANDLINE:
        context.meta.setdefault(_GIVEN, []).append((parameter.opts[0], str(value)))
