"""The sources of configuration: files, environment, flags. Each becomes one layer."""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import TYPE_CHECKING

import msgspec
from msgspec import inspect

from sollold.config.address import parse_ollama_host
from sollold.config.decode import Layer, Origin, Problem
from sollold.config.keys import Key, Path, config_keys
from sollold.config.locate import locate
from sollold.config.predecessor import FLAGS, VARIABLES, variable_note
from sollold.config.schema import NOT_YET
from sollold.config.text import read_small
from sollold.config.values import masked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path as FilePath

PREFIX = "SOLLOLD_"
"""Environment variables that set keys start with this."""

OTHER_PROGRAMS = re.compile(r"SOLLOLD_(URL|KEY|TEST_\w*)")
"""Variables of sollolctl and of the tests."""

_SERVICE_LINK = re.compile(r"SOLLOLD_(SERVICE_\w+|PORT_[0-9]+_\w+|(ENV|NAME)(_\w+)?)")
"""What Kubernetes and Docker say of a service or container that is called sollold, and its port."""

_USUAL = {
    "SOLLOLD_PORT": "SOLLOLD_LISTEN__API",
    "SOLLOLD_HOST": "SOLLOLD_LISTEN__API",
    "SOLLOLD_ADDR": "SOLLOLD_LISTEN__API",
    "SOLLOLD_CONFIG": "the flag --config",
}
"""What other programs call such a setting."""

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_NUMBER = re.compile(r"[0-9_]+")
_ROW_KEY = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=")
_ROW_HEADER = re.compile(r"\s*\[+\s*([A-Za-z0-9_.-]+)\s*\]")
_PARTS = re.compile(r"\('[^()]*'(, '[^()]*')*,?\)")
_PART = re.compile(r"'([^']*)'")
"""A table's name, as tomllib writes it: `('log', 'x')`."""

_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line said; empty means not given."""

    listen: tuple[str, ...] = ()
    console: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    log_level: str = ""
    log_format: str = ""
    old: tuple[tuple[str, str], ...] = ()
    """Flags of the predecessor, each with what follows it."""

    def old_value(self, name: str) -> str:
        """Return what followed a flag of the predecessor; the last one counts."""
        return dict(self.old).get(name, "")


def file_layer(path: FilePath, *, is_required: bool) -> Layer | None:
    """Read one TOML file; None when it is absent and need not exist."""
    at_file = Layer(lambda _: Origin("file", str(path)))
    fault = text = ""
    try:
        text = read_small(path).decode("utf-8-sig")
        raw = tomllib.loads(text)
        layer = Layer(_file_locator(path, locate(text)))
        layer.add_table(raw)
        return layer
    except FileNotFoundError:
        if not is_required:
            return None
        fault = "does not exist; name a file that does, or leave out --config"
    except OSError as exc:
        fault = f"cannot be read: {exc.strerror}; make it a file this user may read"
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        origin = Origin("file", str(path), line)
        at_file.problems.append(Problem(origin, (), "is not UTF-8 text; save it as UTF-8"))
    except tomllib.TOMLDecodeError as exc:
        at_file.problems.append(_syntax_problem(path, text, exc))
    except (ValueError, RecursionError) as exc:
        at_file.problems.append(_excess_problem(path, text, exc))
    if fault:
        at_file.problems.append(Problem(Origin("file", str(path)), (), fault))
    return at_file


def environment_layer(environ: Mapping[str, str]) -> tuple[Layer, list[str]]:
    """Read every `SOLLOLD_SECTION__KEY`; also returns what was noticed and ignored."""
    variables = {variable(path): path for path in config_keys()}
    layer = Layer(lambda path: Origin("environment", variable(path)))
    notes: list[str] = []
    for name in sorted(environ):
        if name in variables and _is_no_text(environ[name]):
            text = "is not UTF-8 text; set it to text in UTF-8"
            layer.problems.append(Problem(Origin("environment", name), variables[name], text))
            layer.failed.add(variables[name])
        elif name in variables:
            path = variables[name]
            layer.add(path, _raw_value(config_keys()[path], environ[name]))
        elif _is_service_link(name, environ[name]):
            notes.append(f"{name} is not a setting of sollold and has no effect")
        elif name.startswith(PREFIX) and not OTHER_PROGRAMS.fullmatch(name):
            layer.problems.append(_unknown_variable(name, variables))
        elif (note := variable_note(name)) is not None:
            notes.append(note)
    return layer, notes


def old_environment_layer(environ: Mapping[str, str]) -> Layer:
    """Read the predecessor's variables that set keys; `SOLLOLD_SECTION__KEY` is stronger."""
    names: dict[Path, str] = {
        tuple(word.key.split(".")): word.name for word in VARIABLES if word.fate == "taken"
    }
    layer = Layer(lambda path: Origin("environment", names[path]))
    for path, name in names.items():
        if environ.get(name):
            layer.add(path, _raw_value(config_keys()[path], environ[name]))
    return layer


def ollama_layer(environ: Mapping[str, str]) -> tuple[Layer, list[str]]:
    """Read what Ollama's own variables say; only defaults are weaker."""
    names: dict[Path, str] = {
        ("discovery", "ollama_host"): "OLLAMA_HOST",
        ("http", "origins"): "OLLAMA_ORIGINS",
    }
    layer = Layer(lambda path: Origin("environment", names[path]))
    notes: list[str] = []
    host = environ.get("OLLAMA_HOST", "").strip()
    if host:
        try:
            layer.add(("discovery", "ollama_host"), str(parse_ollama_host(host)))
        except ValueError as exc:
            notes.append(f"OLLAMA_HOST is ignored: it {exc}")
    origins = _split(environ.get("OLLAMA_ORIGINS", ""))
    usable = [origin for origin in origins if origin_fault(origin) is None]
    notes += [
        f'OLLAMA_ORIGINS: "{masked(text)}" is ignored' for text in origins if text not in usable
    ]
    if usable:
        layer.add(("http", "origins"), usable)
    return layer, notes


def flag_layer(flags: Flags) -> Layer:
    """Read the command line."""
    names: dict[Path, tuple[str, object]] = {
        ("listen", "api"): ("--listen", list(flags.listen)),
        ("listen", "console"): ("--console", list(flags.console)),
        ("nodes",): (
            "--node" if flags.nodes else "--ollama-nodes",
            [{"url": url} for url in (*flags.nodes, *_split(flags.old_value("--ollama-nodes")))],
        ),
        ("discovery", "hosts_file"): ("--hosts", flags.old_value("--hosts")),
        ("log", "level"): ("--log-level", flags.log_level),
        ("log", "format"): ("--log-format", flags.log_format),
    }
    layer = Layer(lambda path: Origin("flag", names[path[: 1 if path[0] == "nodes" else 2]][0]))
    for path, (_, raw) in names.items():
        if raw:
            layer.add(path, raw)
    return layer


def flag_notes(flags: Flags) -> list[str]:
    """Say which flags of the predecessor do nothing here."""
    given = dict(flags.old)
    return [
        f"{flag.name} has no effect: {flag.text}"
        for flag in FLAGS
        if flag.name in given and flag.fate == "no effect"
    ]


def variable(path: Path) -> str:
    """Return the environment variable that sets the key at a path."""
    names = [part for part in path if isinstance(part, str)]
    if names[0] == "nodes":
        names = names[:1]
    return PREFIX + "__".join(names).upper()


def origin_fault(text: str) -> str | None:
    """Say what is wrong with one allowed origin, and the remedy."""
    if text.count("*") > 1:
        return "has more than one *; leave one"
    if text != "*" and "://" not in text:
        return 'has no scheme; write for example "https://chat.example.org" or "*"'
    return None


def _file_locator(path: FilePath, lines: dict[Path, int]) -> Callable[[Path], Origin]:
    def where(at: Path) -> Origin:
        while at and at not in lines:
            at = at[:-1]
        return Origin("file", str(path), lines.get(at, 0))

    return where


def _syntax_problem(path: FilePath, text: str, exc: tomllib.TOMLDecodeError) -> Problem:
    message = str(exc)
    place = _POSITION.search(message)
    line, column = text.rstrip("\n").count("\n") + 1, 1
    if place is not None:
        message = message[: place.start()]
        if place[1]:
            line, column = int(place[1]), int(place[2])
        else:
            column = len(text.rstrip("\n").rpartition("\n")[2]) + 1
    message = _PARTS.sub(lambda found: f"[{'.'.join(_PART.findall(found[0]))}]", message)
    what = f"is not valid TOML: {message[:1].lower()}{message[1:]}"
    remedy = 'texts need quotes, lists need [ ], and each key stands once: key = "text"'
    return Problem(Origin("file", str(path), line, column), (), f"{what}; {remedy}")


def _excess_problem(path: FilePath, text: str, exc: Exception) -> Problem:
    """Say what is beyond reading: in the line that has the most of it, most probably."""
    rows = text.splitlines()
    if isinstance(exc, RecursionError):
        what = "is nested too deep to be read; write it without so many brackets"
        sizes = [row.count("[") + row.count("{") for row in rows]
    else:
        what = "has a number that is too long to be read; write a shorter one"
        sizes = [max(map(len, _NUMBER.findall(row)), default=0) for row in rows]
    at = sizes.index(max(sizes))
    key = _ROW_KEY.match(rows[at])
    headers = [found[1] for row in rows[:at] if (found := _ROW_HEADER.match(row))]
    named = (*headers[-1:], key[1]) if key is not None else ()
    return Problem(Origin("file", str(path), at + 1), named, what)


def _is_service_link(name: str, value: str) -> bool:
    is_port = name == "SOLLOLD_PORT" and "://" in value
    return is_port or _SERVICE_LINK.fullmatch(name) is not None


def _unknown_variable(name: str, variables: dict[str, Path]) -> Problem:
    origin = Origin("environment", name)
    parts = tuple(name.removeprefix(PREFIX).lower().split("__"))
    later = NOT_YET.get(parts) or NOT_YET.get(parts[:1])
    if later:
        return Problem(origin, (), f"{later}; unset it")
    close = _meant(name, variables)
    remedy = f"did you mean {close}?" if close else "unset it; etc/sollold.toml lists every key"
    return Problem(origin, (), f"sets no known key; {remedy}")


def _meant(name: str, variables: dict[str, Path]) -> str:
    if name in _USUAL:
        return _USUAL[name]
    section = [known for known in variables if known.startswith(f"{name}__")]
    if section:
        return section[0]
    flat = {known.replace("__", "_"): known for known in variables}
    if name.replace("__", "_") in flat:
        return flat[name.replace("__", "_")]
    if name == PREFIX:
        return ""
    last = [known for known in variables if known.endswith(f"__{name.removeprefix(PREFIX)}")]
    return next(iter([*last, *difflib.get_close_matches(name, variables, n=1, cutoff=0.7)]), "")


def _is_no_text(value: str) -> bool:
    """Whether it holds bytes that are no UTF-8; Python keeps them as lone surrogates."""
    return any("\ud800" <= character <= "\udfff" for character in value)


def _raw_value(key: Key, text: str) -> object:
    if key.name == "nodes":
        return [{"url": url} for url in _split(text)]
    shape = key.shapes[0]
    match shape:
        case inspect.VarTupleType():
            return _split(text)
        case inspect.BoolType() if text.strip().lower() in _TRUE | _FALSE:
            return text.strip().lower() in _TRUE
        case inspect.IntType() | inspect.FloatType() if not (key.is_duration or key.is_size):
            return _number(text, int if isinstance(shape, inspect.IntType) else float)
    return text


def _number(text: str, kind: type[int | float]) -> object:
    try:
        return kind(text)
    except ValueError:
        return text


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
