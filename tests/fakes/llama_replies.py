"""The objects that llama-server answers generations with, in its three dialects."""

from __future__ import annotations

import random
import string
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tests.fakes.llama_check import Body
    from tests.fakes.llama_engine import LlamaSettings, Plan, Slot, Token, Vocabulary

FINGERPRINT = "b1-fake"
SAMPLING = {
    "seed": 4294967295,
    "temperature": 0.8,
    "dynatemp_range": 0.0,
    "dynatemp_exponent": 1.0,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "top_n_sigma": -1.0,
    "xtc_probability": 0.0,
    "xtc_threshold": 0.1,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "dry_multiplier": 0.0,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_penalty_last_n": -1,
    "mirostat": 0,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.1,
    "max_tokens": -1,
    "n_predict": -1,
    "n_keep": 0,
    "n_discard": 0,
    "ignore_eos": False,
    "stream": False,
    "n_probs": 0,
    "min_keep": 0,
    "chat_format": "Content-only",
    "reasoning_format": "none",
    "reasoning_in_content": False,
    "generation_prompt": "",
    "samplers": [
        *("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc"),
        "temperature",
    ],
    "speculative.types": "none",
    "timings_per_token": False,
    "post_sampling_probs": False,
    "backend_sampling": False,
    "lora": [],
}


class Reply(Protocol):
    """The objects of one answer."""

    has_done: bool
    """Streams end with `[DONE]`."""

    def role(self, index: int) -> list[Body]: ...
    def progress(self, index: int, progress: Body) -> Body: ...
    def piece(self, index: int, token: Token, slot: Slot) -> Body: ...
    def end(self, index: int, plan: Plan, slot: Slot) -> list[Body]: ...
    def keep(self, index: int, plan: Plan, slot: Slot) -> None: ...
    def whole(self) -> Any: ...


class _Base:
    """What the dialects share; `keep` collects what `whole` prints."""

    kind = ""
    chunk_kind = ""

    def __init__(self, body: Body, settings: LlamaSettings, vocabulary: Vocabulary) -> None:
        self.body = body
        self.settings = settings
        self.vocabulary = vocabulary
        self.id = f"chatcmpl-{random_id()}"
        self.created = int(time.time())
        self.kept: list[tuple[Plan, Body, Body]] = []

    def keep(self, index: int, plan: Plan, slot: Slot) -> None:
        """Remember one answer that is complete."""
        del index
        self.kept.append((plan, slot.timings().as_dict(), _usage(slot)))

    def _head(self, kind: str) -> Body:
        return {
            "created": self.created,
            "id": self.id,
            "model": self.settings.model,
            "system_fingerprint": FINGERPRINT,
            "object": kind,
        }

    def _timed(self, slot: Slot) -> Body:
        return {"timings": slot.timings().as_dict()} if self.body.get("timings_per_token") else {}

    def _probabilities(self, token: Token, count: int) -> list[Body]:
        number = self.vocabulary.encode(token.text)
        word = {
            "id": number[0] if number else 0,
            "token": token.text,
            "bytes": list(token.text.encode()),
            "logprob": -0.5,
        }
        return [word | {"top_logprobs": [word for _ in range(count)]}]


class ChatReply(_Base):
    """`/v1/chat/completions`."""

    has_done = True

    def role(self, index: int) -> list[Body]:
        """The chunk before everything."""
        return [self._chunk(index, {"role": "assistant", "content": None}, None)]

    def progress(self, index: int, progress: Body) -> Body:
        """How much of the prompt is read."""
        return self.role(index)[0] | {"prompt_progress": progress}

    def piece(self, index: int, token: Token, slot: Slot) -> Body:
        """One token."""
        delta: Body = {"content": token.text}
        if token.thinking:
            delta = {"reasoning_content": token.thinking}
        elif token.call_piece:
            delta = {"tool_calls": [_call_piece(token)]}
        chunk = self._chunk(index, delta, None) | self._timed(slot)
        if self.body.get("logprobs") and token.text:
            content = self._probabilities(token, self.body.get("top_logprobs") or 20)
            chunk["choices"][0]["logprobs"] = {"content": content}
        return chunk

    def end(self, index: int, plan: Plan, slot: Slot) -> list[Body]:
        """The chunks after the last token; timings are on the last."""
        chunks = [self._chunk(index, {}, _reason(plan))]
        if _wants_usage(self.body):
            usage: Body = {"choices": []} | self._head("chat.completion.chunk")
            chunks.append(usage | {"usage": _usage(slot)})
        chunks[-1]["timings"] = slot.timings().as_dict()
        return chunks

    def whole(self) -> Body:
        """The body of an answer that is not streamed."""
        choices = [self._choice(index, plan) for index, (plan, _, _) in enumerate(self.kept)]
        _, timings, usage = self.kept[-1]
        head = self._head("chat.completion")
        return {"choices": choices} | head | {"usage": usage, "timings": timings}

    def _choice(self, index: int, plan: Plan) -> Body:
        message: Body = {"role": "assistant", "content": "".join(t.text for t in plan.tokens)}
        if thinking := "".join(token.thinking for token in plan.tokens):
            message["reasoning_content"] = thinking
        if plan.calls_tool:
            arguments = "".join(token.call_piece for token in plan.tokens)
            function = {"name": plan.tokens[0].call_name, "arguments": arguments}
            call = {"type": "function", "function": function, "id": random_id()}
            message["tool_calls"] = [call]
        choice: Body = {"finish_reason": _reason(plan), "index": index, "message": message}
        if self.body.get("logprobs"):
            count = self.body.get("top_logprobs") or 20
            words = [w for t in plan.tokens if t.text for w in self._probabilities(t, count)]
            choice["logprobs"] = {"content": words}
        return choice

    def _chunk(self, index: int, delta: Body, reason: str | None) -> Body:
        choice = {"finish_reason": reason, "index": index, "delta": delta}
        return {"choices": [choice]} | self._head("chat.completion.chunk")


class TextReply(_Base):
    """`/v1/completions`: its finish chunk carries the usage, asked for or not."""

    has_done = True

    def role(self, index: int) -> list[Body]:
        """Nothing comes before the first token."""
        del index
        return []

    def progress(self, index: int, progress: Body) -> Body:
        """How much of the prompt is read."""
        return self._chunk(index, "", None, None) | {"prompt_progress": progress}

    def piece(self, index: int, token: Token, slot: Slot) -> Body:
        """One token."""
        return self._chunk(index, token.text, self._logprobs([token]), None) | self._timed(slot)

    def end(self, index: int, plan: Plan, slot: Slot) -> list[Body]:
        """The chunk after the last token."""
        tail = {"usage": _usage(slot), "timings": slot.timings().as_dict()}
        return [self._chunk(index, "", None, _reason(plan)) | tail]

    def whole(self) -> Body:
        """The body of an answer that is not streamed."""
        choices = [
            {
                "text": "".join(token.text for token in plan.tokens),
                "index": index,
                "logprobs": self._logprobs(plan.tokens),
                "finish_reason": _reason(plan),
            }
            for index, (plan, _, _) in enumerate(self.kept)
        ]
        _, timings, usage = self.kept[-1]
        head = self._head("text_completion")
        return {"choices": choices} | head | {"usage": usage, "timings": timings}

    def _logprobs(self, tokens: tuple[Token, ...] | list[Token]) -> Body | None:
        count = self.body.get("logprobs")
        if not count:
            return None
        return {"content": [w for t in tokens for w in self._probabilities(t, int(count))]}

    def _chunk(self, index: int, text: str, logprobs: Body | None, reason: str | None) -> Body:
        choice = {"text": text, "index": index, "logprobs": logprobs, "finish_reason": reason}
        return {"choices": [choice]} | self._head("text_completion")


class NativeReply(_Base):
    """`/completion` and `/infill`: no `[DONE]`, the last object says `stop`."""

    has_done = False

    def role(self, index: int) -> list[Body]:
        """Nothing comes before the first token."""
        del index
        return []

    def progress(self, index: int, progress: Body) -> Body:
        """How much of the prompt is read."""
        chunk = self._chunk(index, "", [0], 0, progress["total"])
        return chunk | {"prompt_progress": progress}

    def piece(self, index: int, token: Token, slot: Slot) -> Body:
        """One token."""
        numbers = self.vocabulary.encode(token.text)
        chunk = self._chunk(index, token.text, numbers, slot.decoded, len(slot.prompt))
        if count := self.body.get("n_probs"):
            chunk["completion_probabilities"] = self._probabilities(token, count)
        return chunk | self._timed(slot)

    def end(self, index: int, plan: Plan, slot: Slot) -> list[Body]:
        """The object after the last token: all of the answer but its text."""
        return [self._stop(index, plan, slot, "", [])]

    def keep(self, index: int, plan: Plan, slot: Slot) -> None:
        """Remember one answer that is complete."""
        text = "".join(token.text for token in plan.tokens)
        numbers = self.vocabulary.encode(text) if self.body.get("return_tokens") else []
        answer = self._stop(index, plan, slot, text, numbers)
        if count := self.body.get("n_probs"):
            words = [w for t in plan.tokens for w in self._probabilities(t, count)]
            answer["completion_probabilities"] = words
        self.kept.append((plan, answer, {}))

    def whole(self) -> Any:
        """The body of an answer that is not streamed."""
        answers = [answer for _, answer, _ in self.kept]
        wanted = self.body.get("response_fields")
        if isinstance(wanted, list):
            answers = [{key: a[key] for key in wanted if key in a} for a in answers]
        return answers if len(answers) > 1 else answers[0]

    def _chunk(self, index: int, text: str, numbers: list[int], done: int, read: int) -> Body:
        return {
            "index": index,
            "content": text,
            "tokens": numbers,
            "stop": False,
            "id_slot": -1,
            "tokens_predicted": done,
            "tokens_evaluated": read,
        }

    def _stop(self, index: int, plan: Plan, slot: Slot, text: str, numbers: list[int]) -> Body:
        return {
            "index": index,
            "content": text,
            "tokens": numbers,
            "id_slot": slot.number,
            "stop": True,
            "model": self.settings.model,
            "tokens_predicted": slot.decoded,
            "tokens_evaluated": len(plan.prompt),
            "generation_settings": generation_settings(self.body),
            "prompt": "".join(plan.prompt),
            "has_new_line": False,
            "truncated": plan.is_truncated,
            "stop_type": plan.stop_type,
            "stopping_word": plan.stopping_word,
            "tokens_cached": len(plan.prompt) + slot.decoded - 1,
            "timings": slot.timings().as_dict(),
        }


def generation_settings(body: Body) -> Body:
    """What a request is sampled with, as its answer tells."""
    more: Body = {
        "dry_sequence_breakers": ["\n", ":", '"', "*"],
        "stop": body.get("stop") or [],
        # What forbids the end is a bias against its tokens.
        "logit_bias": [{"bias": None, "token": 1}] if body.get("ignore_eos") else [],
        "grammar": body.get("grammar") or ("root ::= value" if "json_schema" in body else ""),
        "grammar_lazy": False,
        "grammar_triggers": [],
        "preserved_tokens": [],
        "reasoning_format": "deepseek",
    }
    return sampling(body) | more


def sampling(body: Body) -> Body:
    """The part of it that a slot tells."""
    told = {name: body[name] for name in SAMPLING if body.get(name) is not None}
    if "messages" in body:
        told |= {"chat_format": "peg-native", "generation_prompt": "<|im_start|>assistant\n"}
    return SAMPLING | told


def random_id() -> str:
    """Letters and digits, as ids of answers and calls have them."""
    return "".join(random.choices(string.ascii_letters + string.digits, k=32))


def _call_piece(token: Token) -> Body:
    function: Body = {"arguments": token.call_piece}
    if not token.call_name:
        return {"index": 0, "function": function}
    named = {"name": token.call_name} | function
    return {"index": 0, "id": random_id(), "type": "function", "function": named}


def _reason(plan: Plan) -> str:
    if plan.calls_tool:
        return "tool_calls"
    return "length" if plan.stop_type == "limit" else "stop"


def _wants_usage(body: Body) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _usage(slot: Slot) -> Body:
    read, done = len(slot.prompt), slot.decoded
    return {
        "completion_tokens": done,
        "prompt_tokens": read,
        "total_tokens": read + done,
        "prompt_tokens_details": {"cached_tokens": slot.cached},
    }
