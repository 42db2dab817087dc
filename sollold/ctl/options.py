"""The options every command takes, before or after its name, and how help is laid out.

Loads click and nothing else that is slow: a Tab press comes through here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONNECTION = frozenset({"url", "key_file", "timeout_s"})


class Settings(NamedTuple):
    """What the common options say; the option after the command's name wins."""

    url: str | None = None
    key_file: str | None = None
    timeout_s: float = 5.0
    is_json: bool = False
    is_wide: bool = False
    is_quiet: bool = False
    sort: str = ""
    filters: tuple[str, ...] = ()
    columns: str = ""
    is_headless: bool = False
    color: str = "auto"
    is_utc: bool = False
    is_verbose: bool = False
    watch_s: float | None = None

    def merged(self, given: dict[str, Any]) -> Settings:
        """Return these settings with the options that were given; filters add up."""
        changes = {key: value for key, value in given.items() if value not in {None, ()}}
        changes["filters"] = (*self.filters, *(given.get("filters") or ()))
        return self._replace(**changes)


def common_options() -> list[click.Parameter]:
    """Return the common options, new for each command."""
    return [
        click.Option(
            ["--url", "url"],
            metavar="URL",
            help="Daemon to ask: http://HOST:PORT or unix:PATH. "
            "Default: the control socket, then the usual ports of this machine. "
            "[env: SOLLOLD_URL]",
        ),
        click.Option(
            ["--key-file", "key_file"],
            metavar="FILE",
            help="Read the key from a file. [env for the key itself: SOLLOLD_KEY]",
        ),
        click.Option(
            ["--timeout", "timeout_s"],
            type=click.FloatRange(min=0.01, max=3600),
            metavar="SECONDS",
            help="How long to wait for an answer. Default: 5.",
        ),
        _flag("--json", "is_json", "Print the daemon's document unchanged."),
        _flag("--wide", "is_wide", "Show everything, however wide."),
        _flag("-q/--quiet", "is_quiet", "Print names only."),
        click.Option(
            ["--sort", "sort"], metavar="COLUMN", help="Sort by a column; -COLUMN reverses."
        ),
        click.Option(
            ["--filter", "filters"],
            multiple=True,
            metavar="KEY=VALUE",
            help="Show only what fits; A,B fits either, KEY!=VALUE all others. Repeatable.",
        ),
        click.Option(["--columns", "columns"], metavar="A,B", help="Show these columns."),
        _flag("--no-header", "is_headless", "Leave out the line of column names."),
        click.Option(
            ["--watch", "watch_s"],
            type=click.FloatRange(min=0.1, max=3600),
            metavar="[SECONDS]",
            help="Show it again and again, every 2 seconds; lists and status only.",
        ),
        click.Option(
            ["--color", "color"],
            type=click.Choice(["auto", "always", "never"]),
            help="When to use colour. Default: auto. [env: NO_COLOR, FORCE_COLOR]",
        ),
        _flag("--utc", "is_utc", "Show times in UTC instead of local time."),
        _flag("-v/--verbose", "is_verbose", "Say on stderr which addresses were tried."),
    ]


_COMMON_NAMES = frozenset(Settings._fields)
_WATCH_S = "2"
_WHOLE = 1000
"""No sentence is longer."""
_LOCAL = frozenset({"is_json", "color"})
"""Common options that mean something to a command which asks no daemon and prints no table."""


def _with_watch_seconds(args: Sequence[str]) -> list[str]:
    """Return the command line with the seconds that a bare `--watch` leaves out."""
    found: list[str] = []
    for index, word in enumerate(args):
        if word == "--":
            return [*found, *args[index:]]
        follows = args[index + 1] if index + 1 < len(args) else ""
        is_bare = word == "--watch" and not follows.replace(".", "", 1).isdecimal()
        found += [word, _WATCH_S] if is_bare else [word]
    return found


class Command(click.Command):
    """A command with the common options and three examples in its help."""

    def __init__(
        self,
        name: str | None,
        *,
        examples: Sequence[str] = (),
        params: list[click.Parameter] | None = None,
        is_local: bool = False,
        **attrs: Any,
    ) -> None:
        """`is_local`: asks no daemon and prints no table; help leaves out what is for those."""
        super().__init__(name, params=[*(params or []), *common_options()], **attrs)
        self.examples = tuple(examples)
        self.is_local = is_local

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; `--watch` may come without its seconds."""
        return super().parse_args(ctx, _with_watch_seconds(args))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command with the merged settings as context object."""
        _take_settings(ctx)
        return super().invoke(ctx)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write purpose, usage, examples, then options by group."""
        _write_head(self, ctx, formatter, self.examples)
        _write_options(self, ctx, formatter)


class Group(click.Group):
    """The group of all commands; takes the common options too."""

    command_class = Command

    def __init__(
        self,
        name: str | None = None,
        *,
        examples: Sequence[str] = (),
        params: list[click.Parameter] | None = None,
        is_local: bool = False,
        **attrs: Any,
    ) -> None:
        """`is_local`: asks no daemon and prints no table; help leaves out what is for those."""
        super().__init__(name, params=[*(params or []), *common_options()], **attrs)
        self.examples = tuple(examples)
        self.is_local = is_local

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; `--watch` may come without its seconds."""
        return super().parse_args(ctx, _with_watch_seconds(args))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command below with the settings so far as context object."""
        _take_settings(ctx)
        return super().invoke(ctx)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write purpose, usage, examples, commands, then options by group."""
        _write_head(self, ctx, formatter, self.examples)
        self.format_commands(ctx, formatter)
        _write_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their whole first sentences."""
        records = [
            (name, command.get_short_help_str(limit=_WHOLE))
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(records)


def _flag(names: str, attribute: str, text: str) -> click.Option:
    return click.Option([*names.split("/"), attribute], is_flag=True, default=None, help=text)


def _take_settings(ctx: click.Context) -> None:
    given = {name: ctx.params.pop(name, None) for name in _COMMON_NAMES}
    settings = ctx.obj if isinstance(ctx.obj, Settings) else Settings()
    ctx.obj = settings.merged(given)


def _write_head(
    command: click.Command,
    ctx: click.Context,
    formatter: click.HelpFormatter,
    examples: Sequence[str],
) -> None:
    formatter.write_text(command.help or "")
    formatter.write_paragraph()
    command.format_usage(ctx, formatter)
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"  {example}\n")


def _write_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Connection": [], "Output": []}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None:
            continue
        name = param.name or ""
        if getattr(command, "is_local", False) and name in _COMMON_NAMES - _LOCAL:
            continue
        is_output = name in _COMMON_NAMES or name == "help"
        section = "Connection" if name in _CONNECTION else "Output" if is_output else "Options"
        sections[section].append(record)
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
