"""Every configuration key: name, type, default, bounds, one-line description.

Owns the structs, nothing else: no reading, no checks between keys. `etc/sollold.toml` and
`docs/configuration.md` are rendered from here.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sollold.config.address import Address, parse_listen
from sollold.config.meta import key as _key
from sollold.config.node import Node

LAN_CONSENT = "anyone on this network may use it"
"""What `listen.lan_without_keys` has to say."""

KIB = 1024
MIB = 1024 * KIB


class Listen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where clients connect."""

    api: Annotated[
        tuple[str, ...],
        _key(
            "Where Ollama and OpenAI clients connect: one address or a list. Port 0: any free one."
        ),
    ] = ("127.0.0.1:11434",)
    console: Annotated[
        tuple[str, ...],
        _key("Where browsers find the dashboard: one address or a list; [] for none."),
    ] = ("127.0.0.1:8080",)
    control: Annotated[
        bool | str,
        _key(
            "Unix socket for sollolctl: true (in the runtime directory), false, or a path.",
            path=True,
        ),
    ] = True
    allowed_hosts: Annotated[
        tuple[str, ...],
        _key(
            "Further names for a request's Host header, behind proxies.",
            live=True,
            example='["ai.example.org"]',
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        _key(
            "Addresses or networks whose X-Forwarded-For is believed.",
            live=True,
            example='["192.168.1.2", "10.0.0.0/8"]',
        ),
    ] = ()
    lan_without_keys: Annotated[
        str,
        _key(
            "Sentence that allows listening beyond this machine.",
            example=f'"{LAN_CONSENT}"',
        ),
    ] = ""

    def api_addresses(self) -> tuple[Address, ...]:
        """Return the addresses of the API listener."""
        return tuple(parse_listen(text) for text in self.api)

    def console_addresses(self) -> tuple[Address, ...]:
        """Return the addresses of the console listener."""
        return tuple(parse_listen(text) for text in self.console)


class Discovery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where nodes are looked for besides `[[nodes]]`."""

    enabled: Annotated[bool, _key("Look for nodes that are not configured.", live=True)] = True
    local: Annotated[bool, _key("Look for an Ollama on this machine.", live=True)] = True
    ollama_host: Annotated[
        str,
        _key(
            "One more Ollama to look at; default: OLLAMA_HOST.",
            live=True,
            example='"192.168.1.22"',
        ),
    ] = ""
    hosts_file: Annotated[
        str,
        _key(
            "File with one host[:port] per line, each a node as if in [[nodes]].",
            live=True,
            path=True,
            example='"hosts"',
        ),
    ] = ""


class Weights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each term of a node's expected cost in seconds is multiplied with."""

    wait: Annotated[float, _key("Waiting for a free slot.", live=True, ge=0)] = 1.0
    load: Annotated[float, _key("Loading the model.", live=True, ge=0)] = 1.0
    swap: Annotated[float, _key("Pushing another model out of memory.", live=True, ge=0)] = 1.0
    foreign: Annotated[float, _key("Work of others on the same node.", live=True, ge=0)] = 1.0
    prefill: Annotated[float, _key("Reading the prompt.", live=True, ge=0)] = 1.0
    decode: Annotated[float, _key("Producing the answer.", live=True, ge=0)] = 1.0
    risk: Annotated[float, _key("Repeating the work after a likely failure.", live=True, ge=0)] = (
        1.0
    )
    tier: Annotated[float, _key("A node tier below the best.", live=True, ge=0)] = 1.0


class Routing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a node is chosen."""

    strategy: Annotated[
        Literal["intelligent"],
        _key("intelligent: least expected cost in seconds.", live=True),
    ] = "intelligent"
    weights: Weights = Weights()


class Queue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests that wait for a node."""

    length: Annotated[int, _key("Requests that may wait.", live=True, ge=1)] = 512
    look_ahead: Annotated[
        int, _key("Waiting requests considered in one round.", live=True, ge=1)
    ] = 64
    max_wait_s: Annotated[float, _key("Longest wait; 0: no limit.", live=True, ge=0)] = 0.0
    holder_down_s: Annotated[
        float,
        _key("How long to wait for a node that holds the model and is down.", live=True, ge=0),
    ] = 10.0
    age_step_s: Annotated[
        float, _key("Waiting that raises a request's priority by one.", live=True, gt=0)
    ] = 10.0
    per_client_running: Annotated[
        int, _key("Running requests one client may have; 0: no limit.", live=True, ge=0)
    ] = 0
    per_client_waiting: Annotated[
        int, _key("Waiting requests one client may have; 0: no limit.", live=True, ge=0)
    ] = 0


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on memory and on patience with clients."""

    body_bytes: Annotated[int, _key("Largest request body.", ge=KIB)] = 256 * MIB
    bodies_bytes: Annotated[
        int, _key("Memory for all request bodies; more goes to files in spool_dir.", ge=KIB)
    ] = 512 * MIB
    spool_dir: Annotated[
        str,
        _key(
            "Where bodies without room in memory go; default: the temporary directory.",
            path=True,
            example='"/var/tmp"',
        ),
    ] = ""
    client_spool_bytes: Annotated[
        int, _key("Held for a slow client before its node is paused.", live=True, ge=KIB)
    ] = 4 * MIB
    client_stall_s: Annotated[
        float, _key("A client that takes nothing for so long is cut.", live=True, gt=0)
    ] = 120.0
    held_bytes: Annotated[
        int,
        _key("Held of a non-streamed answer so that failover stays possible.", live=True, ge=KIB),
    ] = 16 * MIB


class Failover(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to requests when a node fails."""

    attempts: Annotated[
        int, _key("Nodes that may work on one request, one after the other.", live=True, ge=1)
    ] = 2
    overdue_s: Annotated[
        float, _key("Lateness of a first byte that has the node probed.", live=True, gt=0)
    ] = 1.0
    frozen_idle_s: Annotated[
        float, _key("Silence after which a stream on a frozen node is ended.", live=True, gt=0)
    ] = 20.0
    progress_s: Annotated[
        float, _key("Least time without progress before an attempt is given up.", live=True, gt=0)
    ] = 600.0


class Loads(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models being loaded into a node's memory."""

    on_client_gone: Annotated[
        Literal["finish", "cancel"],
        _key("finish: a load survives the client that caused it; cancel: it does not.", live=True),
    ] = "finish"
    limit_s: Annotated[float, _key("Longest load.", live=True, gt=0)] = 600.0


class Health(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How nodes are watched."""

    interval_s: Annotated[float, _key("Between two probes of a node.", live=True, gt=0)] = 5.0
    timeout_s: Annotated[float, _key("How long a probe may take.", live=True, gt=0)] = 2.0
    backoff_max_s: Annotated[
        float, _key("Longest pause between probes of a node that is down.", live=True, gt=0)
    ] = 30.0
    eject_after: Annotated[
        int, _key("Failed requests in a row after which a node is left out.", live=True, ge=1)
    ] = 3
    eject_s: Annotated[
        float, _key("How long a node is left out, the first time.", live=True, gt=0)
    ] = 5.0
    eject_max_s: Annotated[
        float, _key("How long a node is left out, at most.", live=True, gt=0)
    ] = 60.0
    catalogue_s: Annotated[
        float, _key("Between two looks at a node's list of models.", live=True, gt=0)
    ] = 30.0


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The process."""

    drain_s: Annotated[
        float, _key("How long running requests may finish when the daemon stops.", ge=0)
    ] = 30.0
    cancel_after_s: Annotated[
        float, _key("How long the rest may take after that; spent up to twice.", gt=0)
    ] = 5.0
    loop: Annotated[
        Literal["auto", "asyncio", "uvloop"],
        _key("Event loop; auto: uvloop when installed."),
    ] = "auto"


class Http(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What browsers and clients are told."""

    origins: Annotated[
        tuple[str, ...],
        _key(
            "Further origins of web pages; default: OLLAMA_ORIGINS.",
            live=True,
            example='["https://chat.example.org"]',
        ),
    ] = ()
    version_floor: Annotated[
        str, _key("Ollama version to report while no node's version is known.", live=True)
    ] = "0.33.0"


class Replies(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is added to answers."""

    routing: Annotated[
        Literal["headers", "body"],
        _key("Routing data in headers only, or also as _sollol_routing in the body.", live=True),
    ] = "headers"


class Metrics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prometheus."""

    enabled: Annotated[bool, _key("Serve /metrics.")] = True
    listen: Annotated[
        tuple[str, ...],
        _key("A further address for /metrics alone, or a list.", example='"127.0.0.1:9090"'),
    ] = ()

    def addresses(self) -> tuple[Address, ...]:
        """Return the addresses of the metrics listener."""
        return tuple(parse_listen(text) for text in self.listen)


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], _key("Least important lines.", live=True)
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json", "journal"],
        _key("auto: journal under systemd, else text."),
    ] = "auto"
    requests: Annotated[bool, _key("One line per finished inference request.", live=True)] = True
    routing: Annotated[
        bool,
        _key(
            "Keep and send the steps of every request as events; else only how it ended.",
            live=True,
        ),
    ] = True
    routing_console: Annotated[bool, _key("One line per routing decision, too.", live=True)] = False


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration: an immutable value, replaced as a whole."""

    listen: Listen = Listen()
    nodes: Annotated[tuple[Node, ...], _key("Nodes to use besides those found.", live=True)] = ()
    discovery: Discovery = Discovery()
    routing: Routing = Routing()
    queue: Queue = Queue()
    limits: Limits = Limits()
    failover: Failover = Failover()
    loads: Loads = Loads()
    health: Health = Health()
    server: Server = Server()
    http: Http = Http()
    replies: Replies = Replies()
    metrics: Metrics = Metrics()
    log: Log = Log()


NOT_YET: dict[tuple[str, ...], str] = {
    ("redis",): "this version does not use Redis",
    ("rpc_backends",): "this version does not run models over RPC backends",
    ("rpc_backend",): "this version does not start RPC backends",
    ("coordinator",): "this version does not start coordinators",
    ("models",): "this version has no model aliases",
    ("alerts",): "this version sends no alerts",
    ("discovery", "mdns"): "this version does not look for nodes by mDNS",
    ("discovery", "sweep"): "this version does not sweep the network for nodes",
    ("discovery", "admit"): "this version has no admission of found nodes",
    ("routing", "mode"): "this version has one mode, Ollama nodes and llama.cpp servers",
    ("failover", "resume"): "this version does not resume a cut stream on another node",
    ("listen", "keys"): "this version has no API keys",
}
"""Names people know from elsewhere that would do nothing here; they are refused, not ignored."""
