"""What this daemon is: where it listens, what it was started with, what it looks at."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from sollold import api_types
from sollold.config import Address

if TYPE_CHECKING:
    import asyncio

    from sollold.config import Config, LoadedConfig


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """Where the daemon listens, as bound."""

    api: tuple[tuple[str, int], ...]
    console: tuple[tuple[str, int], ...]
    control: str | None = None


class DaemonFacts:
    """What this daemon is, where its configuration comes from, and whether it is stopping."""

    def __init__(
        self,
        *,
        addresses: api_types.Addresses,
        config_path: str | None,
        instance: str,
        loop_name: str,
        pid: int,
        started_s: float,
        looked_at: tuple[api_types.LookedAt, ...] = (),
        not_configured: tuple[str, ...] = (),
    ) -> None:
        self.looked_at = looked_at
        self.not_configured = not_configured
        self.addresses = addresses
        self.config_path = config_path
        self.instance = instance
        self.loop_name = loop_name
        self.pid = pid
        self.started_s = started_s
        self.is_stopping = False
        self.loaded_s = started_s
        """When the configuration in force was read."""
        self.waiting: tuple[str, ...] = ()
        """Keys that were changed and take effect at the next start."""
        self.refusal = ""
        """What is wrong with the configuration as it was read last; empty: nothing."""

    def reloaded(self, loaded: LoadedConfig, waiting: tuple[str, ...]) -> None:
        """Note another configuration. No await."""
        self.config_path = _path(loaded)
        self.looked_at = _looked_at(loaded.config)
        self.loaded_s = time.monotonic()
        self.waiting, self.refusal = waiting, ""

    def refused(self, text: str) -> None:
        """Note that the configuration cannot be used any more as it is written. No await."""
        self.refusal = text


def gather(
    loaded: LoadedConfig, bound: Bound, instance: str, loop: asyncio.AbstractEventLoop
) -> DaemonFacts:
    """Return what is known once the listeners are bound."""
    config = loaded.config
    return DaemonFacts(
        addresses=api_types.Addresses(
            api=tuple(f"http://{Address(*item)}" for item in bound.api),
            console=tuple(f"http://{Address(*item)}" for item in bound.console),
            control=bound.control,
        ),
        config_path=_path(loaded),
        instance=instance,
        loop_name="uvloop" if type(loop).__module__.startswith("uvloop") else "asyncio",
        pid=os.getpid(),
        started_s=time.monotonic(),
        looked_at=_looked_at(config),
    )


def _path(loaded: LoadedConfig) -> str | None:
    return str(loaded.files[-1]) if loaded.files else None


def _looked_at(config: Config) -> tuple[api_types.LookedAt, ...]:
    looked = [api_types.LookedAt(source="config", text=f"{len(config.nodes)} nodes configured")]
    if config.discovery.enabled and config.discovery.local:
        looked.append(api_types.LookedAt(source="localhost", text="127.0.0.1:11434"))
    if config.discovery.enabled and config.discovery.ollama_host:
        text = config.discovery.ollama_host
        looked.append(api_types.LookedAt(source="OLLAMA_HOST", text=text))
    return tuple(looked)
