"""What a fake llama-server tells of itself: properties, models, slots, counters."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.fakes.llama_replies import FINGERPRINT, SAMPLING, sampling

if TYPE_CHECKING:
    from tests.fakes.llama_engine import LlamaEngine, LlamaSettings, Slot

Body = dict[str, Any]

_TEMPLATE = (
    "{%- for message in messages -%}\n"
    "  {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "  {{- '<|im_start|>assistant\\n' -}}\n"
    "{%- endif -%}"
)
_THINKING = "{{- '<think>' if enable_thinking is not defined or enable_thinking -}}"
_TRAINED_CONTEXT = 32_768
_SIZE_BYTES = 246_587_904


def render(messages: list[Body]) -> str:
    """The prompt that the template makes; a trailing assistant message is continued."""
    parts = [f"<|im_start|>{m['role']}\n{_text(m)}<|im_end|>\n" for m in messages]
    if messages and messages[-1]["role"] == "assistant":
        parts[-1] = parts[-1].removesuffix("<|im_end|>\n")
    else:
        parts.append("<|im_start|>assistant\n")
    return "".join(parts)


def props(settings: LlamaSettings) -> Body:
    """`GET /props`."""
    has = settings.has_tools
    return {
        "default_generation_settings": {"params": SAMPLING, "n_ctx": settings.n_ctx},
        "total_slots": settings.slots,
        "model_alias": settings.model,
        "model_ftype": "Q4_K - Medium",
        "model_path": settings.model_path,
        "modalities": {"vision": settings.has_vision, "video": False, "audio": False},
        "media_marker": "<__media_fake__>",
        "endpoint_slots": True,
        "endpoint_props": False,
        "endpoint_metrics": settings.has_metrics,
        "ui": True,
        "ui_settings": {},
        "chat_template": _TEMPLATE + (_THINKING if settings.thinks else ""),
        "chat_template_caps": {
            "supports_object_arguments": has,
            "supports_parallel_tool_calls": has,
            "supports_preserve_reasoning": settings.thinks > 0,
            "supports_string_content": True,
            "supports_system_role": True,
            "supports_tool_calls": has,
            "supports_tools": has,
            "supports_typed_content": False,
        },
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "build_info": FINGERPRINT,
        "is_sleeping": False,
        "cors_proxy_enabled": False,
    }


def models(settings: LlamaSettings) -> Body:
    """`GET /v1/models`: a half like Ollama's listing with empty texts, and OpenAI's."""
    name = settings.model
    capabilities = ["completion"] + (["multimodal"] if settings.has_vision else [])
    ollama_like = {
        **dict.fromkeys(("name", "model"), name),
        **dict.fromkeys(("modified_at", "size", "digest"), ""),
        "type": "model",
        "description": "",
        "tags": [""],
        "capabilities": capabilities,
        "parameters": "",
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "",
            "families": [""],
            "parameter_size": "",
            "quantization_level": "",
        },
    }
    openai_like = {
        "id": name,
        "aliases": [name],
        "tags": [],
        "object": "model",
        "created": int(time.time()),
        "owned_by": "llamacpp",
        "meta": {
            "vocab_type": 1,
            "n_vocab": 262_144,
            "n_ctx": settings.n_ctx,
            "n_ctx_train": _TRAINED_CONTEXT,
            "n_embd": settings.embedding_length,
            "n_params": 268_098_176,
            "size": _SIZE_BYTES,
            "ftype": "Q4_K - Medium",
        },
    }
    return {"models": [ollama_like], "object": "list", "data": [openai_like]}


def slots(engine: LlamaEngine) -> list[Body]:
    """`GET /slots`; a slot that never worked tells less."""
    return [_slot(slot, engine.settings) for slot in engine.slots]


def metrics(engine: LlamaEngine) -> bytes:
    """`GET /metrics`."""
    counters = {
        "prompt_tokens_total": ("counter", engine.prompt_tokens),
        "tokens_predicted_total": ("counter", engine.generated_tokens),
        "n_decode_total": ("counter", engine.generated_tokens),
        "requests_processing": ("gauge", engine.active),
        "requests_deferred": ("gauge", engine.waiting),
    }
    lines = [
        f"# HELP llamacpp:{name} {name}.\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n"
        for name, (kind, value) in counters.items()
    ]
    return "".join(lines).encode()


def _slot(slot: Slot, settings: LlamaSettings) -> Body:
    told: Body = {
        "id": slot.number,
        "n_ctx": settings.n_ctx,
        "speculative": False,
        "is_processing": slot.is_busy,
    }
    if slot.task < 0:
        return told
    left = slot.limit - slot.decoded
    return told | {
        "id_task": slot.task,
        "n_prompt_tokens": len(slot.prompt) + slot.decoded,
        "n_prompt_tokens_processed": len(slot.prompt) - slot.cached,
        "n_prompt_tokens_cache": slot.cached,
        "params": sampling(slot.body),
        "next_token": [
            {
                "has_next_token": left > 0,
                "has_new_line": False,
                "n_remain": left,
                "n_decoded": slot.decoded,
            }
        ],
    }


def _text(message: Body) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content)
    return content or ""
