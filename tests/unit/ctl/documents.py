"""The fleet of the mock-ups, as the daemon would describe it."""

from __future__ import annotations

from msgspec.structs import replace

from sollold.api_config import ConfigDocument, ConfigValue
from sollold.api_models import (
    AskedRequest,
    LoadedCopy,
    LoadedDocument,
    Model,
    ModelCopy,
    ModelDocument,
    ModelsDocument,
    NextNode,
    NodeCost,
)
from sollold.api_types import (
    Addresses,
    Change,
    ConfigInfo,
    CoordinatorSummary,
    History,
    LoadedModel,
    LookedAt,
    ModelCounts,
    Node,
    NodeCounts,
    NodeDocument,
    NodesDocument,
    Outcomes,
    Problem,
    Request,
    RequestCounts,
    RequestsDocument,
    Speed,
    StatusDocument,
)
from sollold.core.model import Reason

AT = "2026-11-21T09:14:03.120Z"
SECOND = 1000.0
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
FIVE_MINUTES = 5 * MINUTE

REFUSED = Reason("connect_failed", "connection refused on 11434, 3 tries in 30 s")
LATE = Reason("slow", "first token p95 8.2 s, its usual is 0.9 s")

HEALTHY = StatusDocument(
    at=AT,
    version="0.4.0",
    state="serving",
    uptime_ms=3 * DAY + 4 * HOUR,
    pid=21877,
    instance_id="desk_21877_1f2e3d4c",
    addresses=Addresses(
        api=("http://127.0.0.1:11434",),
        console=("http://127.0.0.1:8080",),
        control="/run/user/1000/sollold/control.sock",
    ),
    nodes=NodeCounts(total=6, up=5, draining=1),
    models=ModelCounts(known=14, loaded=7, loaded_nodes=4),
    requests=RequestCounts(running=3),
    recent=Outcomes(window_ms=FIVE_MINUTES, ok=212, failed_over=1),
    speed=Speed(first_token_p50_ms=180, first_token_p95_ms=940, tokens_per_s=41),
    coordinators=(
        CoordinatorSummary(
            state="ready",
            model="llama3.1:70b",
            rpc_backends=("rpc-a", "rpc-b"),
            port=18080,
            uptime_ms=2 * HOUR,
        ),
    ),
    history=History(place="local", events=12408, since="2026-11-14T10:00:00.000Z"),
    config=ConfigInfo(path="/etc/sollold/sollold.toml", loaded_ms=3 * DAY),
    loop="uvloop",
    not_configured=("Redis",),
)

DEGRADED = replace(
    HEALTHY,
    state="degraded",
    nodes=NodeCounts(total=6, up=3, slow=1, draining=1, down=1),
    requests=RequestCounts(running=4, queued=1, oldest_ms=23_000),
    recent=Outcomes(window_ms=FIVE_MINUTES, ok=198, failed_over=9),
    problems=(
        Problem(subject="pi-5", state="down", since_ms=4 * MINUTE, reason=REFUSED),
        Problem(subject="gpu-2", state="slow", since_ms=12 * MINUTE, reason=LATE),
    ),
    coordinators=None,
)

NOTHING_FOUND = StatusDocument(
    at=AT,
    version="0.4.0",
    state="cannot_serve",
    reason=Reason("no_nodes", "no nodes found yet"),
    uptime_ms=20 * SECOND,
    pid=21877,
    addresses=HEALTHY.addresses,
    looked_at=(
        LookedAt(source="mdns", text="mDNS for 20 s"),
        LookedAt(source="sweep", text="192.168.1.0/24: 254 addresses, 0 answered"),
    ),
    config=HEALTHY.config,
)

GPU_2 = Node(
    name="gpu-2",
    id="gpu-2",
    state="slow",
    reason=LATE,
    since_ms=12 * MINUTE,
    kind="ollama",
    url="http://192.168.1.22:11434",
    version="0.12.3",
    tier=5,
    slots=2,
    running=1,
    queued=1,
    first_token_ms=1900,
    tokens_per_s=12.8,
    vram_bytes=15_900_000_000,
    vram_total_bytes=16_000_000_000,
    vram_total_from="config",
    seen_ms=SECOND,
    loaded=(
        LoadedModel(
            name="qwen2.5:14b",
            size_bytes=9_000_000_000,
            size_vram_bytes=9_000_000_000,
            context_length=8192,
            expires_at="2026-11-21T09:18:05Z",
        ),
        LoadedModel(
            name="nomic-embed-text",
            size_bytes=300_000_000,
            size_vram_bytes=300_000_000,
            context_length=2048,
            expires_at="2026-11-21T09:15:30Z",
        ),
    ),
    models=9,
    ok_rate=0.968,
    last_hour=Outcomes(window_ms=HOUR, ok=182, failed=4, failed_over=6),
    breaker="closed",
    found_by=("mDNS",),
)


def _plain(name: str, state: str, kind: str = "ollama", port: int = 11434) -> Node:
    return Node(name=name, id=name, state=state, kind=kind, url=f"http://{name}.lan:{port}")


NODES = NodesDocument(
    at=AT,
    nodes=(
        replace(
            _plain("gpu-1", "up"),
            running=2,
            queued=0,
            first_token_ms=84,
            tokens_per_s=61.2,
            vram_bytes=21_400_000_000,
            vram_total_bytes=24_000_000_000,
            seen_ms=SECOND,
        ),
        GPU_2,
        replace(
            _plain("mac-mini", "draining"),
            running=1,
            queued=0,
            first_token_ms=120,
            tokens_per_s=33,
            vram_bytes=9_100_000_000,
            seen_ms=2 * SECOND,
        ),
        replace(_plain("pi-5", "down"), reason=REFUSED, since_ms=4 * MINUTE, seen_ms=4 * MINUTE),
        replace(
            _plain("rpc-b", "up", "rpc_backend", 50052),
            vram_bytes=11_000_000_000,
            vram_total_bytes=12_000_000_000,
            seen_ms=3 * SECOND,
        ),
        replace(
            _plain("rpc-a", "up", "rpc_backend", 50052),
            vram_bytes=11_000_000_000,
            vram_total_bytes=12_000_000_000,
            seen_ms=3 * SECOND,
        ),
    ),
)

RUNNING = (
    Request(
        id="r-7f3d",
        model="qwen2.5:14b",
        task="chat",
        phase="generating",
        node="gpu-2",
        age_ms=31_400,
        tokens=402,
        tokens_per_s=12.9,
        client="laptop",
        priority=5,
        attempt=1,
        queue_ms=12,
    ),
    Request(
        id="r-7f43",
        model="nomic-embed-text",
        task="embed",
        phase="embedding",
        node="mac-mini",
        age_ms=2100,
        client="ci",
    ),
)
WAITING = (
    Request(
        id="r-7f40",
        model="qwen2.5:14b",
        task="chat",
        phase="waiting",
        age_ms=23_900,
        client="laptop",
        ahead=0,
        reason="gpu-2 is full",
    ),
)

REQUESTS = RequestsDocument(at=AT, running=RUNNING, waiting=WAITING)

NODE_GPU_2 = NodeDocument(
    at=AT,
    node=replace(GPU_2, first_token_ms=None, tokens_per_s=None),
    running=RUNNING[:1],
    waiting=WAITING,
    changes=(
        Change(at="2026-11-21T09:02:10.000Z", text="became slow"),
        Change(at="2026-11-21T08:41:00.000Z", text="loaded qwen2.5:14b"),
        Change(at="2026-11-14T10:00:00.000Z", text="joined"),
    ),
)

LLAMA_ID, OLD_ID, NOMIC_ID = "46e0c10c039e" + "0" * 52, "8" * 64, "0a109f422b47" + "0" * 52


def _copy(node: str, state: str = "up", *, digest: str = LLAMA_ID, **fields: object) -> ModelCopy:
    fields = {"size_bytes": 4_900_000_000, "is_loaded": False, **fields}
    return ModelCopy(node=node, state=state, digest=digest, **fields)  # type: ignore[arg-type]


LLAMA = Model(
    name="llama3.1:8b",
    digest=LLAMA_ID,
    size_bytes=4_900_000_000,
    modified_at="2026-11-14T10:00:00Z",
    capabilities=("completion", "tools"),
    copies=(
        _copy("gpu-1", is_loaded=True),
        _copy("gpu-2", "slow"),
        _copy(
            "mac-mini", digest=OLD_ID, left_out=Reason("other_digest", "mac-mini holds another one")
        ),
        _copy("pi-5", "down", is_loaded=None, left_out=Reason("down", "pi-5 is not available")),
    ),
    next=NextNode(
        node="gpu-1",
        wait_ms=0,
        is_load=False,
        reason=Reason("resident_free", "resident, free"),
        equals=("gpu-2",),
    ),
)

MODELS = ModelsDocument(
    at=AT,
    models=(
        LLAMA,
        Model(
            name="llama3.2:latest",
            digest=OLD_ID,
            copies=(_copy("pi-5", "down", digest=OLD_ID, is_loaded=None),),
            next=NextNode(reason=Reason("no_usable_node", "pi-5 is not available")),
        ),
        Model(
            name="nomic-embed-text:latest",
            digest=NOMIC_ID,
            size_bytes=274_000_000,
            capabilities=("embedding",),
            copies=(_copy("gpu-2", "slow", digest=NOMIC_ID, is_loaded=True),),
            next=NextNode(node="gpu-2", wait_ms=12_340, reason=Reason("waits", "gpu-2 is full")),
        ),
    ),
)

MODEL_LLAMA = ModelDocument(
    at=AT,
    model=LLAMA,
    asked=AskedRequest(task="chat", prompt_tokens=512, output_tokens=256),
    costs=(
        NodeCost(
            node="gpu-1",
            total_ms=3210,
            wait_ms=0,
            load_ms=0,
            swap_ms=0,
            foreign_ms=0,
            prefill_ms=410,
            decode_ms=5600,
            risk_ms=0,
            tier_ms=0,
            is_measured=True,
        ),
        NodeCost(
            node="gpu-2",
            total_ms=3300,
            wait_ms=0,
            load_ms=1000,
            swap_ms=0,
            foreign_ms=0,
            prefill_ms=410,
            decode_ms=4000,
            risk_ms=-110,
            tier_ms=0,
            is_measured=False,
        ),
    ),
)

LOADED = LoadedDocument(
    at=AT,
    loaded=(
        LoadedCopy(
            name="llama3.1:8b",
            node="gpu-1",
            digest=LLAMA_ID,
            size_bytes=5_400_000_000,
            size_vram_bytes=2_700_000_000,
            context_length=8192,
            expires_at="2318-01-01T00:00:00Z",
        ),
        LoadedCopy(name="qwen2.5:14b", node="gpu-2", digest=OLD_ID),
    ),
)

CONFIG = ConfigDocument(
    at=AT,
    files=("/etc/sollold/sollold.toml",),
    values=(
        ConfigValue(
            key="listen.api",
            value=["127.0.0.1:11434"],
            source="default",
            origin="default",
            is_live=False,
        ),
        ConfigValue(
            key="nodes[0].url",
            value="https://***@gpu:1",
            source="file",
            origin="/etc/sollold/sollold.toml:12:7",
            is_live=True,
        ),
        ConfigValue(key="nodes[0].tier", value=5, source="default", origin="default", is_live=True),
        ConfigValue(
            key="queue.length",
            value=64,
            source="environment",
            origin="environment SOLLOLD_QUEUE__LENGTH",
            is_live=True,
        ),
    ),
)
