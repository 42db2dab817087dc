"""The command `logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sollold.ctl import start
from sollold.ctl.complete import model_names, node_names, request_ids
from sollold.ctl.options import Command, Settings

if TYPE_CHECKING:
    from sollold.ctl.session import Session


@click.command(
    "logs",
    cls=Command,
    examples=(
        "sollolctl logs -f --kind failover,node",
        "sollolctl logs --since 10m --request r-7f3c",
        "sollolctl logs --daemon -f --level warning",
    ),
)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=50,
    metavar="COUNT",
    help="How many of the last ones. Default: 50.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens next.")
@click.option("--since", metavar="TIME", help="From then on: 10m, 09:14 or 2026-11-21T09:14.")
@click.option("--until", metavar="TIME", help="Up to then.")
@click.option("--model", multiple=True, shell_complete=model_names, help="Only this model.")
@click.option("--backend", multiple=True, help="Only this kind of node, such as ollama or llama.")
@click.option("--node", multiple=True, shell_complete=node_names, help="Only this node.")
@click.option(
    "--event-type",
    "--kind",
    "event_type",
    multiple=True,
    help="Only this type, such as ROUTE_DECISION, or this kind, such as route.",
)
@click.option("--instance", multiple=True, help="Only this daemon's events.")
@click.option(
    "--request",
    multiple=True,
    shell_complete=request_ids,
    help="Only this request; r-... may be short.",
)
@click.option("--grep", metavar="TEXT", help="Only lines with this text, in either case.")
@click.option("--daemon", "is_daemon", is_flag=True, help="The daemon's own log instead.")
@click.option("--level", metavar="LEVEL", help="With --daemon: this level and above.")
@click.option("--source", metavar="NAME", help="With --daemon: only this part, as sollold.nodes.")
@click.pass_obj
def logs_command(
    settings: Settings,
    /,
    lines: int,
    follow: bool,
    grep: str | None,
    is_daemon: bool,
    **filters: Any,
) -> None:
    """Show routing decisions and what changed, oldest first."""
    session = start.session(settings)
    session.refuse_watch()
    of_daemon = {name: filters.pop(name) for name in ("level", "source")}
    if is_daemon:
        of_daemon["since"] = filters.pop("since")
        _refuse(filters, "with --daemon")
        _daemon_log(session, {"n": lines, "grep": grep or None, **of_daemon}, is_follow=follow)
        return
    _refuse(of_daemon, "without --daemon")
    from sollold.ctl import events

    since, until = filters.pop("since"), filters.pop("until")
    query = events.log_query(session, filters, count=lines, since=since, until=until, grep=grep)
    (events.follow if follow else events.logs)(session, query)


def _daemon_log(session: Session, wanted: dict[str, Any], *, is_follow: bool) -> None:
    from sollold.ctl import daemon_log
    from sollold.ctl.logs import query_time

    _refuse({"filter": session.settings.filters}, "with --daemon")
    if wanted["since"] is not None:
        wanted["since"] = query_time(wanted["since"], session.now(), session.zone)
    query = {name: str(value) for name, value in wanted.items() if value is not None}
    (daemon_log.follow if is_follow else daemon_log.logs)(session, query)


def _refuse(options: dict[str, Any], why: str) -> None:
    for name, value in options.items():
        if value:
            raise click.UsageError(f"--{name.replace('_', '-')} has no meaning {why}")
