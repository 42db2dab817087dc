"""Ollama's `options` in the words of other engines.

Owns their types, their names elsewhere, their defaults and their limits. An engine that speaks
Ollama's samplers gets all of them, because its own defaults differ; one that speaks OpenAI's gets
what the client chose.
"""

from __future__ import annotations

from typing import Any, Final

from sollold.wire.lenient import LOAD_NUMBERS
from sollold.wire.translate.seam import Unsupported

LLAMA_NAMES: Final = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "num_predict": "n_predict",
    "num_keep": "n_keep",
    "stop": "stop",
}
"""What llama-server calls the options that it has words for."""
OPENAI_NAMES: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "num_predict": "max_tokens",
    "stop": "stop",
}
"""What OpenAI's API calls the options that it has words for."""
LOAD_NAMES: Final = frozenset({*LOAD_NUMBERS, "use_mmap"})
"""Options about loading a model, which other engines are given when they are started."""

_WHOLE: Final = frozenset(
    {"num_keep", "seed", "num_predict", "top_k", "repeat_last_n", *LOAD_NUMBERS}
)
_SAMPLERS: Final = {
    "temperature": 0.8,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
_TOP_K: Final = 40
_NUM_KEEP: Final = 4
_REPEAT_LAST_N: Final = 64
_RANDOM_SEED: Final = -1

_CONTEXTS_OF_OUTPUT: Final = 10
"""Output without a limit ends after so many contexts."""
_UNKNOWN_CONTEXT: Final = 4096
_FLOAT32_MAX: Final = 3.4e38
_INT32: Final = 2**31
_UINT32: Final = 2**32
_INT64: Final = 2**63


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """Return the known options that are set, whole numbers cut; raise `Unsupported`."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name in _WHOLE:
            found[name] = _whole(name, value)
        elif name in _SAMPLERS:
            found[name] = _real(name, value)
        elif name == "use_mmap" and not isinstance(value, bool):
            raise _must_be(name, "of type boolean")
        elif name == "stop":
            found[name] = _texts(name, value)
    return found


def for_llama(given: dict[str, Any], context_length: int | None) -> dict[str, Any]:
    """Return everything that llama-server has to be told about sampling."""
    said = {name: given.get(name, default) for name, default in _SAMPLERS.items()}
    said["top_k"] = _int32(given.get("top_k", _TOP_K))
    said["repeat_last_n"] = _last_n(given.get("repeat_last_n", _REPEAT_LAST_N), context_length)
    said["num_predict"] = _limit(given.get("num_predict", -1), context_length)
    said["num_keep"] = max(-1, _int32(given.get("num_keep", _NUM_KEEP)))
    said["seed"] = _seed(given.get("seed", _RANDOM_SEED))
    if given.get("stop"):
        said["stop"] = given["stop"]
    return {LLAMA_NAMES[name]: value for name, value in said.items()} | {"cache_prompt": True}


def for_openai(given: dict[str, Any]) -> dict[str, Any]:
    """Return what the client chose and OpenAI's API has words for."""
    said = {name: given[name] for name in OPENAI_NAMES if name in given}
    limit = said.pop("num_predict", 0)
    if limit > 0:
        said["num_predict"] = _int32(limit)
    if said.get("seed") == _RANDOM_SEED:
        del said["seed"]
    if not said.get("stop"):
        said.pop("stop", None)
    return {OPENAI_NAMES[name]: value for name, value in said.items()}


def kept_tokens(given: dict[str, Any], total: int) -> int:
    """Return how many tokens stay at the front when a prompt is cut; negative means all."""
    keep: int = given.get("num_keep", _NUM_KEEP)
    return total if keep < 0 else min(keep, total)


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _must_be(name, "of type integer")
    return max(-_INT64, min(int(value), _INT64 - 1))


def _real(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _must_be(name, "of type float32")
    return max(-_FLOAT32_MAX, min(float(value), _FLOAT32_MAX))


def _texts(name: str, value: object) -> list[str]:
    if not isinstance(value, list):
        raise _must_be(name, "of type array")
    if not all(isinstance(item, str) for item in value):
        raise _must_be(name, "of an array of strings")
    return value


def _must_be(name: str, what: str) -> Unsupported:
    return Unsupported(500, f'option "{name}" must be {what}')


def _limit(num_predict: int, context_length: int | None) -> int:
    if context_length is None:
        return _int32(num_predict) if num_predict > 0 else -1
    limit = _CONTEXTS_OF_OUTPUT * context_length
    return min(num_predict, limit) if num_predict > 0 else limit


def _last_n(count: int, context_length: int | None) -> int:
    return _int32(count) if count >= 0 else context_length or _UNKNOWN_CONTEXT


def _seed(seed: int) -> int:
    return seed if seed == _RANDOM_SEED else seed % _UINT32


def _int32(value: int) -> int:
    return max(-_INT32, min(value, _INT32 - 1))
