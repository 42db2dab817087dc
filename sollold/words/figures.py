"""Numbers, ages and sizes in words. What is not known is `-`."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sollold.api_models import LoadedCopy
    from sollold.api_types import LoadedModel, NodeCounts

UNKNOWN = "-"

_STATES = ("up", "slow", "draining", "down", "unknown")
_KINDS = {"llama_server": "llama", "rpc_backend": "rpc", "coordinator": "coord"}
_SOFTWARE = {
    "llama_server": "llama-server",
    "openai": "OpenAI's API",
    "rpc_backend": "rpc-server",
}
_BACKENDS = {"llama": "llama_server", "coord": "coordinator", "rpc_backend": "rpc"}
FOREVER_S = 50 * 365 * 86400
"""What Ollama calls never is centuries away."""


def duration(ms: float | None) -> str:
    """Return a measured time: `84 ms`, `1.9 s`, `2m 03s`, `3h 12m`, `4d`."""
    if ms is None:
        return UNKNOWN
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 59_950:
        return f"{ms / 1000:.1f} s"
    return _long(ms)


def waited(ms: float | None) -> str:
    """Return how long something has been going on: `31 s`, `2m 03s`."""
    if ms is None:
        return UNKNOWN
    return f"{int(ms / 1000)} s" if ms < 60_000 else _long(ms)


def lasting(ms: float) -> str:
    """Return how long something has lasted, to be read at leisure: `31 s`, `4 min`, `3h 12m`."""
    seconds = max(0, int(ms / 1000))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}h {minutes:02d}m" if hours < 48 else f"{hours // 24}d"


def age(ms: float | None) -> str:
    """Return a rough age in one unit: `1s`, `4m`, `2h`, `3d`."""
    if ms is None:
        return UNKNOWN
    seconds = max(0, int(ms / 1000))
    for unit_s, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= unit_s:
            return f"{seconds // unit_s}{unit}"
    return f"{seconds}s"


def uptime(ms: float | None) -> str:
    """Return an age in up to two units: `20s`, `12m`, `3h 12m`, `3d 4h`."""
    if ms is None:
        return UNKNOWN
    minutes = int(ms / 60_000)
    if minutes < 60:
        return age(ms)
    (big, small), units = (divmod(minutes, 60), "hm")
    if big >= 24:
        (big, small), units = (divmod(big, 24), "dh")
    return f"{big}{units[0]} {small}{units[1]}" if small else f"{big}{units[0]}"


def compact(ms: float) -> str:
    """Return a measured time without a blank, for one-line output: `940ms`, `1.9s`."""
    return duration(ms).replace(" ", "")


def gigabytes(size_bytes: int | None) -> str:
    """Return a size in decimal gigabytes as Ollama prints it: `9.1GB`."""
    return UNKNOWN if size_bytes is None else f"{size_bytes / 1e9:.1f}GB"


def memory(used_bytes: int | None, total_bytes: int | None) -> str:
    """Return used and total memory: `15.9/16.0GB`, or what is known of it."""
    if total_bytes is None:
        return gigabytes(used_bytes)
    used = UNKNOWN if used_bytes is None else f"{used_bytes / 1e9:.1f}"
    return f"{used}/{gigabytes(total_bytes)}"


def processor(model: LoadedModel | LoadedCopy) -> str:
    """Return where a model's memory is, in Ollama's words: `100% GPU`, `40%/60% CPU/GPU`."""
    size, vram = model.size_bytes, model.size_vram_bytes
    if not size or vram is None:
        return UNKNOWN
    if vram >= size:
        return "100% GPU"
    if vram <= 0:
        return "100% CPU"
    on_cpu = round((size - vram) / size * 100)
    return f"{on_cpu}%/{100 - on_cpu}% CPU/GPU"


def rate(per_s: float | None) -> str:
    """Return a rate with one decimal."""
    return UNKNOWN if per_s is None else f"{per_s:.1f}"


def share(fraction: float | None) -> str:
    """Return a share as percent: `99.2%`; only a whole one is `100.0%`."""
    if fraction is None:
        return UNKNOWN
    return f"{min(fraction * 100, 100.0 if fraction >= 1 else 99.9):.1f}%"


def count(number: int | None) -> str:
    """Return a number."""
    return UNKNOWN if number is None else str(number)


def kind(node_kind: str) -> str:
    """Return the short word for a kind of node."""
    return _KINDS.get(node_kind, node_kind)


def software(node_kind: str) -> str:
    """Return what a node of a kind runs, or speaks where that is all one knows."""
    return _SOFTWARE.get(node_kind, node_kind)


def backend(word: str) -> str:
    """Return the word that events have for a kind of node, however lists put it."""
    return _BACKENDS.get(word, word)


def by_state(counts: NodeCounts) -> str:
    """Return the states that occur, best first: `5 up, 1 draining`."""
    pairs = ((getattr(counts, state), state) for state in _STATES)
    return ", ".join(f"{number} {state}" for number, state in pairs if number)


def plural(number: int, noun: str) -> str:
    """Return a count with its noun: `1 node`, `6 nodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def moment(text: str | None) -> datetime | None:
    """Return the time an RFC 3339 text names; None when it names none."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def day_or_time(at: datetime, now: datetime, zone: tzinfo | None) -> str:
    """Return `09:14` for a time of today, else `14 Nov`, else `14 Nov 2025`."""
    at, now = at.astimezone(zone), now.astimezone(zone)
    if at.date() == now.date():
        return f"{at:%H:%M}"
    return f"{at.day} {at:%b}" if at.year == now.year else f"{at.day} {at:%b} {at.year}"


def left_until(expires_at: str | None, now: datetime) -> str:
    """Return how long a loaded model stays: `4m left`, `stays`, or `unloading`."""
    end = moment(expires_at)
    if end is None:
        return UNKNOWN
    seconds = (end - now).total_seconds()
    if seconds > FOREVER_S:
        return "stays"
    return f"{age(seconds * 1000)} left" if seconds > 0 else "unloading"


def _long(ms: float) -> str:
    minutes, seconds = divmod(round(ms / 1000), 60)
    if minutes < 60:
        return f"{minutes}m {seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours < 24 else f"{hours // 24}d"
