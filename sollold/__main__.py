"""The command `sollold`: arguments in, exit code out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from sollold import __version__

_HELP = """Stand in Ollama's place, in front of many Ollamas. Runs in the foreground.

\b
Examples:
  sollold --node 192.168.1.22 --node 192.168.1.23
  sollold --config ~/lab.toml
  sollold --check-config

Every key of the configuration can also be set by the environment variable
SOLLOLD_SECTION__KEY. Exit codes: 0 clean stop, 2 wrong usage, 75 port or lock taken,
78 bad configuration, 1 anything else.
"""


@click.command(help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sollold")
@click.option("--config", type=click.Path(path_type=Path), help="Read this file, and no other.")
@click.option("--check-config", is_flag=True, help="Say every problem of the configuration, stop.")
@click.option("--listen", multiple=True, metavar="ADDR", help="API address; may be repeated.")
@click.option("--console", multiple=True, metavar="ADDR", help="Console address; may be repeated.")
@click.option("--node", multiple=True, metavar="URL", help="An Ollama to use; may be repeated.")
@click.option("--log-level", metavar="LEVEL", default="", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", default="", help="auto, text, json or journal.")
def main(
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
    from sollold import daemon
    from sollold.config import Flags, LoadArgs
    from sollold.nodes.own import find_own_addresses
    from sollold.system.dirs import find_dirs

    dirs = find_dirs(os.environ)
    args = LoadArgs(
        files=dirs.config_files,
        config=config,
        flags=Flags(
            listen=listen, console=console, nodes=node, log_level=log_level, log_format=log_format
        ),
        environ=dict(os.environ),
        own_addresses=find_own_addresses(frozenset()).interfaces,
    )
    sys.exit(daemon.main(args, dirs, is_check=check_config))


if __name__ == "__main__":
    main()
