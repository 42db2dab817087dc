"""Flags, variables and fields of the predecessor `sollol`: what each becomes here.

Owns the names and the sentences, no behaviour. `docs/migration.md` is rendered from here.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Fate = Literal["taken", "no effect", "refused"]
"""Refused is what would mislead if it were passed over."""

_ONE_PROCESS = "one process does all the work, there are no workers to count"
_NO_BATCH = "this version has no batch jobs"
_NO_REDIS = "this version does not use Redis"
_NO_RPC = "this version does not run models over RPC backends"
_NO_COORDINATOR = "this version does not start coordinators"
_NO_SAMPLING = "every decision is an event, and the last 10,000 are kept"
_NO_INFLUX = "figures are served to Prometheus at /metrics"
_OWN_LIMITS = "a node is known to be dead when it is; failover.progress_s bounds silence"


class Word(msgspec.Struct, frozen=True):
    """One name of the predecessor."""

    name: str
    fate: Fate
    text: str
    """What it does here; or why it does nothing, and what to use."""
    key: str = ""
    """The key that it sets, or that stands in its place."""


class Flag(Word, frozen=True):
    """A flag of `sollol up`, or of its documentation."""

    metavar: str = ""
    """What follows it; a switch has none."""


FLAGS: tuple[Flag, ...] = (
    Flag("--hosts", "taken", "file with one host[:port] per line", "discovery.hosts_file", "FILE"),
    Flag("--port", "taken", "port of the API addresses, which stay", "listen.api", "PORT"),
    Flag("--ollama-nodes", "taken", "nodes, separated by commas", "nodes", "LIST"),
    Flag("--host", "refused", "use --listen HOST:PORT", "listen.api", "HOST"),
    Flag("--redis-url", "refused", f"{_NO_REDIS}; leave it out, nothing needs it", "", "URL"),
    Flag("--redis-host", "refused", f"{_NO_REDIS}; leave it out, nothing needs it", "", "HOST"),
    Flag("--redis-port", "refused", f"{_NO_REDIS}; leave it out, nothing needs it", "", "PORT"),
    Flag("--rpc-backends", "refused", f"{_NO_RPC}; leave it out", "", "LIST"),
    Flag("--workers", "no effect", _ONE_PROCESS, "", "N"),
    Flag("--ray-workers", "no effect", _ONE_PROCESS, "", "N"),
    Flag("--dask-workers", "no effect", _ONE_PROCESS, "", "N"),
    Flag(
        "--dask-scheduler",
        "refused",
        "no cluster is used, this daemon spreads the requests over the nodes itself; leave it out",
        "",
        "ADDRESS",
    ),
    Flag(
        "--batch-processing",
        "refused",
        f"{_NO_BATCH}; send lists of inputs to /api/embed, and leave it out",
    ),
    Flag("--no-batch-processing", "no effect", _NO_BATCH),
    Flag(
        "--autobatch",
        "refused",
        f"{_NO_BATCH}; send lists of inputs to /api/embed, and leave it out",
    ),
    Flag("--no-autobatch", "no effect", _NO_BATCH),
    Flag("--autobatch-interval", "no effect", _NO_BATCH, "", "SECONDS"),
    Flag("--adaptive-metrics", "no effect", "speeds are always learned"),
    Flag(
        "--no-adaptive-metrics",
        "refused",
        "speeds are always learned; the weights say what they count",
        "routing.weights.decode",
    ),
    Flag(
        "--adaptive-metrics-interval",
        "no effect",
        "speeds are learned from every answer, not at intervals",
        "",
        "SECONDS",
    ),
    Flag("--setup-gpu-monitoring", "no effect", "nothing has to be installed on nodes"),
    Flag("--no-setup-gpu-monitoring", "no effect", "nothing has to be installed on nodes"),
)

COMMANDS: tuple[Word, ...] = (
    Word("up", "taken", "starts the daemon, as no word at all does"),
    Word("down", "refused", "stop it with Ctrl-C, or: systemctl --user stop sollold"),
    Word("status", "refused", "use: sollolctl status"),
    Word("install-gpu-reporter", "refused", "nothing has to be installed on nodes"),
)

VARIABLES: tuple[Word, ...] = (
    Word(
        "SOLLOL_ROUTING_LOG",
        "taken",
        "false keeps the steps of requests out of the events",
        "log.routing",
    ),
    Word(
        "SOLLOL_ROUTING_LOG_CONSOLE",
        "taken",
        "true writes every routing decision to the log",
        "log.routing_console",
    ),
    Word("SOLLOL_REDIS_URL", "no effect", _NO_REDIS),
    Word("SOLLOL_PORT", "no effect", "use --port or SOLLOLD_LISTEN__API", "listen.api"),
    Word("OLLAMA_NODES", "no effect", "use --ollama-nodes or SOLLOLD_NODES", "nodes"),
    Word("RPC_BACKENDS", "no effect", _NO_RPC),
    Word("SOLLOL_RAY_WORKERS", "no effect", _ONE_PROCESS),
    Word("SOLLOL_DASK_WORKERS", "no effect", _ONE_PROCESS),
    Word("SOLLOL_BATCH_PROCESSING", "no effect", _NO_BATCH),
    Word("SOLLOL_AUTOBATCH_INTERVAL", "no effect", _NO_BATCH),
    Word("SOLLOL_USE_REDIS_CACHE", "no effect", "answers are never kept for another request"),
    Word(
        "SOLLOL_GLOBAL_RATE_LIMIT",
        "no effect",
        "use queue.length and queue.per_client_running",
        "queue.length",
    ),
    Word("SOLLOL_PER_NODE_RATE_LIMIT", "no effect", "use slots of the node", "nodes"),
    Word("SOLLOL_MAX_RETRIES", "no effect", "use failover.attempts", "failover.attempts"),
    Word("SOLLOL_SHUTDOWN_TIMEOUT", "no effect", "use server.drain_s", "server.drain_s"),
    Word("SOLLOL_CHAT_TIMEOUT", "no effect", _OWN_LIMITS, "failover.progress_s"),
    Word("SOLLOL_GENERATE_TIMEOUT", "no effect", _OWN_LIMITS, "failover.progress_s"),
    Word("SOLLOL_EMBED_TIMEOUT", "no effect", _OWN_LIMITS, "failover.progress_s"),
    Word("SOLLOL_MIN_VRAM_MB", "no effect", "memory is judged by what nodes were seen to load"),
    Word("SOLLOL_DASHBOARD", "no effect", "use listen.console; [] for none", "listen.console"),
    Word("SOLLOL_DASHBOARD_PORT", "no effect", "use --console ADDR", "listen.console"),
    Word("SOLLOL_DASHBOARD_DASK", "no effect", "no cluster is used"),
    Word("SOLLOL_OBSERVER_SAMPLING", "no effect", _NO_SAMPLING),
    Word("SOLLOL_OBSERVER_SAMPLE_RATE", "no effect", _NO_SAMPLING),
    Word("SOLLOL_OBSERVER_MAX_EVENTS", "no effect", _NO_SAMPLING),
    Word("SOLLOL_OBSERVER_BATCH_SIZE", "no effect", _NO_SAMPLING),
    Word("SOLLOL_OBSERVER_BATCH_TIMEOUT", "no effect", _NO_SAMPLING),
    Word("SOLLOL_RPC_HEARTBEAT_INTERVAL", "no effect", _NO_RPC),
    Word("SOLLOL_RPC_BACKEND_HEARTBEAT", "no effect", _NO_RPC),
    Word("SOLLOL_RPC_BACKEND_HEARTBEAT_INTERVAL", "no effect", _NO_RPC),
    Word("SOLLOL_HEALTH_CHECK_TIMEOUT", "no effect", "use health.timeout_s", "health.timeout_s"),
    Word("SOLLOL_MAX_HEALTH_FAILURES", "no effect", "use health.eject_after", "health.eject_after"),
    Word("SOLLOL_MAX_RESTARTS", "no effect", _NO_COORDINATOR),
    Word("SOLLOL_DEBUG_COORDINATOR_RECOVERY", "no effect", _NO_COORDINATOR),
    Word("SOLLOL_CTX_SIZE", "no effect", _NO_COORDINATOR),
    Word("SOLLOL_COORDINATOR_HOST", "no effect", _NO_COORDINATOR),
    Word("SOLLOL_COORDINATOR_PORT", "no effect", _NO_COORDINATOR),
    Word("SOLLOL_MODEL_PATH", "no effect", _NO_COORDINATOR),
    Word("SOLLOL_APP_NAME", "no effect", "this version keeps no list of applications"),
    Word("SOLLOL_METRICS_BACKEND", "no effect", _NO_INFLUX, "metrics.listen"),
)

GENERIC_VARIABLES = (
    "PORT",
    "RAY_WORKERS",
    "DASK_WORKERS",
    "AUTOBATCH_INTERVAL",
    "INFLUX_URL",
    "INFLUX_TOKEN",
    "INFLUX_ORG",
    "INFLUX_BUCKET",
)
"""The predecessor read these too; other programs mean something else by them: not looked at."""

FIELDS: tuple[Word, ...] = (
    Word("hosts", "taken", "[[nodes]], or a hosts file", "nodes"),
    Word("gateway_port, gateway_host", "taken", "address and port in one", "listen.api"),
    Word("routing_strategy", "no effect", "one strategy, the least cost", "routing.strategy"),
    Word("metrics_enabled", "taken", "", "metrics.enabled"),
    Word("metrics_port", "taken", "an address with its port", "metrics.listen"),
    Word("health_check_interval", "taken", "", "health.interval_s"),
    Word("health_check_timeout", "taken", "", "health.timeout_s"),
    Word("health_check_enabled", "no effect", "nodes are always watched"),
    Word("max_retries", "taken", "attempts, the first one counted", "failover.attempts"),
    Word("retry_backoff_multiplier", "no effect", "another node is tried at once"),
    Word("chat_timeout, embedding_timeout", "no effect", _OWN_LIMITS, "failover.progress_s"),
    Word("log_level", "taken", "", "log.level"),
    Word("ray_workers, dask_workers", "no effect", _ONE_PROCESS),
    Word("dask_scheduler", "no effect", "no cluster is used"),
    Word("autobatch_*", "no effect", _NO_BATCH),
    Word("adaptive_metrics_*", "no effect", "speeds are always learned, from every answer"),
    Word("influxdb_*", "no effect", _NO_INFLUX, "metrics.listen"),
)


def variable_note(name: str) -> str | None:
    """Say what became of a variable of the predecessor; None for any other and for those taken."""
    for word in VARIABLES:
        if word.name == name:
            return None if word.fate == "taken" else f"{name} has no effect: {word.text}"
    if name.startswith("SOLLOL_"):
        return f"{name} has no effect: sollold has no such setting; docs/migration.md lists them"
    return None


def render_migration() -> str:
    """Return the tables of `docs/migration.md`."""
    flags = tuple(Word(_usage(flag), flag.fate, flag.text, flag.key) for flag in FLAGS)
    return "\n".join(
        [
            *_section("Commands and flags", (*COMMANDS, *flags)),
            *_section("Environment variables", VARIABLES),
            *_section("Fields of SOLLOLConfig", FIELDS),
        ]
    )


def _usage(flag: Flag) -> str:
    return f"{flag.name} {flag.metavar}".strip()


def _section(heading: str, words: tuple[Word, ...]) -> list[str]:
    rows = [
        f"| `{word.name}` | {word.fate} | {f'`{word.key}`' if word.key else ''} | {word.text} |"
        for word in words
    ]
    head = ["| name | here | key | what |", "| --- | --- | --- | --- |"]
    return [f"## {heading}", "", *head, *rows, ""]
