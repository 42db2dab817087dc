"""The daemon's configuration: reading, checking, comparing.

Owns every key's name, type and default. Must not start anything or keep what it has read.
"""

from sollold.config.address import Address, NodeUrl, parse_listen, parse_node_url
from sollold.config.check import points_at, validate
from sollold.config.decode import Origin, Problem, UnusableConfig
from sollold.config.diff import Change, ConfigDiff, diff, with_live
from sollold.config.load import LoadArgs, LoadedConfig, load
from sollold.config.node import Node
from sollold.config.schema import (
    LAN_CONSENT,
    Config,
    Discovery,
    Failover,
    Health,
    Http,
    Limits,
    Listen,
    Loads,
    Log,
    Metrics,
    Queue,
    Replies,
    Routing,
    Server,
    Weights,
)
from sollold.config.sources import Flags

__all__ = [
    "LAN_CONSENT",
    "Address",
    "Change",
    "Config",
    "ConfigDiff",
    "Discovery",
    "Failover",
    "Flags",
    "Health",
    "Http",
    "Limits",
    "Listen",
    "LoadArgs",
    "LoadedConfig",
    "Loads",
    "Log",
    "Metrics",
    "Node",
    "NodeUrl",
    "Origin",
    "Problem",
    "Queue",
    "Replies",
    "Routing",
    "Server",
    "UnusableConfig",
    "Weights",
    "diff",
    "load",
    "parse_listen",
    "parse_node_url",
    "points_at",
    "validate",
    "with_live",
]
