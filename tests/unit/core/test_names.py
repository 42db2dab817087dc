"""Names are parsed, compared and printed as Ollama does; the tables come from its own code."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sollold.core.model import ModelKey
from sollold.core.names import ModelName, Source, display_of, key_of, parse, split_source

_DISPLAYS = [
    ("llama3.2", "llama3.2:latest"),
    ("library/llama3.2", "llama3.2:latest"),
    ("registry.ollama.ai/library/llama3.2:latest", "llama3.2:latest"),
    ("REGISTRY.OLLAMA.AI/Library/Llama3.2", "Llama3.2:latest"),
    ("user/model", "user/model:latest"),
    ("hf.co/o/R-GGUF:Q4_K_M", "hf.co/o/R-GGUF:Q4_K_M"),
    ("http://localhost:5000/ns/m:t", "localhost:5000/ns/m:t"),
    ("hf.co/library/m", "hf.co/library/m:latest"),
    ("_m", "_m:latest"),
    ("http:///ns/m", "ns/m:latest"),
    ("a b://host/ns/m", "host/ns/m:latest"),
]

_INVALID = [
    "", ":", "m:", ":t", "/m", "m/", "a//b", "-m", ".m", "x y", "a/b/c/d", "host:5000/m",
    "ns.dot/m", "m@sha256:ab", "m:t:u", "é", "m\n", "\nm", "m:a b", "-ns/m", "-host/ns/m", "x://y://host/ns/m",
    "://ns/m", "http://m", "m" * 81, "m:" + "t" * 81, "n" * 81 + "/m", "h" * 351 + "/n/m",
]  # fmt: skip

_PART = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", fullmatch=True)
_NAMESPACE = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", fullmatch=True)
_HOST = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,60}", fullmatch=True)
_NAMES = st.builds(
    ModelName, host=_HOST, namespace=_NAMESPACE, model=_PART, tag=_PART, scheme=st.just("https")
)


@pytest.mark.parametrize(("name", "display"), _DISPLAYS)
def test_display_leaves_defaults_out_and_keeps_the_tag(name: str, display: str) -> None:
    parsed = parse(name)
    assert parsed is not None
    assert parsed.display == display


@pytest.mark.parametrize("name", _INVALID)
def test_invalid_names_are_refused(name: str) -> None:
    assert parse(name) is None


def test_parts_at_their_longest_are_valid() -> None:
    parsed = parse(f"{'h' * 350}/{'n' * 80}/{'m' * 80}:{'t' * 80}")
    assert parsed is not None
    assert len(parsed.full) == 350 + 80 + 80 + 80 + 3


def test_all_parts_and_the_scheme_are_found() -> None:
    assert parse("http://Host:5000/ns/M:T") == ModelName(
        host="Host:5000", namespace="ns", model="M", tag="T", scheme="http"
    )
    assert parse("m") == ModelName(
        host="registry.ollama.ai", namespace="library", model="m", tag="latest", scheme="https"
    )


def test_full_is_what_capability_errors_print() -> None:
    parsed = parse("M")
    assert parsed is not None
    assert parsed.full == "registry.ollama.ai/library/M:latest"


@pytest.mark.parametrize(
    "name",
    [
        "llama3.2",
        "LLAMA3.2",
        "library/llama3.2",
        "registry.ollama.ai/library/llama3.2:latest",
        " llama3.2:Latest\n",
        "http://registry.ollama.ai/library/llama3.2",
    ],
)
def test_all_spellings_of_a_model_share_a_key(name: str) -> None:
    assert key_of(name) == "registry.ollama.ai/library/llama3.2:latest"


def test_a_name_that_is_too_long_has_no_key_and_is_not_kept() -> None:
    name = "x" * 1000 + "://h/n/m"
    assert parse(name) is not None
    assert parse("x" * 100 + name) is None
    assert key_of("x" * 100 + name) is None
    assert key_of("m" * 2000) is None


@given(_NAMES)
def test_what_is_printed_parses_to_the_same(name: ModelName) -> None:
    assert parse(name.full) == name
    again = parse(name.display)
    assert again is not None
    assert again.key == name.key
    assert key_of(name.full.upper()) == name.key


@given(st.text(alphabet="ab:/.-_@ \n{}é", max_size=40))
def test_parsing_never_fails_and_a_key_is_its_own_key(text: str) -> None:
    key = key_of(text)
    assert (key is None) == (parse(text.strip()) is None)
    if key is not None:
        assert key_of(key) == key


@settings(max_examples=25)
@given(st.sampled_from(["://", ":/", "a:", "a/", "/:"]), st.integers(200, 500))
def test_hostile_names_are_refused_quickly(unit: str, times: int) -> None:
    assert parse((unit * times)[:1024] + " ") is None


@pytest.mark.parametrize(
    ("name", "base", "source"),
    [
        ("gpt-oss:20b-cloud", "gpt-oss:20b", Source.CLOUD),
        ("gpt-oss:20b:cloud", "gpt-oss:20b", Source.CLOUD),
        ("gpt-oss:CLOUD", "gpt-oss", Source.CLOUD),
        (" gpt-oss: cloud ", "gpt-oss", Source.CLOUD),
        ("m:local", "m", Source.LOCAL),
        ("m:8b:Local", "m:8b", Source.LOCAL),
        ("m:8b", "m:8b", Source.ANY),
        ("my-cloud-model", "my-cloud-model", Source.ANY),
        ("my-cloud", "my-cloud", Source.ANY),
        ("host:5000/ns/my-cloud", "host:5000/ns/my-cloud", Source.ANY),
        (" m ", "m", Source.ANY),
        ("m:cloud:local", "m:cloud:local", Source.BOTH),
        ("m:20b-cloud:cloud", "m:20b-cloud:cloud", Source.BOTH),
        ("m:-cloud", "m:", Source.CLOUD),
    ],
)
def test_source_suffixes_are_taken_off(name: str, base: str, source: Source) -> None:
    assert split_source(name) == (base, source)


def test_a_key_in_short_and_what_is_no_key() -> None:
    assert display_of(ModelKey("registry.ollama.ai/library/llama3.2:latest")) == "llama3.2:latest"
    assert display_of(ModelKey("no key at all")) == "no key at all"
