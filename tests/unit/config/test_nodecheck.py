"""What `[[nodes]]` says of servers other than Ollama, and of certificates."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from sollold.config import Config, Flags, LoadArgs, Node, load, validate
from sollold.config.pin import parse_pin
from sollold.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

OTHERS = 'is for other servers than Ollama; write kind = "llama_server" or kind = "openai"'
PIN = hashlib.sha256(b"certificate").digest()


def faults(**fields: Any) -> list[str]:
    node = Node(**{"url": "https://ai.example.org", "kind": "openai", **fields})
    found = validate(Config(nodes=(node,)), environ={}, own_addresses=frozenset())
    return [f"{fault.paths[0][-1]}: {fault.text}" for fault in found]


def test_what_is_right_is_not_remarked_on(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    assert faults() == []
    assert faults(ca_file=str(ca_file)) == []
    assert faults(pin=PIN.hex()) == []
    assert faults(models={"qwen2.5:7b": "Qwen/Qwen2.5"}, same_as_ollama=("QWEN2.5:7b",)) == []
    assert faults(same_as_ollama=("anything",)) == []
    llama = {"kind": "llama_server", "url": "http://gpu:8080"}
    assert faults(**llama, model="qwen2.5:7b", same_as_ollama=("qwen2.5:7b",)) == []
    assert faults(url="http://gpu:11434", kind=None) == []


@pytest.mark.parametrize(
    "text",
    [
        PIN.hex(),
        PIN.hex().upper(),
        ":".join(f"{byte:02X}" for byte in PIN),
        f" sha256/{base64.b64encode(PIN).decode()} ",
    ],
)
def test_a_pin_is_read_as_other_tools_print_it(text: str) -> None:
    assert parse_pin(text) == PIN


@pytest.mark.parametrize("text", ["", "ab" * 20, "xy" * 32, "sha256/AAAA", "sha256/*", "SHA256:x"])
def test_what_is_no_pin_is_refused(text: str) -> None:
    (line,) = faults(pin=text)
    assert line.startswith(f'pin: "{text}" is no SHA-256; write the 64 hex digits')


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"url": "http://gpu:8000", "pin": PIN.hex()},
            "pin: http://gpu:8000 has no certificate; write https:// in url, or remove this",
        ),
        (
            {"url": "http://gpu", "kind": "llama_server"},
            'url: "http://gpu" names no port; write for example "http://gpu:8080"',
        ),
        ({"url": "gpu"}, 'url: "gpu" names no port; write for example "http://gpu:8000"'),
        (
            {"kind": "ollama", "models": {"m": "M"}},
            f"models: {OTHERS}",
        ),
        (
            {"kind": None, "same_as_ollama": ("m",)},
            f"same_as_ollama: {OTHERS}",
        ),
        (
            {"model": "m"},
            'model: cannot say which model is meant; write models = { "m" = "..." }',
        ),
        (
            {"kind": "llama_server", "model": "m", "models": {"m": "x"}},
            'model: cannot say which model is meant; write models = { "m" = "..." }',
        ),
        (
            {"models": {}},
            "models: offers nothing; write offered names with the engine's own, or remove it",
        ),
        ({"models": {"a b": "x"}}, 'models: "a b" is no model name; write it like "qwen2.5:7b"'),
        (
            {"models": {"m": "x", "M:latest": "y"}},
            'models: "M:latest" and "m" are one name; remove one',
        ),
        (
            {"models": {"m": " "}},
            'models: "m" stands for nothing; write the name that /v1/models lists',
        ),
        (
            {"models": {"m": "x"}, "same_as_ollama": ("n",)},
            'same_as_ollama: "n" is not offered here; write one of the names in models',
        ),
        (
            {"kind": "llama_server", "model": "m", "same_as_ollama": ("n",)},
            'same_as_ollama: "n" is not offered here; write one of the names in model',
        ),
        ({"same_as_ollama": ("",)}, 'same_as_ollama: "" is no model name; write it like'),
    ],
)
def test_what_is_wrong_is_told_with_the_remedy(fields: dict[str, Any], line: str) -> None:
    (found,) = faults(**fields)
    assert found.startswith(line)


SECRETS = [
    "http://user:sk-secret@h",
    "http://sk-secret@h:1/v1",
    "user:sk-secret@h:1",
    "user:sk-secret@h://x",
    "ftp://user:sk-secret@h",
    "http://h:1/v1?key=sk-secret",
    "http://h:1?key=sk-secret@x",
    "h?key=sk-secret://x",
    "http://h#sk-secret",
    "http://user:p?sk-secret@h",
    "http://user:sk-secret@h:1?key=sk-secret#sk-secret",
    "http://http://user:sk-secret@h",
]


@pytest.mark.parametrize("url", SECRETS)
def test_a_secret_in_an_address_is_not_repeated(tmp_path: Path, url: str) -> None:
    file, hosts = tmp_path / "s.toml", tmp_path / "hosts"
    hosts.write_text(f"{url}\n")
    file.write_text(
        f"listen = '{url}'\nnodes = ['{url}']\n[discovery]\nollama_host = '{url}'\n"
        f"hosts_file = '{hosts}'\n[log]\nlevel = '{url}'\n"
        f"[http]\norigins = '{url}*.*'\nversion_floor = ['{url}']\n"
    )
    lines: list[str] = []
    for args in (
        LoadArgs(config=file),
        LoadArgs(environ={"SOLLOLD_NODES": url, "SOLLOLD_LISTEN__API": url}),
        LoadArgs(flags=Flags(nodes=(url,), listen=(url,), console=(url,), log_level=url)),
    ):
        with pytest.raises(ConfigError) as caught:
            load(args)
        lines += caught.value.problems
    notes = load(LoadArgs(environ={"OLLAMA_HOST": url, "OLLAMA_ORIGINS": url})).notes
    assert len(lines) >= 12
    assert "sk-secret" not in "\n".join([*lines, *notes])
    assert any("***" in line for line in lines)


def test_an_address_is_shown_without_its_secret_parts() -> None:
    (line,) = faults(url="http://user:sk-secret@h:1/v1?key=k")
    assert line.startswith('url: "http://***@h:1/v1?***" carries a user or password; put a key in')
    (line,) = faults(url="http://h:1/v1?key=k")
    assert line.startswith('url: "http://h:1/v1?***" has a query or fragment')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sk-secret-123", "is no name of a variable; write the name of one that holds the key"),
        ("", "is no name of a variable"),
        ("hf_secret123", "names no variable that is set; set it for the daemon, and write its"),
        ("AIzaSYsecret", "names no variable that is set"),
        ("AKIA5SECRET7EXAMPLE0", "names no variable that is set"),
    ],
)
def test_a_key_in_place_of_its_variable_is_not_repeated(text: str, words: str) -> None:
    (line,) = faults(key_env=text)
    assert line.startswith(f"key_env: {words}")
    assert "secret" not in line.lower()


@pytest.mark.parametrize("key", ["sk\nx", "sk-x\n", "sk\r", "s\tk", "s\x00k", "s\x7fk", "s\x85k",
                                 "\u20ac", "sk\u200b", "sk\udcff"])  # fmt: skip
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    node = Node(url="https://ai.example.org", kind="openai", key_env="CLOUD_KEY")
    (fault,) = validate(Config(nodes=(node,)), environ={"CLOUD_KEY": key})
    assert fault.paths == (("nodes", 0, "key_env"),)
    assert fault.text == (
        'the variable "CLOUD_KEY" holds a line break or another character no header can carry; '
        "set it to the key alone"
    )


@pytest.mark.parametrize("key", ["sk-good", "sk good~", "\u00e9"])
def test_a_key_that_a_header_carries_is_taken(key: str) -> None:
    node = Node(url="https://ai.example.org", kind="openai", key_env="any.name")
    assert validate(Config(nodes=(node,)), environ={"any.name": key}) == []


def test_a_key_of_another_type_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[[nodes]]\nurl = 'https://a'\nkey_env = ['sk-secret']\n")
    with pytest.raises(ConfigError) as caught:
        load(LoadArgs(config=file))
    (line,) = caught.value.problems
    assert "key_env: expected a text in quotes, got another value; write for example" in line
    assert "sk-secret" not in line


def test_an_authority_must_be_a_file_with_one(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    (line,) = faults(ca_file=str(file))
    assert line.endswith(
        "cannot be read: No such file or directory; name a file this user may read"
    )
    file.write_text("nothing")
    (line,) = faults(ca_file=str(file))
    assert "holds no certificate; name a PEM file" in line
    trustme.CA().cert_pem.write_to_path(file)
    (line,) = faults(ca_file=str(file), pin=PIN.hex())
    assert line == "pin: a pinned certificate needs no authority; remove ca_file or pin"


def test_faults_have_a_line_and_paths_start_at_their_file(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    file = tmp_path / "s.toml"
    text = "[[nodes]]\nurl = 'https://a'\nkind = 'openai'\nca_file = 'ca.pem'\n"
    file.write_text(text + "[nodes.models]\n'qwen2.5:7b' = 'Qwen'\n")
    (node,) = load(LoadArgs(config=file)).config.nodes
    assert node.ca_file == str(tmp_path / "ca.pem")
    assert node.models == {"qwen2.5:7b": "Qwen"}
    file.write_text(text + "models = { m = 5 }\n")
    with pytest.raises(ConfigError) as caught:
        load(LoadArgs(config=file))
    (line,) = caught.value.problems
    assert line == (
        f'{file}:5: nodes[0].models: expected a table of texts, but "m" is 5; write for example '
        'models = { "qwen2.5:7b" = "Qwen/Qwen2.5-7B-Instruct" }'
    )
    file.write_text(text + "models = { a = 'b', qwen2.5 = 'Qwen' }\n")
    with pytest.raises(ConfigError) as caught:
        load(LoadArgs(config=file))
    assert 'but "qwen2" is a table (a name with a dot needs quotes); write' in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("'vllm'", 'got "vllm"; llama.cpp\'s own server is "llama_server"; vLLM, LM Studio'),
        ("'LM Studio'", 'vLLM, LM Studio and clouds are "openai"'),
        ("'llama'", 'llama.cpp\'s own server is "llama_server"'),
        ("5", 'vLLM, LM Studio and clouds are "openai"'),
        ("'llama-server'", 'got "llama-server"; write "llama_server"'),
        ("'OpenAI'", 'got "OpenAI"; write "openai"'),
    ],
)
def test_the_kinds_are_listed_with_what_is_which(tmp_path: Path, kind: str, remedy: str) -> None:
    file = tmp_path / "s.toml"
    file.write_text(f"[[nodes]]\nurl = 'https://a'\nkind = {kind}\n")
    with pytest.raises(ConfigError) as caught:
        load(LoadArgs(config=file))
    (line,) = caught.value.problems
    assert 'expected one of "ollama", "llama_server", "openai", got' in line
    assert remedy in line
    assert "did you mean" not in line
