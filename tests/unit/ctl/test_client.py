from __future__ import annotations

import http.client
import os
import socket
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from sollold.api_types import NodesDocument, StatusDocument, encode
from sollold.ctl import places as places_module
from sollold.ctl.client import Client, _reason
from sollold.ctl.failure import Exit, Failure
from sollold.ctl.places import Endpoint, control_sockets, endpoints
from tests.unit.ctl.documents import HEALTHY, NODES
from tests.unit.ctl.fake_daemon import NOT_FOUND, Answer, FakeDaemon, error

if TYPE_CHECKING:
    from pathlib import Path

STATUS = {"/api/v1/status": Answer(encode(HEALTHY))}


def client(*urls: str, timeout_s: float = 5.0, key: str | None = None) -> Client:
    places = [place for url in urls for place in endpoints(url, {})]
    return Client(places, timeout_s=timeout_s, key=key)


def refused(asking: Client, path: str = "/api/v1/status") -> Failure:
    with pytest.raises(Failure) as failure:
        asking.get(path)
    return failure.value


@pytest.fixture
def closed_url() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://gpu-box:11434", Endpoint("http://gpu-box:11434", "http", "gpu-box", 11434)),
        ("http://gpu-box", Endpoint("http://gpu-box", "http", "gpu-box", 80)),
        ("https://gpu-box/s/", Endpoint("https://gpu-box/s", "https", "gpu-box", 443, "/s")),
        ("gpu-box", Endpoint("http://gpu-box", "http", "gpu-box", 11434)),
        ("gpu-box:8080", Endpoint("http://gpu-box:8080", "http", "gpu-box", 8080)),
        ("http://[::1]:11434", Endpoint("http://[::1]:11434", "http", "::1", 11434)),
        ("http://me:secret@box:1", Endpoint("http://box:1", "http", "box", 1)),
        ("unix:/run/s.sock", Endpoint("unix:/run/s.sock", "unix", "/run/s.sock", 0)),
        ("unix:///run/s.sock", Endpoint("unix:/run/s.sock", "unix", "/run/s.sock", 0)),
    ],
)
def test_addresses_are_read(url: str, endpoint: Endpoint) -> None:
    assert endpoints(url, {}) == [endpoint]


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "http://", "http://x:port", "x:99999", "http://[::1", "http://a..b:1", "x" * 64],
)
def test_addresses_that_cannot_be_used_are_wrong_usage(url: str) -> None:
    with pytest.raises(Failure) as failure:
        endpoints(url, {})
    assert failure.value.exit_code == Exit.USAGE


def test_without_an_address_the_usual_places_are_asked_in_order(tmp_path: Path) -> None:
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
    ports = ["http://127.0.0.1:11434", "http://127.0.0.1:8080"]
    assert [place.label for place in endpoints(None, runtime)][-2:] == ports

    path = tmp_path / "sollold" / "control.sock"
    path.parent.mkdir()
    with FakeDaemon({}).on_socket(str(path)):
        labels = [place.label for place in endpoints(None, runtime)]
        assert labels[0] == f"unix:{path}"
        assert labels[-2:] == ports


def test_a_socket_in_a_strangers_directory_is_not_asked(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a directory away")
    path = tmp_path / "sollold" / "control.sock"
    path.parent.mkdir()
    os.chown(path.parent, 12345, -1)
    with FakeDaemon({}).on_socket(str(path)):
        labels = [place.label for place in control_sockets({"XDG_RUNTIME_DIR": str(tmp_path)})]

    assert f"unix:{path}" not in labels


def test_a_plain_file_is_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "sollold" / "control.sock"
    path.parent.mkdir()
    path.touch()
    assert not stat.S_ISSOCK(path.stat().st_mode)

    labels = [place.label for place in control_sockets({"XDG_RUNTIME_DIR": str(tmp_path)})]
    assert f"unix:{path}" not in labels


def test_a_socket_in_a_closed_directory_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(places_module, "_SYSTEM_SOCKET", tmp_path / "root" / "control.sock")
    monkeypatch.setattr(os, "stat", refuse)

    assert control_sockets({"XDG_RUNTIME_DIR": str(tmp_path)}) == []


def test_a_document_over_tcp_and_over_a_socket(tmp_path: Path) -> None:
    with FakeDaemon(STATUS).on_tcp() as tcp:
        assert client(tcp.url).get("/api/v1/status").document(StatusDocument) == HEALTHY
    with FakeDaemon(STATUS).on_socket(str(tmp_path / "s")) as local:
        assert client(local.url).get("/api/v1/status").body == encode(HEALTHY)
    assert local.asked == [("/api/v1/status", {})]


def test_a_base_path_and_a_query_are_sent() -> None:
    with FakeDaemon({"/s/api/v1/status": Answer(encode(HEALTHY))}).on_tcp() as daemon:
        client(daemon.url + "/s").get("/api/v1/status", {"n": "5", "node": "a b,c"})
    assert daemon.asked == [("/s/api/v1/status", {"n": "5", "node": "a b,c"})]


def test_the_key_goes_into_the_header() -> None:
    with FakeDaemon(STATUS).on_tcp() as daemon:
        client(daemon.url, key="k-1").get("/api/v1/status")
        client(daemon.url).get("/api/v1/status")
    assert daemon.keys == ["Bearer k-1", None]


def test_nobody_there(closed_url: str) -> None:
    failure = refused(client(closed_url))

    assert failure.exit_code == Exit.UNREACHABLE
    assert failure.message == f"sollold does not answer at {closed_url} (connection refused)"
    assert failure.hints[0] == ("running?", "systemctl --user status sollold")
    assert failure.is_state


def test_no_socket_there(tmp_path: Path) -> None:
    assert "(no such socket)" in refused(client(f"unix:{tmp_path}/none")).message


def test_a_host_elsewhere_gets_no_advice_about_this_machine() -> None:
    failure = refused(client("http://sollold.invalid:1"))

    assert "(unknown host name)" in failure.message
    assert [label for label, _ in failure.hints] == ["elsewhere?"]


def test_the_next_place_is_asked_when_one_is_dead(closed_url: str, tmp_path: Path) -> None:
    with FakeDaemon(STATUS).on_tcp() as daemon:
        asking = client(f"unix:{tmp_path}/none", closed_url, daemon.url)
        asking.get("/api/v1/status")
        asking.get("/api/v1/status")

    assert [miss.reason for miss in asking.misses] == ["no such socket", "connection refused"]
    assert asking.endpoint is not None
    assert asking.endpoint.label == daemon.url


def test_something_else_on_the_port_is_told_from_a_daemon() -> None:
    with (
        FakeDaemon({}).on_tcp() as ollama,
        FakeDaemon({"/api/v1/status": Answer(b'{"schema": "other/1"}')}).on_tcp() as other,
        FakeDaemon(STATUS).on_tcp() as daemon,
    ):
        asking = client(ollama.url, other.url, daemon.url)
        assert asking.get("/api/v1/status").body
        assert [miss.reason for miss in asking.misses] == [
            "something else answers there, HTTP 404",
            "something else answers there, HTTP 200",
        ]
        assert "something else answers there" in refused(client(ollama.url)).message


def test_what_does_not_speak_http_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=greet)
        thread.start()
        failure = refused(client(url))
        thread.join()
    assert "not HTTP" in failure.message


def test_a_hanging_daemon_is_given_up_and_nobody_else_is_asked() -> None:
    silent = FakeDaemon({"/api/v1/status": Answer(is_silent=True)})
    with silent.on_tcp(), FakeDaemon(STATUS).on_tcp() as other:
        failure = refused(client(silent.url, other.url, timeout_s=0.1))
        silent.stopping.set()

    assert failure.exit_code == Exit.UNREACHABLE
    assert f"{silent.url} (no answer within 0.1 s)" in failure.message
    assert other.asked == []


def test_a_socket_that_never_speaks_is_passed_over_when_asking(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as mute, FakeDaemon(STATUS).on_tcp() as other:
        mute.bind(str(path))
        mute.listen()
        asked = client(f"unix:{path}", other.url, timeout_s=1)
        asked.get("/api/v1/status")
        assert other.asked
        with pytest.raises(Failure):
            client(f"unix:{path}", other.url, timeout_s=0.1).post("/api/v1/reload")
        assert len(other.asked) == 1


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    cut = Answer(encode(HEALTHY), cut_bytes=10)
    with FakeDaemon({"/api/v1/status": cut}).on_tcp() as daemon:
        assert "(the answer broke off)" in refused(client(daemon.url)).message


def test_an_answer_that_stops_half_way_is_given_up() -> None:
    half = FakeDaemon({"/api/v1/status": Answer(encode(HEALTHY), cut_bytes=10, ends=False)})
    with half.on_tcp():
        assert "(no answer within 0.1 s)" in refused(client(half.url, timeout_s=0.1)).message
        half.stopping.set()


def test_nobody_there_behind_tls(closed_url: str) -> None:
    url = closed_url.replace("http:", "https:")
    assert f"{url} (connection refused)" in refused(client(url)).message


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied"), "permission denied"),
        (TimeoutError(), "no connection in time"),
        (ConnectionResetError(), "connection closed"),
        (http.client.IncompleteRead(b"{"), "the answer broke off"),
        (OSError(113, "No route to host"), "no route to host"),
        (OSError("odd\x1b"), "odd\\x1b"),
        (OSError(), "failed"),
    ],
)
def test_what_the_system_says_is_put_in_words(error: Exception, words: str) -> None:
    assert _reason(error) == words


@pytest.mark.parametrize(
    ("answer", "exit_code", "code"),
    [
        (error("node_not_found", "no node 'x'", 404), Exit.NOT_FOUND, "node_not_found"),
        (error("invalid_request", "n is a count", 400), Exit.FAILED, "invalid_request"),
        (error("internal", "a bug", 500), Exit.FAILED, "internal"),
        (error("key_missing", "a key is needed", 401), Exit.KEY, "key_missing"),
        (error("key_role", "this key may only view", 403), Exit.KEY, "key_role"),
        (error("host_refused", "not for this host name", 403), Exit.FAILED, "host_refused"),
        (Answer(b"go away", status=401, kind="text/plain"), Exit.KEY, "key_invalid"),
        (Answer(encode(HEALTHY), status=500), Exit.FAILED, "bad_document"),
    ],
)
def test_refusals_have_their_exit_codes(answer: Answer, exit_code: Exit, code: str) -> None:
    with FakeDaemon({"/api/v1/status": answer}).on_tcp() as daemon:
        failure = refused(client(daemon.url))
    assert (failure.exit_code, failure.code) == (exit_code, code)


def test_a_refusals_hint_is_kept_and_made_visible() -> None:
    answer = error("internal", "bad\x1b[2J", 500, hint="look \u202e there")
    with FakeDaemon({"/api/v1/status": answer}).on_tcp() as daemon:
        failure = refused(client(daemon.url))
    assert failure.message == "bad\\x1b[2J"
    assert failure.hints == (("", "look \\u202e there"),)


@pytest.mark.parametrize(
    "body",
    [
        b'{"schema":"sollold.status/1"}',
        b'{"schema":"sollold.nodes/1","at":"","nodes":[]}',
    ],
)
def test_a_document_that_cannot_be_read_points_to_the_versions(body: bytes) -> None:
    with FakeDaemon({"/api/v1/status": Answer(body)}).on_tcp() as daemon:
        reply = client(daemon.url).get("/api/v1/status")
    with pytest.raises(Failure, match="cannot be read") as failure:
        reply.document(StatusDocument)
    assert failure.value.exit_code == Exit.FAILED
    assert failure.value.hints == (("versions differ?", "sollolctl version"),)


def test_an_answer_made_to_exhaust_the_reader_is_refused() -> None:
    body = b'{"schema":"sollold.status/1","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with FakeDaemon({"/api/v1/status": Answer(body)}).on_tcp() as daemon:
        assert refused(client(daemon.url)).exit_code == Exit.UNREACHABLE


def test_names_are_cleaned_for_printing_and_exact_for_asking() -> None:
    hostile = encode(NODES).replace(b'"gpu-1"', b'"gpu\\u001b[2J"')
    with FakeDaemon({"/api/v1/nodes": Answer(hostile)}).on_tcp() as daemon:
        reply = client(daemon.url).get("/api/v1/nodes")
    assert reply.document(NodesDocument).nodes[0].name == "gpu\\x1b[2J"
    assert reply.exact(NodesDocument).nodes[0].name == "gpu\x1b[2J"


def test_a_stream_comes_line_by_line() -> None:
    lines = [b'{"a":1}\n', b"\n", b'{"a":2}\n']
    with FakeDaemon({"/api/v1/events": Answer(lines=lines)}).on_tcp() as daemon:
        got = [reply.body for reply in client(daemon.url).lines("/api/v1/events", {"follow": "1"})]
    assert got == [b'{"a":1}\n', b'{"a":2}\n']


def test_a_stream_of_something_else_is_refused() -> None:
    with FakeDaemon({"/api/v1/events": NOT_FOUND}).on_tcp() as daemon:
        with pytest.raises(Failure, match="something else answers there"):
            next(client(daemon.url).lines("/api/v1/events", {"follow": "1"}))
        document = Answer(b'{"schema":"sollold.events/1"}')
        daemon.answers["/api/v1/events"] = document
        with pytest.raises(Failure, match="answered with HTTP 200"):
            next(client(daemon.url).lines("/api/v1/events", {"follow": "1"}))


def test_a_stream_outlives_the_time_limit() -> None:
    answer = Answer(lines=[b"{}\n"], ends=False, late_lines=[b'{"late":1}\n'])
    with FakeDaemon({"/api/v1/events": answer}).on_tcp() as daemon:
        stream = client(daemon.url, timeout_s=0.05).lines("/api/v1/events", {"follow": "1"})
        assert next(stream).body == b"{}\n"
        threading.Timer(0.2, daemon.stopping.set).start()
        assert [reply.body for reply in stream] == [b'{"late":1}\n']
