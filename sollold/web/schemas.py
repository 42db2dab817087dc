"""The schemas of the OpenAPI document: of our own documents, of events, of errors in each dialect.

Names, types and sentences are those of the structs that are encoded; only shapes that no struct has
are written out here.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from sollold.api_types import ErrorDocument, EventsDocument
from sollold.events.candidates import CandidateView
from sollold.events.ring import Head
from sollold.events.types import EVENT_CLASSES, event_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sollold.events.base import EventBase

Schema = dict[str, Any]

EVENT = "Event"
OLLAMA_ERROR = "OllamaError"
OPENAI_ERROR = "OpenAIError"
OUR_ERROR = ErrorDocument.__name__

_PLACE = "#/components/schemas/"
_TEXT: Schema = {"type": "string"}
_MAYBE_TEXT: Schema = {"anyOf": [{"type": "string"}, {"type": "null"}]}

_GAP: Schema = {
    "title": "Gap",
    "description": "Stands where a slow reader lost events.",
    "type": "object",
    "properties": {
        "event_type": {"enum": ["GAP"]},
        "timestamp": _TEXT,
        "kind": {"enum": ["gap"]},
        "text": _TEXT,
        "dropped": {"type": "integer"},
    },
    "required": ["event_type", "timestamp", "kind", "text", "dropped"],
}
_OLLAMA_ERROR: Schema = {
    "title": OLLAMA_ERROR,
    "description": "An error in Ollama's words. In a stream it is the last line.",
    "type": "object",
    "properties": {"error": _TEXT},
    "required": ["error"],
}
_OPENAI_ERROR: Schema = {
    "title": OPENAI_ERROR,
    "description": "An error in OpenAI's shape.",
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": _MAYBE_TEXT,
                "code": _MAYBE_TEXT,
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": _PLACE + name}


def schemas(answers: Iterable[type], bodies: Iterable[type]) -> dict[str, Schema]:
    """Return the schemas by name: of these documents, of events and of errors."""
    answered = (*answers, ErrorDocument)
    found = _components(answered)
    sentences = _Sentences()
    for struct in _structs(answered):
        found[struct.__name__] = _sent(found[struct.__name__], struct)
        sentences.describe(found[struct.__name__], struct)
    if EventsDocument.__name__ in found:
        found[EventsDocument.__name__]["properties"]["events"]["items"] = ref(EVENT)
    found |= _components(bodies)
    found |= _events(sentences)
    found |= {"Gap": _GAP, OLLAMA_ERROR: _OLLAMA_ERROR, OPENAI_ERROR: _OPENAI_ERROR}
    return dict(sorted(found.items()))


def _components(types: Iterable[type]) -> dict[str, Schema]:
    return msgspec.json.schema_components(types, ref_template=_PLACE + "{name}")[1]


def _sent(schema: Schema, struct: type[msgspec.Struct]) -> Schema:
    """Return the schema of what is sent: unless a struct omits them, all its fields are there."""
    properties = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in schema["properties"].items()
    }
    is_whole = not struct.__struct_config__.omit_defaults
    required = list(properties) if is_whole else schema.get("required", [])
    return schema | {"properties": properties, "required": required}


def _events(sentences: _Sentences) -> dict[str, Schema]:
    """Return a schema for each type of event, and the one that stands for them all."""
    components = _components(EVENT_CLASSES)
    # What is kept is a row of figures, what is sent is an object.
    components.pop("Candidate")
    components["RouteDecision"]["properties"]["candidates"]["items"] = ref("CandidateView")
    components["CandidateView"] = _sent(components["CandidateView"], CandidateView)
    head = _sent(_components([Head])[Head.__name__], Head)
    for event in EVENT_CLASSES:
        schema = _sent(components[event.__name__], event)
        sentences.describe(schema, event)
        components[event.__name__] = _with_head(schema, head, event)
    components[EVENT] = {
        "title": EVENT,
        "description": "Something that happened, told apart by `event_type`.",
        "oneOf": [ref(event.__name__) for event in EVENT_CLASSES],
        "discriminator": {
            "propertyName": "event_type",
            "mapping": {event_type(event): _PLACE + event.__name__ for event in EVENT_CLASSES},
        },
    }
    return components


def _with_head(schema: Schema, head: Schema, event: type[EventBase]) -> Schema:
    properties = head["properties"] | {"kind": {"enum": [event.kind]}} | schema["properties"]
    return schema | {"properties": properties, "required": [*head["required"], *schema["required"]]}


def _structs(types: Iterable[type]) -> list[type[msgspec.Struct]]:
    """Return these structs and all that they are made of."""
    found: dict[type[msgspec.Struct], None] = {}

    def walk(kind: msgspec.inspect.Type) -> None:
        if isinstance(kind, msgspec.inspect.StructType):
            if kind.cls not in found:
                found[kind.cls] = None
                for field in kind.fields:
                    walk(field.type)
            return
        if isinstance(kind, msgspec.inspect.UnionType):
            for each in kind.types:
                walk(each)
        elif isinstance(kind, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
            walk(kind.item_type)

    for each in types:
        walk(msgspec.inspect.type_info(each))
    return list(found)


class _Sentences:
    """What structs say of their fields, in the sentences below them; each module is read once."""

    def __init__(self) -> None:
        self._modules: dict[str, dict[str, ast.ClassDef]] = {}

    def describe(self, schema: Schema, struct: type) -> None:
        """Add them to the fields of a schema."""
        for each in reversed(struct.__mro__):
            definition = self._classes(each.__module__).get(each.__name__)
            for name, text in _below_fields(definition.body if definition else ()):
                field = schema["properties"].get(name)
                if field is not None:
                    field["description"] = text

    def _classes(self, module: str) -> dict[str, ast.ClassDef]:
        if module not in self._modules:
            self._modules[module] = _read_classes(module)
        return self._modules[module]


def _read_classes(module: str) -> dict[str, ast.ClassDef]:
    if not module.startswith("sollold."):
        return {}
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:
        # Installed without sources: the fields stand without sentences.
        return {}
    return {item.name: item for item in tree.body if isinstance(item, ast.ClassDef)}


def _below_fields(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, text in itertools.pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str() as sentence)):
                yield name, inspect.cleandoc(sentence)
            case _:
                pass
