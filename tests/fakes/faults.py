"""What can go wrong at a fake node, by name, and for how many requests.

Only describes and selects faults; the wire (`httpd`) and the engine (`engine`) act on them.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

PROBE_PATHS = frozenset(
    {
        *("/", "/api/version", "/api/tags", "/api/ps", "/v1/models"),
        *("/health", "/v1/health", "/props", "/slots", "/metrics", "/models"),
    }
)
INFERENCE_PATHS = frozenset(
    {
        *("/api/chat", "/api/generate", "/api/embed", "/api/embeddings"),
        *("/v1/chat/completions", "/v1/completions", "/v1/embeddings"),
        *("/chat/completions", "/completion", "/completions", "/infill"),
        *("/embedding", "/embeddings"),
    }
)


class FaultKind(StrEnum):
    """Names of the faults; the comment says what the client of the node sees."""

    REFUSE = "refuse"  # nothing listens: connections refused, open ones reset
    DROP_ACCEPT = "drop_accept"  # accepted, then closed at once
    HANG = "hang"  # accepted, request read, nothing ever answered (probes too by default)
    HANG_HEAD = "hang_head"  # the same for inference only: a hung engine behind a live server
    HANG_STREAM = "hang_stream"  # silence after `after_frames` frames
    CUT_RESET = "cut_reset"  # connection reset after `after_frames` frames; 0: before any byte
    CUT_CLOSE = "cut_close"  # orderly close inside the body after `after_frames` frames
    CUT_CLEAN = "cut_clean"  # generation ends without its terminator, the body ends well
    GARBAGE = "garbage"  # bytes that are not HTTP
    GARBAGE_BODY = "garbage_body"  # broken chunk framing after `after_frames` frames
    GARBAGE_LINE = "garbage_line"  # well framed, but no JSON, after `after_frames` frames
    STATUS = "status"  # `status` with `text` in the dialect's shape
    CRASH = "crash"  # 500, the runner died
    QUEUE_FULL = "queue_full"  # 503, Ollama's load queue is full
    LOADING = "loading"  # 503, llama-server still loads
    RATE_LIMITED = "rate_limited"  # 429 with Retry-After
    UNAUTHORIZED = "unauthorized"  # 401
    MISSING = "missing"  # 404 for a model the node lists
    SLOW_PROBE = "slow_probe"  # listings and version answer after `delay_s`
    SLOW_HEAD = "slow_head"  # inference starts after `delay_s`
    EARLY_HEAD = "early_head"  # the head is on the wire before any work is done
    INFORMATIONAL = "informational"  # 100 and 103 before the answer
    ENGINE_ERROR = "engine_error"  # error line after `after_frames` frames; 0: an HTTP status
    STALE_KEEPALIVE = "stale_keepalive"  # a connection already used closes on its next request
    CLOSE_AFTER = "close_after"  # whole answer, then an unannounced close
    EARLY_REPLY = "early_reply"  # `status` before the request body was read, then close
    HTTP10 = "http10"  # HTTP/1.0, end of body by close
    LENGTH_LONG = "length_long"  # Content-Length promises more than comes, then close
    LENGTH_SHORT = "length_short"  # Content-Length promises less than comes
    HUGE_LINE = "huge_line"  # one line of `size_bytes`
    EMPTY_FIRST = "empty_first"  # the first line carries no text
    DRIBBLE = "dribble"  # every byte in a segment of its own
    PINGS = "pings"  # comments for `delay_s` after `after_frames` frames, then as if nothing were
    NO_DONE = "no_done"  # a stream without `[DONE]`, all else is there
    NO_ROOM = "no_room"  # 400, the prompt exceeds the context, however short it is
    PAGE = "page"  # `status`, 502 unless told, with a page of HTML, as a front end answers


_CUTS = frozenset(
    {
        FaultKind.HANG_STREAM,
        FaultKind.CUT_RESET,
        FaultKind.CUT_CLOSE,
        FaultKind.GARBAGE_BODY,
        FaultKind.GARBAGE_LINE,
    }
)
"""Faults of the wire that strike after a number of frames."""

_STATUSES: dict[FaultKind, tuple[int, str]] = {
    FaultKind.STATUS: (500, "something went wrong"),
    FaultKind.CRASH: (500, "model runner has unexpectedly stopped"),
    FaultKind.QUEUE_FULL: (
        503,
        "server busy, please try again.  maximum pending requests exceeded",
    ),
    FaultKind.LOADING: (503, "Loading model"),
    FaultKind.RATE_LIMITED: (429, "rate limit exceeded"),
    FaultKind.UNAUTHORIZED: (401, "unauthorized"),
    FaultKind.MISSING: (404, ""),
    FaultKind.EARLY_REPLY: (413, "request body too large"),
    FaultKind.PAGE: (502, "<html><head><title>502 Bad Gateway</title></head></html>"),
}

_EVERYWHERE = frozenset(
    {
        FaultKind.REFUSE,
        FaultKind.DROP_ACCEPT,
        FaultKind.HANG,
        FaultKind.GARBAGE,
        FaultKind.UNAUTHORIZED,
        FaultKind.STALE_KEEPALIVE,
        FaultKind.CLOSE_AFTER,
        FaultKind.HTTP10,
    }
)
"""Faults that by default strike any request; the rest strike inference, SLOW_PROBE probes."""


class Fault(msgspec.Struct, kw_only=True):
    """One thing that goes wrong. `count` counts down; None means until taken away."""

    kind: FaultKind
    count: int | None = None
    scope: str = ""
    """`all`, `inference`, `probe` or a path; empty: what suits the kind."""
    model: str = ""
    """Strike only requests whose body names this model."""
    after_frames: int = 0
    delay_s: float = 0.1
    status: int = 0
    text: str = ""
    retry_after_s: int | None = None
    size_bytes: int = 400_000
    every_s: float = 0.02
    """Between two comments."""

    def strikes(self, path: str, model: str) -> bool:
        """True when a request for `path` and `model` is hit."""
        if self.count == 0 or (self.model and self.model != model):
            return False
        scope = self.scope or self._own_scope()
        if scope in {"inference", "probe"}:
            return path in (INFERENCE_PATHS if scope == "inference" else PROBE_PATHS)
        return scope in {"all", path}

    def status_and_text(self) -> tuple[int, str]:
        """What a status fault answers; an empty text stands for the route's own 404."""
        status, text = _STATUSES[self.kind]
        return self.status or status, self.text or text

    def _own_scope(self) -> str:
        if self.kind is FaultKind.SLOW_PROBE:
            return "probe"
        return "all" if self.kind in _EVERYWHERE else "inference"


class Struck:
    """The faults that one request met."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self.faults = faults

    def get(self, kind: FaultKind) -> Fault | None:
        """The fault of this kind, if the request met one."""
        return next((fault for fault in self.faults if fault.kind is kind), None)

    def cut(self) -> Fault | None:
        """The fault that breaks the body after some frames, if any."""
        return next((fault for fault in self.faults if fault.kind in _CUTS), None)

    def status(self) -> Fault | None:
        """The fault that answers instead of the route, if any."""
        kinds = _STATUSES.keys() - {FaultKind.EARLY_REPLY}
        return next((fault for fault in self.faults if fault.kind in kinds), None)


class FaultBook:
    """The faults set at a node."""

    def __init__(self) -> None:
        self.active: list[Fault] = []

    def put(self, *faults: Fault) -> None:
        """Replace all faults."""
        self.active = list(faults)

    def strike(self, path: str, model: str) -> Struck:
        """Take the faults that this request meets, counting them down."""
        met = tuple(fault for fault in self.active if fault.strikes(path, model))
        for fault in met:
            if fault.count is not None:
                fault.count -= 1
        self.active = [fault for fault in self.active if fault.count != 0]
        return Struck(met)

    def strike_accept(self) -> bool:
        """True when a new connection is to be dropped."""
        drops = [fault for fault in self.active if fault.kind is FaultKind.DROP_ACCEPT]
        if not drops:
            return False
        if drops[0].count is not None:
            drops[0].count -= 1
        self.active = [fault for fault in self.active if fault.count != 0]
        return True

    def has(self, kind: FaultKind) -> bool:
        """True while a fault of this kind is set."""
        return any(fault.kind is kind for fault in self.active)
