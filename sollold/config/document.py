"""A configuration as the document that people and programs read. Secrets do not get in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sollold.api_config import ConfigDocument, ConfigProblem, ConfigValue
from sollold.config.keys import Key, Path, config_keys, node_keys, path_text, value_at
from sollold.config.values import masked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sollold.config.decode import Problem
    from sollold.config.load import LoadedConfig


def config_document(loaded: LoadedConfig, at: str) -> ConfigDocument:
    """Return every key with its value and origin, secrets hidden."""
    return ConfigDocument(
        at=at,
        files=tuple(str(path) for path in loaded.files),
        values=tuple(_values(loaded)),
    )


def _values(loaded: LoadedConfig) -> Iterator[ConfigValue]:
    for path, key in config_keys().items():
        if path != ("nodes",):
            yield _value(loaded, path, key)
            continue
        for index in range(len(loaded.config.nodes)):
            for name, node_key in node_keys().items():
                yield _value(loaded, ("nodes", index, name), node_key)


def _value(loaded: LoadedConfig, path: Path, key: Key) -> ConfigValue:
    name = path_text(path)
    origin = loaded.origin(name)
    value = value_at(loaded.config, path)
    return ConfigValue(
        key=name,
        value=value if key.is_path else _hidden(value),
        source=origin.source,
        origin=str(origin),
        is_live=key.is_live,
    )


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, tuple | list):
        return tuple(_hidden(item) for item in value)
    if isinstance(value, dict):
        return {name: _hidden(item) for name, item in value.items()}
    return value


def problem_document(problem: Problem) -> ConfigProblem:
    """Return a mistake as documents have it."""
    origin = problem.origin
    text, remedy = problem.parts
    return ConfigProblem(
        source=origin.source,
        where=origin.where,
        line=origin.line or None,
        key=path_text(problem.path) or None,
        text=text,
        remedy=remedy,
        shown=str(problem),
    )
