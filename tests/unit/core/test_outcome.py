"""Every row of the failure table that is decided by a reply alone."""

from __future__ import annotations

import pytest

from sollold.core.outcome import (
    Fault,
    is_incapable,
    is_same_refusal,
    judge_error_line,
    judge_status,
)


@pytest.mark.parametrize(
    ("status", "text", "fault", "may_retry", "reached"),
    [
        (200, "", Fault.NONE, False, True),
        (400, "bad", Fault.CLIENT, False, True),
        (413, "too large", Fault.CLIENT, False, True),
        (401, "", Fault.MISCONFIGURED, True, False),
        (403, "", Fault.MISCONFIGURED, True, False),
        (403, "ollama cloud is disabled: remote model is unavailable", Fault.CLIENT, False, True),
        (403, "You are not allowed to sample from this model", Fault.CLIENT, False, True),
        (404, "model 'x' not found", Fault.STALE_FACTS, True, False),
        (404, "404 page missing", Fault.CLIENT, False, True),
        (429, "slow down", Fault.SATURATED, True, False),
        (499, "request canceled", Fault.NODE, True, False),
        (500, 'option "num_ctx" must be of type integer', Fault.CLIENT, False, True),
        (500, "invalid format: expected", Fault.CLIENT, False, True),
        (500, "template error: x", Fault.CLIENT, False, True),
        (500, 'boom {"error":{"code":400,"message":"x"}}', Fault.CLIENT, False, True),
        (501, "This server does not support embeddings", Fault.CLIENT, False, True),
        (500, "This server does not support embeddings", Fault.CLIENT, False, True),
        (500, "the input length exceeds the context length", Fault.CLIENT, False, True),
        (500, "model runner has unexpectedly stopped", Fault.NODE, True, True),
        (502, "", Fault.NODE, True, True),
        (503, "Loading model", Fault.WARMING, True, False),
        (503, "server busy, please try again.", Fault.SATURATED, True, False),
    ],
)
def test_judge_status(status: int, text: str, fault: Fault, may_retry: bool, reached: bool) -> None:
    verdict = judge_status(status, text)
    assert (verdict.fault, verdict.may_retry, verdict.reached_engine) == (fault, may_retry, reached)


def test_a_missing_model_that_was_never_listed_is_the_callers() -> None:
    assert judge_status(404, "model 'x' not found", is_listed=False).fault is Fault.CLIENT


@pytest.mark.parametrize("text", ["", "You are not allowed to sample from this model"])
def test_a_403_of_another_engine_is_about_the_model(text: str) -> None:
    verdict = judge_status(403, text, is_ollama=False)
    assert (verdict.fault, verdict.may_retry, verdict.reached_engine) == (Fault.DENIED, True, False)
    assert verdict.is_unfit
    assert judge_status(401, text, is_ollama=False).fault is Fault.MISCONFIGURED
    assert not judge_status(401, text, is_ollama=False).is_unfit


def test_retry_after_is_kept() -> None:
    assert judge_status(429, "", retry_after_s=7.0).retry_after_s == 7.0


def test_error_line_is_judged_as_a_500() -> None:
    assert judge_error_line("an error was encountered: unexpected EOF").fault is Fault.NODE
    assert judge_error_line("invalid format: x").fault is Fault.CLIENT


@pytest.mark.parametrize(
    "text",
    [
        '"tiny" does not support thinking',
        '"tiny" does not support chat',
        "registry.ollama.ai/library/tiny:latest does not support tools",
        "registry.ollama.ai/library/tiny:latest does not support completion\ninsert",
        "tiny does not support vision",
    ],
)
def test_a_missing_capability_is_told_by_its_words(text: str) -> None:
    assert is_incapable(400, text)
    assert not is_incapable(500, text)
    assert not is_incapable(400, f"{text} yet")


def test_other_refusals_are_no_missing_capability() -> None:
    assert not is_incapable(400, "raw mode does not support template, system, or context")
    assert not is_incapable(400, '"tiny" does not support embeddings')


def test_same_refusal_needs_status_and_text() -> None:
    assert is_same_refusal((500, "x"), (500, "x"))
    assert not is_same_refusal((500, "x"), (500, "y"))
