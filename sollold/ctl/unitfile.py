"""Unit files: the shipped text, made to fit an installation, and sealed so that edits show.

The first lines of what is written carry a digest of the rest: a file whose digest fits is ours to
replace, any other is somebody's work.
"""

from __future__ import annotations

import hashlib
import re

SERVICE = "sollold.service"
SOCKET = "sollold.socket"

_SEAL = "# Written by sollolctl service install; sha256 of the rest: "
_ADVICE = "# Change it by a drop-in, which outlives the next installation: {edit} {name}"
_EXEC_START = re.compile(r"^ExecStart=.*$", re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z0-9/._+:@=,-]+")


def unit_text(name: str, *, template: str, command: str, is_system: bool) -> str:
    """Return what to write for a unit of that name; `command` replaces that of the template."""
    edit = "systemctl edit" if is_system else "systemctl --user edit"
    body = _EXEC_START.sub(lambda _: f"ExecStart={command}", template)
    rest = f"{_ADVICE.format(edit=edit, name=name)}\n\n{body}"
    return f"{_SEAL}{_digest(rest)}\n{rest}"


def is_as_written(text: str) -> bool:
    """Return whether nobody has changed a file since it was written here."""
    head, _, rest = text.partition("\n")
    return head.startswith(_SEAL) and head.removeprefix(_SEAL) == _digest(rest)


def is_sealed(text: str) -> bool:
    """Return whether a file was once written here, edited since or not."""
    return text.startswith(_SEAL)


def exec_words(argv: list[str]) -> str:
    """Return a command line for ExecStart=; ValueError when no unit file can hold it."""
    return " ".join(_quoted(word) for word in argv)


def _quoted(word: str) -> str:
    if not word.isprintable():
        raise ValueError(f"{word!r} holds characters that no unit file can hold")
    # Specifiers are replaced inside quotes too.
    escaped = word.replace("%", "%%")
    if _PLAIN.fullmatch(word):
        return escaped
    escaped = escaped.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
