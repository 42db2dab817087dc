"""The keys of one `[[nodes]]` table."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sollold.config.meta import key as _key


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One configured node; may be repeated."""

    url: Annotated[
        str,
        _key(
            'Where it answers: "host", "host:port" (default 11434), "http://..." or "https://...".',
            live=True,
            example='"192.168.1.22:11434"',
        ),
    ]
    name: Annotated[
        str | None,
        _key("What to call it; default: made from kind and address.", live=True, example='"gpu-1"'),
    ] = None
    kind: Annotated[
        Literal["ollama", "llama_server", "openai"] | None,
        _key(
            'What it speaks; vLLM, LM Studio and clouds are "openai". Default: found out.',
            live=True,
            example='"ollama"',
        ),
    ] = None
    slots: Annotated[
        Annotated[int, msgspec.Meta(ge=1)] | None,
        _key("Parallel requests per loaded model; default: learned.", live=True, example="2"),
    ] = None
    tier: Annotated[
        int,
        _key("How much it is preferred, 1 (most) to 10.", live=True, ge=1, le=10),
    ] = 5
    mac: Annotated[
        str | None,
        _key("Hardware (MAC) address of its machine.", live=True, example='"3c:7c:3f:1a:2b:4d"'),
    ] = None
    key_env: Annotated[
        str | None,
        _key(
            "Environment variable that holds the key this node asks for.",
            live=True,
            example='"CLOUD_API_KEY"',
        ),
    ] = None
    ca_file: Annotated[
        str | None,
        _key(
            "PEM file with the authority that signed its certificate; for https:// addresses.",
            live=True,
            path=True,
            example='"house-ca.pem"',
        ),
    ] = None
    pin: Annotated[
        str | None,
        _key(
            "SHA-256 of its certificate, in hex or as sha256/BASE64; nothing else of it counts.",
            live=True,
            example='"sha256/LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="',
        ),
    ] = None
    model: Annotated[
        str | None,
        _key(
            "Name under which a llama_server offers its model; default: its alias.",
            live=True,
            example='"qwen2.5:7b"',
        ),
    ] = None
    models: Annotated[
        dict[str, str] | None,
        _key(
            "Names to offer, each with the engine's own; only these are offered. Default: all.",
            live=True,
            example='{ "qwen2.5:7b" = "Qwen/Qwen2.5-7B-Instruct" }',
        ),
    ] = None
    same_as_ollama: Annotated[
        tuple[str, ...],
        _key(
            "Names offered here that mean the same model as on Ollama nodes.",
            live=True,
            example='["qwen2.5:7b"]',
        ),
    ] = ()
