"""The command `config` with those below it, and `open`."""

from __future__ import annotations

import click

from sollold.ctl import start
from sollold.ctl.options import Command, Group, Settings


@click.group(
    "config",
    cls=Group,
    examples=(
        "sollolctl config show",
        "sollolctl config show --origin --filter section=queue",
        "sollolctl config check ~/lab.toml",
    ),
)
def config_group() -> None:
    """Show or check the configuration."""


@config_group.command(
    "show",
    cls=Command,
    examples=(
        "sollolctl config show",
        "sollolctl config show --origin",
        "sollolctl config show --origin --filter origin=file,environment",
    ),
)
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@click.pass_obj
def show_command(settings: Settings, origin: bool) -> None:
    """Show every key the daemon runs with, secrets hidden; without a daemon, what it would."""
    from sollold.ctl import settings as commands

    commands.show(start.session(settings), has_origin=origin)


@config_group.command(
    "check",
    cls=Command,
    examples=(
        "sollolctl config check",
        "sollolctl config check ~/lab.toml",
        "sollolctl config check --json",
    ),
)
@click.argument(
    "file",
    required=False,
    type=click.Path(),
    help="Check this file alone; default: the usual files.",
)
@click.pass_obj
def check_command(settings: Settings, file: str | None) -> int:
    """Say every problem at once, without a daemon; exit 78 when there is one."""
    from sollold.ctl import settings as commands

    return commands.check(start.session(settings), file)


@click.command(
    "open",
    cls=Command,
    examples=(
        "sollolctl open",
        "sollolctl --url http://gpu-box:11434 open",
        "sollolctl open --json",
    ),
)
@click.pass_obj
def open_command(settings: Settings) -> None:
    """Print the dashboard's address, and open it where there is a desktop."""
    from sollold.ctl import dashboard

    dashboard.open_dashboard(start.session(settings))
