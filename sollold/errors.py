"""The error tree, nothing else.

Each error carries a stable code, the HTTP status a client sees, and a sentence for operators:
what failed, where, what the daemon did next.
"""

from __future__ import annotations


class SollolError(Exception):
    """Base of all errors of this program."""

    code = "internal"
    http_status = 500

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class ConfigError(SollolError):
    """The configuration cannot be used; `problems` lists every fault."""

    code = "config"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RequestError(SollolError):
    """The caller's fault; never counts against a node."""

    code = "invalid_request"
    http_status = 400


class InvalidRequest(RequestError):
    """The request cannot be understood."""


class ModelNotFound(RequestError):
    """No known node, up or down, holds the model."""

    code = "model_not_found"
    http_status = 404


class NodeNotFound(RequestError):
    """The request names a node that does not exist."""

    code = "node_not_found"
    http_status = 404


class PayloadTooLarge(RequestError):
    """The body exceeds what this daemon accepts."""

    code = "payload_too_large"
    http_status = 413


class UnsupportedEncoding(RequestError):
    """The body is compressed in a way this daemon cannot read."""

    code = "unsupported_encoding"
    http_status = 415


class NotOffered(RequestError):
    """Ollama has this route, this daemon does not."""

    code = "not_offered"
    http_status = 501


class LoopDetected(RequestError):
    """The request already passed this daemon."""

    code = "loop_detected"
    http_status = 508


class CapacityError(SollolError):
    """Not now; `retry_after_s` says when to come back."""

    code = "capacity"
    http_status = 503


class QueueFull(CapacityError):
    """The queue, or this client's share of it, is full."""

    code = "queue_full"


class QueueTimeout(CapacityError):
    """The request waited as long as it may."""

    code = "queue_timeout"


class NoEligibleNode(CapacityError):
    """Holders of the model exist, but none can take the request."""

    code = "no_eligible_node"


class Draining(CapacityError):
    """The daemon is stopping."""

    code = "draining"

    def __init__(self) -> None:
        super().__init__("sollold is stopping", retry_after_s=5)


class UpstreamError(SollolError):
    """A node, or the network towards it, failed an attempt."""

    code = "upstream"
    http_status = 502


class ConnectFailed(UpstreamError):
    """No connection; `refused` means the host answered and nothing listens there."""

    code = "connect_failed"

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class UpstreamTimeout(UpstreamError):
    """A phase lasted longer than its limit; `phase` is connect, head or idle."""

    code = "upstream_timeout"
    http_status = 504

    def __init__(self, message: str, *, phase: str) -> None:
        super().__init__(message)
        self.phase = phase


class UpstreamDisconnected(UpstreamError):
    """The connection ended before the message did; `bytes_seen` counts what had come."""

    code = "upstream_disconnected"

    def __init__(self, message: str, *, bytes_seen: int = 0) -> None:
        super().__init__(message)
        self.bytes_seen = bytes_seen


class UpstreamProtocol(UpstreamError):
    """The node sent something that is not HTTP, or too much of it."""

    code = "upstream_protocol"


class InternalError(SollolError):
    """A bug in this program."""
