"""The commands of `sollolctl`. Each asks for one document and prints it as words or as it came."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from sollold import __version__
from sollold.ctl.commands_logs import logs_command
from sollold.ctl.commands_models import check_command, models_command, ps_command
from sollold.ctl.commands_settings import config_group, open_command
from sollold.ctl.complete import node_names
from sollold.ctl.options import Command, Group, Settings
from sollold.ctl.service_group import service_group
from sollold.ctl.start import session as _session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.ctl.failure import Failure

_NAME = "sollolctl"
_SHELLS = {
    "bash": "~/.local/share/bash-completion/completions/sollolctl",
    "zsh": "a directory in $fpath, as _sollolctl",
    "fish": "~/.config/fish/completions/sollolctl.fish",
    "powershell": "a file that $PROFILE reads",
}


def main() -> None:
    """Run the program."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run a command line; return the exit code."""
    from sollold.ctl.failure import Exit, Failure, PipeClosed

    try:
        code = cli.main(args=list(args), prog_name=_NAME, standalone_mode=False)
    except Failure as failure:
        return failure.exit_code if failure.is_told else _fail(failure, args)
    except click.UsageError as error:
        if "--json" not in args:
            error.show()
            return error.exit_code
        return _fail(Failure(Exit.USAGE, "usage", error.format_message()), args)
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except PipeClosed:
        # What is still buffered would fail again when the interpreter ends.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return code if isinstance(code, int) else Exit.OK


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=(
        "sollolctl status",
        "sollolctl nodes gpu-2",
        "sollolctl logs -f --kind failover,node",
    ),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Show what sollold does, and why."""


@cli.command(
    "status",
    cls=Command,
    examples=(
        "sollolctl status",
        "sollolctl status --short",
        "sollolctl --url http://gpu-box:11434 status --json",
    ),
)
@click.option("--short", is_flag=True, help="One line, for tmux and status bars.")
@click.pass_obj
def status_command(settings: Settings, short: bool) -> None:
    """Say whether sollold serves, and what needs attention."""
    from sollold.ctl import overview

    overview.status(_session(settings), is_short=short)


@cli.command(
    "nodes",
    cls=Command,
    examples=(
        "sollolctl nodes",
        "sollolctl nodes gpu-2",
        "sollolctl nodes --filter state=down,slow --wide",
    ),
)
@click.argument(
    "node",
    required=False,
    shell_complete=node_names,
    help="A node's name, its id, or the start of its name.",
)
@click.pass_obj
def nodes_command(settings: Settings, node: str | None) -> None:
    """List the nodes, worst first; with a name, everything about that one."""
    from sollold.ctl import actions

    session = _session(settings)
    if node is None:
        actions.nodes(session)
    else:
        actions.node(session, node)


@cli.command(
    "requests",
    cls=Command,
    examples=(
        "sollolctl requests",
        "sollolctl requests --sort -for",
        "sollolctl requests --filter node=gpu-2",
    ),
)
@click.pass_obj
def requests_command(settings: Settings) -> None:
    """List the requests that are running or waiting."""
    from sollold.ctl import actions

    actions.requests(_session(settings))


@cli.command(
    "reload",
    cls=Command,
    examples=(
        "sollolctl reload",
        "sollolctl reload --json",
        "sollolctl --url http://gpu-box:11434 reload",
    ),
)
@click.pass_obj
def reload_command(settings: Settings) -> None:
    """Have sollold read its configuration anew; on any mistake the old one stays."""
    from sollold.ctl import reload

    session = _session(settings)
    session.refuse_watch()
    reload.reload(session)


@cli.command(
    "version",
    cls=Command,
    examples=(
        "sollolctl version",
        "sollolctl version --json",
        "sollolctl --url http://gpu-box:11434 version",
    ),
)
@click.pass_obj
def version_command(settings: Settings) -> None:
    """Show the versions of sollolctl and of the daemon."""
    from sollold.ctl import overview

    session = _session(settings)
    session.refuse_watch()
    overview.version(session, __version__)


@cli.command(
    "completion",
    cls=Command,
    examples=(
        f"sollolctl completion bash > {_SHELLS['bash']}",
        "sollolctl completion zsh > ~/.zfunc/_sollolctl",
        f"sollolctl completion fish > {_SHELLS['fish']}",
    ),
)
@click.argument("shell", type=click.Choice(list(_SHELLS)), help="The shell to print it for.")
def completion_command(shell: str) -> None:
    """Print the completion script for a shell."""
    from click.shell_completion import get_completion_class

    from sollold.ctl.bash import ColonBash

    completion = ColonBash if shell == "bash" else get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(completion(cli, {}, _NAME, f"_{_NAME.upper()}_COMPLETE").source())
    if sys.stdout.isatty():
        click.echo(f"# Put this into {_SHELLS[shell]}", err=True)


for command in (
    check_command,
    config_group,
    logs_command,
    models_command,
    open_command,
    ps_command,
    service_group,
):
    cli.add_command(command)


def _fail(failure: Failure, args: Sequence[str]) -> int:
    from sollold.ctl.session import report

    report(failure, os.environ, _color(args), is_json="--json" in args)
    return failure.exit_code


def _color(args: Sequence[str]) -> str:
    """Return the colour option as typed; a failure may come before options are parsed."""
    for name, value in zip(args, [*args[1:], ""], strict=True):
        if name == "--color" and value in {"always", "never"}:
            return value
        if name in {"--color=always", "--color=never"}:
            return name.partition("=")[2]
    return "auto"
