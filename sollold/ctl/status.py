"""The words of `sollolctl status`: one screen, problems first."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sollold.ctl.screen import pad, width_of
from sollold.words import figures as words
from sollold.words.states import DAEMON_WORDS, glyph_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sollold.api_types import (
        ConfigInfo,
        CoordinatorSummary,
        Outcomes,
        Problem,
        RequestCounts,
        StatusDocument,
    )
    from sollold.ctl.screen import Screen

LABEL_WIDTH = 13
"""Column at which values start, two blanks before the label included."""

_HINT_WIDTH = 18
_UPTIME_END = 63
_MAX_PROBLEMS = 5
_TWO_STEPS_WIDTH = 80


def status_lines(
    status: StatusDocument, screen: Screen, zone: tzinfo | None, *, is_wide: bool = False
) -> list[str]:
    """Return the whole screen."""
    lines = [_head(status, screen)]
    if status.nodes.total == 0:
        lines += _nothing_found(status)
        return lines
    lines += _problems(status.problems, screen)
    lines += [
        f"  {pad(label, LABEL_WIDTH - 2)}{text}" for label, text in _facts(status, screen, zone)
    ]
    if is_wide:
        lines += [f"  {pad(label, LABEL_WIDTH - 2)}{text}" for label, text in _more_facts(status)]
    return lines


def ageless(status: StatusDocument) -> StatusDocument:
    """Return the document with all ages at zero, so that time alone changes nothing."""
    config = status.config
    return replace(
        status,
        uptime_ms=0,
        requests=replace(status.requests, oldest_ms=None),
        problems=tuple(replace(item, since_ms=0) for item in status.problems),
        coordinators=tuple(replace(item, uptime_ms=None) for item in status.coordinators or ()),
        config=None if config is None else replace(config, loaded_ms=None),
    )


def short_line(status: StatusDocument) -> str:
    """Return the line for tmux and status bars."""
    nodes, requests = status.nodes, status.requests
    parts = [
        f"sollold {status.state.replace('_', ' ')}",
        f"{nodes.up + nodes.slow}/{nodes.total} nodes",
        f"{requests.running} run",
        f"{requests.queued} queue",
    ]
    if status.speed.first_token_p95_ms is not None:
        parts.append(f"p95 {words.compact(status.speed.first_token_p95_ms)}")
    return " ".join(parts)


def hint_line(label: str, text: str) -> str:
    """Return one line of advice under a message."""
    return f"  {pad(label, _HINT_WIDTH - 2)}{text}" if label else f"  {text}"


def _head(status: StatusDocument, screen: Screen) -> str:
    state = glyph_state(status)
    text = DAEMON_WORDS.get(status.state, status.state)
    if status.reason is not None and status.state not in {"serving", "degraded"}:
        text += f": {status.reason.text}"
    left = f"{screen.glyph(state)} sollold {status.version}  {text}"
    up = f"up {words.uptime(status.uptime_ms)}"
    blanks = " " * max(2, _UPTIME_END - width_of(left) - len(up))
    painted = screen.paint(left[:1], state) + left[1:]
    return f"{painted}{blanks}{up}  pid {status.pid}"


def _nothing_found(status: StatusDocument) -> Iterator[str]:
    if status.looked_at:
        yield hint_line("looked at", "; ".join(item.text for item in status.looked_at))
    path = status.config.path if status.config is not None else None
    where = f"[[nodes]] in {_home(path)}" if path else "sollold --node http://HOST:PORT"
    yield hint_line("add one", where)
    yield hint_line("watch", "sollolctl logs -f")


def _problems(problems: tuple[Problem, ...], screen: Screen) -> Iterator[str]:
    shown = problems[:_MAX_PROBLEMS] if screen.is_terminal else problems
    states = [f"{item.state} {words.age(item.since_ms)}" for item in shown]
    name_width = max(7, *(width_of(item.subject) for item in shown)) if shown else 7
    state_width = max(9, *map(len, states)) if states else 9
    for item, text in zip(shown, states, strict=True):
        mark = screen.paint(screen.glyph(item.state), item.state)
        subject, state = pad(item.subject, name_width), pad(text, state_width)
        yield f"  {mark} {subject}  {state}  {item.reason.text}"
    if len(problems) > len(shown):
        yield f"    and {len(problems) - len(shown)} more"
    if problems:
        yield from _next_steps(problems)


def _next_steps(problems: tuple[Problem, ...]) -> Iterator[str]:
    nodes = [item for item in problems if item.kind == "node"]
    if not nodes:
        return
    answering = next((item for item in nodes if item.state != "down"), nodes[0])
    silent = next((item for item in nodes if item.state == "down"), nodes[0])
    look, read = f"sollolctl nodes {answering.subject}", f"sollolctl logs --node {silent.subject}"
    label, indent = f"    {pad('more:', LABEL_WIDTH - 4)}", " " * LABEL_WIDTH
    line = f"{label}{pad(look, 25)}  {read}"
    if width_of(line) <= _TWO_STEPS_WIDTH:
        yield line
    else:
        yield label + look
        yield indent + read


def _facts(
    status: StatusDocument, screen: Screen, zone: tzinfo | None
) -> Iterator[tuple[str, str]]:
    if status.addresses.api:
        console = status.addresses.console
        dashboard = f"  (dashboard {console[0]})" if console else ""
        yield "Address", ", ".join(status.addresses.api) + dashboard
    yield "Nodes", f"{status.nodes.total}: {words.by_state(status.nodes)}"
    models = status.models
    on_nodes = f" on {words.plural(models.loaded_nodes, 'node')}" if models.loaded else ""
    yield "Models", f"{models.known} known, {models.loaded} loaded{on_nodes}"
    yield "Requests", _requests(status.requests, status.recent, screen.width)
    speed = _speed(status)
    if speed:
        yield "Speed", speed
    for coordinator in status.coordinators or ():
        yield "llama", _coordinator(coordinator)
    now = words.moment(status.at) or datetime.now(UTC)
    history = _history(status, now, zone)
    if history:
        yield "History", history
    if status.config is not None:
        yield from _config(status.config)


def _config(config: ConfigInfo) -> Iterator[tuple[str, str]]:
    path, loaded = config.path, config.loaded_ms
    when = "" if loaded is None else f", loaded {words.age(loaded)} ago"
    yield "Config", _home(path) + when if path else "defaults, no file"
    if config.waiting:
        yield "", f"a restart is needed for {', '.join(config.waiting)}"
    if config.refused:
        yield "", f"not reloaded: {config.refused}"
        yield "", "all of it: sollolctl config check"


def _more_facts(status: StatusDocument) -> Iterator[tuple[str, str]]:
    if status.addresses.control:
        yield "Control", f"unix:{status.addresses.control}"
    if status.instance_id:
        yield "Instance", status.instance_id
    if status.loop:
        yield "Loop", status.loop
    for item in status.looked_at or ():
        yield "Looked at", item.text


def _requests(requests: RequestCounts, recent: Outcomes | None, width: int | None) -> str:
    oldest = requests.oldest_ms
    wait = f" (oldest {words.waited(oldest)})" if requests.queued and oldest is not None else ""
    now = f"{requests.running} running, {requests.queued} queued{wait}"
    if recent is None:
        return now
    text = f"{now};  {recent.window_ms / 60_000:.0f} min: {recent.ok} ok"
    text += f", {recent.failed_over} failed over"
    failed = f", {recent.failed} failed"
    # On a narrow terminal a zero is worth less than the whole line on one row.
    is_too_long = width is not None and LABEL_WIDTH + len(text + failed) > width
    return text if is_too_long and not recent.failed else text + failed


def _speed(status: StatusDocument) -> str:
    speed = status.speed
    first = [
        f"{name} {words.duration(value)}"
        for name, value in (("p50", speed.first_token_p50_ms), ("p95", speed.first_token_p95_ms))
        if value is not None
    ]
    parts = [f"first token {', '.join(first)}"] if first else []
    if speed.tokens_per_s is not None:
        parts.append(f"{words.rate(speed.tokens_per_s)} tokens/s typical")
    return ";  ".join(parts)


def _coordinator(item: CoordinatorSummary) -> str:
    text = f"{item.state}: {item.model}" if item.model else item.state
    if item.rpc_backends:
        text += f" over {', '.join(item.rpc_backends)}"
    details = [f"port {item.port}"] if item.port is not None else []
    details += [] if item.uptime_ms is None else [f"up {words.uptime(item.uptime_ms)}"]
    text += f" ({', '.join(details)})" if details else ""
    return text if item.reason is None else f"{text}: {item.reason.text}"


def _history(status: StatusDocument, now: datetime, zone: tzinfo | None) -> str:
    parts = []
    history = status.history
    if history is not None:
        since = words.moment(history.since)
        when = f" since {words.day_or_time(since, now, zone)}" if since is not None else ""
        parts.append(f"{history.place}, {words.plural(history.events, 'event')}{when}")
    if status.not_configured:
        parts.append(f"{', '.join(status.not_configured)} not configured")
    return ";  ".join(parts)


def _home(path: str) -> str:
    home = str(Path.home())
    return "~" + path.removeprefix(home) if path.startswith(home + "/") else path
