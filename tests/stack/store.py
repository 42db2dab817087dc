"""Writes and copies Ollama model stores: manifests, hard-linked weights, small blobs.

The bytes depend on the models only, so two stores written from the same list are equal.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.stack.parts import Parts, Weights

_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_LAYER_TYPE = "application/vnd.ollama.image."

_PLAIN_TEMPLATE = (
    "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}assistant: {{ .Response }}"
)
_TOOLS_TEMPLATE = (
    "{{ if .Tools }}tools: {{ range .Tools }}{{ . }}\n{{ end }}{{ end }}"
    "{{ range .Messages }}{{ .Role }}: {{ .Content }}"
    "{{ range .ToolCalls }}<tool_call>{{ .Function.Name }} {{ .Function.Arguments }}</tool_call>"
    "{{ end }}\n{{ end }}assistant: {{ .Response }}"
)
_THINK_TEMPLATE = (
    "{{ range .Messages }}{{ .Role }}: "
    "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}\n{{ end }}"
    "assistant: {{ .Response }}"
)

# The base model rarely stops by itself, so every chat model is told when to.
_CHAT_PARAMS: Mapping[str, int] = {"num_predict": 48, "seed": 1, "temperature": 0}


class StoredModel(NamedTuple):
    """A model as a store holds it; `name` is `[namespace/]model[:tag]`."""

    name: str
    template: str | None = _PLAIN_TEMPLATE
    params: Mapping[str, int] | None = _CHAT_PARAMS
    is_embedding: bool = False


TINY = StoredModel("tiny")
TINY_SHORT = StoredModel("tiny:short", params={**_CHAT_PARAMS, "num_predict": 8})
TINY_USER = StoredModel("user/tiny")
TINY_TOOLS = StoredModel("tiny-tools", template=_TOOLS_TEMPLATE)
TINY_THINK = StoredModel("tiny-think", template=_THINK_TEMPLATE)
TINY_EMBED = StoredModel("tiny-embed", template=None, params=None, is_embedding=True)

ALL_MODELS = (TINY, TINY_SHORT, TINY_USER, TINY_TOOLS, TINY_THINK, TINY_EMBED)
"""`user/tiny` has the digest of `tiny`; every other model has one of its own."""


def write_store(root: Path, parts: Parts, models: Iterable[StoredModel] = ALL_MODELS) -> None:
    """Write a store that holds these models; adds to one that is there."""
    for model in models:
        manifest = _write_blobs(root / "blobs", model, parts)
        path = root / "manifests" / "registry.ollama.ai" / _manifest_path(model.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_encode(manifest))


def copy_store(source: Path, target: Path) -> None:
    """Make another node's store with the same bytes; weights stay hard links."""
    shutil.copytree(source / "blobs", target / "blobs", copy_function=_link_file)
    shutil.copytree(source / "manifests", target / "manifests")


def _manifest_path(name: str) -> str:
    path, _, tag = name.partition(":")
    qualified = path if "/" in path else f"library/{path}"
    return f"{qualified}/{tag or 'latest'}"


def _write_blobs(blobs: Path, model: StoredModel, parts: Parts) -> dict[str, object]:
    blobs.mkdir(parents=True, exist_ok=True)
    weights = parts.embedding if model.is_embedding else parts.chat
    layers = [_link_weights(blobs, weights)]
    if model.template is not None:
        layers.append(_write_blob(blobs, _LAYER_TYPE + "template", model.template.encode()))
    if model.params is not None:
        layers.append(_write_blob(blobs, _LAYER_TYPE + "params", _encode(dict(model.params))))
    digests = [layer["digest"] for layer in layers]
    return {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": _write_blob(blobs, _CONFIG_TYPE, _encode(_config(digests))),
        "layers": layers,
    }


def _config(layer_digests: list[object]) -> dict[str, object]:
    return {
        "model_format": "gguf",
        "model_family": "gemma3",
        "model_families": ["gemma3"],
        "model_type": "268.10M",
        "file_type": "Q4_K_M",
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": layer_digests},
    }


def _link_weights(blobs: Path, weights: Weights) -> dict[str, object]:
    path = blobs / f"sha256-{weights.sha256}"
    if not path.exists():
        _link_file(str(weights.path), str(path))
    size_bytes = path.stat().st_size
    return _layer(_LAYER_TYPE + "model", weights.sha256, size_bytes)


def _write_blob(blobs: Path, media_type: str, content: bytes) -> dict[str, object]:
    sha256 = hashlib.sha256(content).hexdigest()
    (blobs / f"sha256-{sha256}").write_bytes(content)
    return _layer(media_type, sha256, len(content))


def _layer(media_type: str, sha256: str, size_bytes: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": size_bytes}


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another file system. The weights are too big to copy for each node of each test.
        os.symlink(os.path.realpath(source), target)


def _encode(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
