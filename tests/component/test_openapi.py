"""The OpenAPI document: valid, complete, and true of what the daemon answers."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from jsonschema import Draft202012Validator, ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from sollold.config import LoadedConfig, Origin, Problem, UnusableConfig
from sollold.events.types import EVENT_CLASSES, NodeLeft, event_type
from sollold.web.openapi import make_document, operation_id, shown_path
from sollold.web.route import NDJSON, Route
from tests.component.lab import IN_ORDER, Lab
from tests.component.test_control import busy, slow_node
from tests.docs.api import documented_routes, own_routes
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.node import FakeNode

if TYPE_CHECKING:
    from aiohttp import web

HIDDEN = {("GET", "/static/{path}"), ("HEAD", "/static/{path}")}
"""Files of the pages; they are no part of the API."""


async def document_of(lab: Lab) -> dict[str, Any]:
    async with lab.session.get("/openapi.json") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        found: dict[str, Any] = await answer.json()
    return found


class Checker:
    """Compares answers with the document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        self._registry: Any = Registry().with_resource("urn:document", resource)

    def check(self, schema: dict[str, Any], value: object) -> None:
        text = json.dumps(schema).replace('"#/', '"urn:document#/')
        validator = Draft202012Validator(json.loads(text), registry=self._registry)
        validator.validate(value)

    def named(self, name: str, value: object) -> None:
        self.check({"$ref": f"#/components/schemas/{name}"}, value)

    async def answer(self, lab: Lab, path: str, url: str = "", method: str = "GET") -> Any:
        """Ask, and compare status, type, headers and body with what the operation says."""
        responses = self._document["paths"][path][method.lower()]["responses"]
        async with lab.session.request(method, url or path) as answer:
            body = await answer.read()
            said = responses.get(str(answer.status), responses["default"])
            media = answer.headers["Content-Type"].partition(";")[0]
            by_type = {name.partition(";")[0]: item for name, item in said["content"].items()}
            for name in said["headers"]:
                if name != "X-Sollold-Error":
                    assert name in answer.headers
        value = json.loads(body) if media == "application/json" else body.decode()
        self.check(by_type[media]["schema"], value)
        return value


async def checker_of(lab: Lab) -> Checker:
    return Checker(await document_of(lab))


# The document ----------------------------------------------------------------------------------


async def test_it_is_valid() -> None:
    async with Lab() as lab:
        document = await document_of(lab)

    OpenAPIV31SpecValidator(document).validate()
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


async def test_it_has_every_route_of_the_router_and_no_other() -> None:
    async with Lab() as lab:
        document = await document_of(lab)
        routed = {(route.method, _path(route)) for route in lab.built.app.router.routes()}

    described = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert described == routed - HIDDEN
    assert routed >= HIDDEN


def _path(route: web.AbstractRoute) -> str:
    assert route.resource is not None
    return route.resource.canonical


async def test_operations_have_names_that_stay() -> None:
    async with Lab() as lab:
        document = await document_of(lab)

    names = [item["operationId"] for path in document["paths"].values() for item in path.values()]
    assert len(names) == len(set(names))
    assert {"get_root", "head_root", "get_api_v1_nodes_name", "post_v1_chat_completions"} <= {
        *names
    }


async def test_each_operation_says_what_it_does_in_which_group() -> None:
    async with Lab() as lab:
        document = await document_of(lab)

    groups = [tag["name"] for tag in document["tags"]]
    assert groups[0] == "State"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert not operation["summary"].endswith(".")
            assert operation["tags"][0] in groups
            assert "default" in operation["responses"]
            if operation["tags"][0] in ("Ollama", "OpenAI"):
                assert operation["externalDocs"]["url"].startswith("https://"), path
            if path.startswith("/ws/"):
                assert "101" in operation["responses"]
                assert operation["description"]


async def test_it_is_sent_once_to_those_who_keep_it() -> None:
    async with Lab() as lab:
        async with lab.session.get("/openapi.json") as answer:
            tag, body = answer.headers["ETag"], await answer.read()
        async with lab.session.get("/openapi.json", headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304
            assert await answer.read() == b""
        async with lab.session.get("/openapi.json", headers={"If-None-Match": '"x"'}) as answer:
            assert await answer.read() == body
    async with Lab() as lab, lab.session.get("/openapi.json") as answer:
        assert answer.headers["ETag"] == tag


async def test_every_reference_leads_somewhere() -> None:
    async with Lab() as lab:
        document = await document_of(lab)

    for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)):
        assert name in document["components"]["schemas"]
    used = set(re.findall(r'#/components/schemas/(\w+)"', json.dumps(document)))
    assert used == document["components"]["schemas"].keys()


# Answers ---------------------------------------------------------------------------------------


async def test_documents_are_as_described() -> None:
    async with Lab([slow_node(), FakeNode(())]) as lab:
        check = await checker_of(lab)
        async with busy(lab, 3):
            status = await check.answer(lab, "/api/v1/status")
            assert status["requests"]["running"]
            requests = await check.answer(lab, "/api/v1/requests")
            assert requests["running"]
            await check.answer(lab, "/api/v1/nodes")
            await check.answer(lab, "/api/v1/nodes/{name}", "/api/v1/nodes/n1")
            for path in ("/api/health", "/api/tags", "/api/ps", "/api/version", "/v1/models"):
                await check.answer(lab, path)
            for path in ("/", "/metrics", "/docs", "/openapi.json"):
                await check.answer(lab, path)


async def test_events_of_a_failover_are_as_described() -> None:
    async with Lab(2, routing=IN_ORDER) as lab:
        check = await checker_of(lab)
        lab.nodes[0].faults.put(Fault(kind=FaultKind.CRASH))
        async with await lab.chat() as answer:
            await answer.read()
        document = await check.answer(lab, "/api/v1/events", "/api/v1/events?n=1000")
        await check.answer(lab, "/api/v1/nodes/{name}", "/api/v1/nodes/n1")

    seen = {event["event_type"] for event in document["events"]}
    assert {"ROUTE_DECISION", "FALLBACK_TRIGGERED", "TASK_COMPLETE", "REQUEST_DONE"} <= seen


async def test_a_refused_reload_is_as_described() -> None:
    async with Lab() as lab:
        check = await checker_of(lab)
        good = await check.answer(lab, "/api/v1/reload", method="POST")
        assert good["result"] == "unchanged"
        problem = Problem(Origin("file", "/x/sollold.toml", 3), ("queue", "length"), "is 0")

        def fail() -> LoadedConfig:
            raise UnusableConfig([problem])

        lab.built.reloader._read = fail
        refused = await check.answer(lab, "/api/v1/reload", method="POST")
        assert refused["result"] == "refused"
        assert refused["problems"][0]["key"] == "queue.length"
        assert "422" in (await document_of(lab))["paths"]["/api/v1/reload"]["post"]["responses"]


async def test_errors_are_as_described() -> None:
    async with Lab([FakeNode(())]) as lab:
        check = await checker_of(lab)

        missing = await check.answer(lab, "/api/v1/nodes/{name}", "/api/v1/nodes/no")
        assert missing["error"]["code"] == "node_not_found"
        await check.answer(lab, "/api/v1/events", "/api/v1/events?n=x")
        await check.answer(lab, "/api/pull", method="POST")
        assert "error" in await check.answer(lab, "/api/chat", method="POST")
        assert "error" in await check.answer(lab, "/v1/completions", method="POST")
        assert "error" in await check.answer(lab, "/ws/routing_events")


async def test_an_unhealthy_daemon_is_as_described() -> None:
    async with Lab([]) as lab:
        check = await checker_of(lab)

        health = await check.answer(lab, "/api/health")
        await check.answer(lab, "/api/v1/status")

    assert health["status"] == "unhealthy"


async def test_a_routed_answer_has_the_headers_that_are_described() -> None:
    async with Lab() as lab:
        document = await document_of(lab)
        async with await lab.chat() as answer:
            await answer.read()
            assert answer.status == 200
        async with await lab.chat(stream=True) as stream:
            await stream.read()

    said = document["paths"]["/api/chat"]["post"]["responses"]["200"]
    assert set(said["content"]) == {"application/json", stream.content_type}
    for name in said["headers"]:
        assert name in answer.headers


async def test_every_line_of_the_event_stream_is_as_described() -> None:
    async with Lab() as lab:
        document = await document_of(lab)
        check = Checker(document)
        responses = document["paths"]["/api/v1/events"]["get"]["responses"]
        schema = responses["200"]["content"]["application/x-ndjson"]["schema"]
        url = "/api/v1/events?follow=1&n=1000"
        async with lab.session.get(url) as stream, asyncio.timeout(5):
            async with await lab.chat() as answer:
                await answer.read()
            kinds = set()
            while "REQUEST_DONE" not in kinds:
                event = json.loads(await stream.content.readline())
                check.check(schema, event)
                kinds.add(event["event_type"])


async def test_every_type_of_event_has_a_schema_of_its_own() -> None:
    async with Lab() as lab:
        document = await document_of(lab)
        lab.built.bus.publish(NodeLeft(reason="gone", node="n9"))
        events = await (await checker_of(lab)).answer(lab, "/api/v1/events")

    schemas = document["components"]["schemas"]
    assert set(schemas["Event"]["discriminator"]["mapping"]) == set(map(event_type, EVENT_CLASSES))
    left = next(event for event in events["events"] if event["event_type"] == "NODE_LEFT")
    Checker(document).named("NodeLeft", left)
    with pytest.raises(ValidationError):
        Checker(document).named("NodeJoined", left)


async def test_fields_are_described_in_the_words_of_the_code() -> None:
    async with Lab() as lab:
        schemas = (await document_of(lab))["components"]["schemas"]

    assert schemas["Request"]["properties"]["node"]["description"] == "None while it waits."
    assert schemas["NodeLeft"]["properties"]["model"]["description"].startswith("The name as")
    assert schemas["Node"]["description"] == "One node in a list."
    assert "default" not in schemas["Node"]["properties"]["reason"]
    assert schemas["Node"]["required"] == list(schemas["Node"]["properties"])


# Pages and files -------------------------------------------------------------------------------


async def test_the_viewer_names_files_that_exist_and_nothing_elsewhere() -> None:
    async with Lab() as lab:
        async with lab.session.get("/docs") as answer:
            text = await answer.text()
            policy = answer.headers["Content-Security-Policy"]
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        addresses = re.findall(r'(?:src|href)="([^"]+)"', text)
        for address in addresses:
            if address != "data:,":
                assert not address.startswith(("/", "http"))
                async with lab.session.get(f"/{address}") as answer:
                    assert answer.status == 200

    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert not re.search(r"<style|style=|<script>|\son\w+=", text)
    assert 'href="openapi.json"' in text
    assert "<noscript>" in text
    assert '<html lang="en">' in text


# Parts -----------------------------------------------------------------------------------------


async def _nothing(request: web.Request) -> web.StreamResponse:
    raise NotImplementedError


def test_a_path_is_shown_without_its_patterns() -> None:
    row = Route(
        method="GET", path="/a/{b:.+}/{c}", handler=_nothing, summary="It", tag="Something new"
    )

    document = make_document([row])

    OpenAPIV31SpecValidator(document).validate()
    operation = document["paths"]["/a/{b}/{c}"]["get"]
    assert [item["name"] for item in operation["parameters"]] == ["b", "c"]
    assert operation["operationId"] == "get_a_b_c" == operation_id(row)
    assert shown_path("/") == "/"
    assert [tag["name"] for tag in document["tags"]] == ["Something new"]


class Line(msgspec.Struct, omit_defaults=True):
    """A line of something."""

    text: str
    note: str | None = None
    """Absent when there is none."""


class Wish(msgspec.Struct):
    """A body of a request."""

    name: str
    count: int = 1


def test_what_may_be_left_out_is_not_required() -> None:
    row = Route(
        method="POST",
        path="/lines",
        handler=_nothing,
        summary="It",
        tag="State",
        body=Wish,
        stream=NDJSON,
        piece=Line,
    )

    document = make_document([row])

    OpenAPIV31SpecValidator(document).validate()
    schemas = document["components"]["schemas"]
    assert schemas["Line"]["required"] == ["text"]
    assert schemas["Wish"]["required"] == ["name"]
    assert schemas["Wish"]["properties"]["count"]["default"] == 1
    operation = document["paths"]["/lines"]["post"]
    assert operation["requestBody"]["required"]
    content = operation["responses"]["200"]["content"]
    assert content[NDJSON]["schema"]["$ref"] == "#/components/schemas/Line"


# docs/api.md -----------------------------------------------------------------------------------


async def test_the_table_of_routes_in_the_documents_is_complete() -> None:
    async with Lab() as lab:
        document = await document_of(lab)

    assert documented_routes() == own_routes(document)
