"""The commands below `sollolctl service`; what they do is loaded when one is run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from sollold.ctl.options import Command, Group, Settings

if TYPE_CHECKING:
    from sollold.ctl.manager import ServiceManager
    from sollold.ctl.session import Session

_system = click.option(
    "--system", "is_system", is_flag=True, help="For the whole machine, as root; else for you."
)
_force = click.option(
    "--force", "is_forced", is_flag=True, help="Replace or remove unit files edited by hand too."
)
_dry_run = click.option(
    "--dry-run", "is_dry_run", is_flag=True, help="Say what would be done, do nothing."
)


@click.group(
    "service",
    cls=Group,
    is_local=True,
    examples=(
        "sollolctl service install --now",
        "sollolctl service status",
        "sollolctl service uninstall",
    ),
)
def service_group() -> None:
    """Have systemd run sollold: install, uninstall, status."""


@service_group.command(
    "install",
    cls=Command,
    is_local=True,
    examples=(
        "sollolctl service install --now --linger",
        "sollolctl service install --socket --dry-run",
        "sollolctl service install --system --now",
    ),
)
@_system
@click.option(
    "--socket",
    "has_socket",
    is_flag=True,
    help="Have systemd hold the addresses: a restart refuses nobody.",
)
@click.option("--now", "is_now", is_flag=True, help="Start it, too.")
@click.option("--linger", "has_linger", is_flag=True, help="Keep your services after logout.")
@_force
@_dry_run
@click.pass_obj
def install_command(settings: Settings, /, is_system: bool, **options: bool) -> None:
    """Write the unit files, enable them, and say what was done."""
    from sollold.ctl import service

    service.install(_session(settings), _manager(is_system), service.Options(**options))


@service_group.command(
    "uninstall",
    cls=Command,
    is_local=True,
    examples=(
        "sollolctl service uninstall",
        "sollolctl service uninstall --dry-run",
        "sollolctl service uninstall --system",
    ),
)
@_system
@_force
@_dry_run
@click.pass_obj
def uninstall_command(settings: Settings, /, is_system: bool, **options: bool) -> None:
    """Stop the service and remove the unit files that install wrote."""
    from sollold.ctl import service

    service.uninstall(_session(settings), _manager(is_system), service.Options(**options))


@service_group.command(
    "status",
    cls=Command,
    is_local=True,
    examples=(
        "sollolctl service status",
        "sollolctl service status --json",
        "sollolctl service status --system",
    ),
)
@_system
@click.pass_obj
def status_command(settings: Settings, is_system: bool) -> int:
    """Say whether the service is installed and runs; exit code 1 when it does not run."""
    from sollold.ctl import service
    from sollold.ctl.failure import Exit

    manager = _manager(is_system)
    if not is_system and os.geteuid() == 0 and service.is_only_of_the_system(manager):
        manager = _manager(is_system=True)
    is_running = service.status(_session(settings), manager)
    return Exit.OK if is_running else Exit.FAILED


def _manager(is_system: bool) -> ServiceManager:
    from sollold.ctl.manager import ServiceManager

    return ServiceManager(is_system=is_system, environ=os.environ)


def _session(settings: Settings) -> Session:
    from sollold.ctl.session import Session

    return Session(settings, os.environ)
