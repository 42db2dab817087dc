"""The commands about models, and `check`."""

from __future__ import annotations

import click

from sollold.ctl import start
from sollold.ctl.complete import model_names, node_names
from sollold.ctl.options import Command, Settings


@click.command(
    "ps",
    cls=Command,
    examples=(
        "sollolctl ps",
        "sollolctl ps --filter node=gpu-2",
        "sollolctl ps --watch",
    ),
)
@click.pass_obj
def ps_command(settings: Settings) -> None:
    """List the models in memory, node by node."""
    from sollold.ctl import inventory

    inventory.loaded(start.session(settings))


@click.command(
    "models",
    cls=Command,
    examples=(
        "sollolctl models",
        "sollolctl models llama3.1:8b",
        "sollolctl models --filter node=gpu-2 --wide",
    ),
)
@click.argument(
    "model",
    required=False,
    shell_complete=model_names,
    help="A model's name as clients say it, or the start of one.",
)
@click.pass_obj
def models_command(settings: Settings, model: str | None) -> None:
    """List models, where they are and who would serve them; with a name, one."""
    from sollold.ctl import inventory

    session = start.session(settings)
    if model is None:
        inventory.models(session)
    else:
        inventory.model(session, model)


@click.command(
    "check",
    cls=Command,
    examples=(
        "sollolctl check",
        "sollolctl check --model llama3.1:8b",
        "sollolctl check --node gpu-2",
    ),
)
@click.option("--node", shell_complete=node_names, help="Whether this node serves.")
@click.option("--model", shell_complete=model_names, help="Whether this model is served.")
@click.pass_obj
def check_command(settings: Settings, node: str | None, model: str | None) -> int:
    """Print one word for scripts: ok (exit 0), degraded (5) or cannot_serve (6)."""
    from sollold.ctl import verdict

    return verdict.check(start.session(settings), node=node, model=model)
