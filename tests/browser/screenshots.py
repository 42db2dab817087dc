"""Makes the pictures of the console page that the documentation shows.

`python -m tests.browser.screenshots docs/screenshots`; needs Chromium, and pngquant to make them
small.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.browser.chromium import chromium, find_chromium
from tests.browser.fleet import Fleet, NodeSpec
from tests.browser.watched import watched
from tests.fakes.faults import Fault, FaultKind

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLEET = (
    NodeSpec(
        "gpu-1",
        ("--models", "llama3.1:8b=5.4,phi3:mini=2.2,mistral:7b=4.4", "--slots", "3",
         "--rate", "55", "--answer-tokens", "40000", "--prefill-s", "0.08"),
    ),
    NodeSpec(
        "gpu-2",
        ("--models", "qwen2.5:14b=9.0,nomic-embed-text+embedding=0.3", "--rate", "12.9",
         "--answer-tokens", "40000", "--prefill-s", "0.5"),
    ),
    NodeSpec("mac-mini", ("--models", "gemma2:9b=5.8,llama3.1:8b=5.4", "--rate", "33",
                          "--answer-tokens", "40000", "--prefill-s", "0.12")),
    NodeSpec("pi-5", ("--models", "mistral:7b=4.4,phi3:mini=2.2", "--rate", "9"), tier=1),
    NodeSpec("workstation", ("--model", "deepseek-r1:32b", "--slots", "2"), is_llama=True),
)  # fmt: skip
PAST = ("mistral:7b", "llama3.1:8b", "qwen2.5:14b", "gemma2:9b", "deepseek-r1:32b")
SIZES: dict[str, dict[str, Any]] = {
    "console-light": {"color_scheme": "light"},
    "console-dark": {"color_scheme": "dark"},
    "console-narrow": {
        "color_scheme": "light",
        "viewport": {"width": 360, "height": 780},
        "device_scale_factor": 2,
    },
}


def main() -> None:
    """Make all pictures in the folder that is named."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    path = find_chromium()
    if path is None:
        sys.exit("no Chromium here")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleet = stack.enter_context(Fleet(scratch / "fleet", FLEET))
        fleet.until(lambda: set(fleet.states().values()) == {"up"}, "every node is up")
        _work(fleet, stack)
        with chromium(path) as browser:
            _shoot(browser, fleet, folder)
    for picture in folder.glob("*.png"):
        _squeeze(picture)


def _work(fleet: Fleet, stack: ExitStack) -> None:
    """Give the fleet a past, requests, and trouble."""
    for model in (*PAST, *PAST):
        _stream(fleet, model)
    fleet.nodes["pi-5"].set_faults(Fault(kind=FaultKind.CUT_RESET, count=1))
    _stream(fleet, "mistral:7b")
    for model in ("qwen2.5:14b", "llama3.1:8b", "gemma2:9b"):
        stack.enter_context(closing(fleet.stream(model)))
    stack.enter_context(closing(fleet.request("qwen2.5:14b")))
    stack.enter_context(closing(fleet.stream("llama3.1:8b")))
    _wait_for_probes(fleet, 20)
    fleet.nodes["gpu-2"].set_faults(Fault(kind=FaultKind.SLOW_PROBE, delay_s=0.35))
    fleet.nodes["pi-5"].kill()
    fleet.log("assistant.home.example")
    fleet.until(
        lambda: fleet.states()["gpu-2"] == "slow" and fleet.states()["pi-5"] == "down", "trouble"
    )


def _stream(fleet: Fleet, model: str) -> None:
    """One streamed answer, to its end."""
    with closing(fleet.request(model, options={"num_predict": 24})) as client:
        client.receive("POST")


def _wait_for_probes(fleet: Fleet, count: int) -> None:
    """Wait until a node's usual speed is known."""
    node = fleet.nodes["gpu-2"]
    before = node.state()["requests"]
    fleet.until(lambda: node.state()["requests"] >= before + count, "probes")


def _shoot(browser: Browser, fleet: Fleet, folder: Path) -> None:
    for name, options in SIZES.items():
        with watched(browser, fleet.url, **options) as seen:
            page = seen.open()
            page.locator('#connection[data-connection="live"]').wait_for()
            page.locator("#requests tbody tr").nth(4).wait_for()
            is_narrow = name == "console-narrow"
            page.evaluate("document.getElementById('log').hidden = true")
            page.screenshot(path=folder / f"{name}.png", full_page=not is_narrow)
    with watched(browser, fleet.url, color_scheme="light") as seen:
        page = seen.open()
        panel = page.locator("#log")
        panel.scroll_into_view_if_needed()
        panel.locator("li").nth(5).wait_for()
        panel.screenshot(path=folder / "console-log.png")


def _squeeze(picture: Path) -> None:
    if shutil.which("pngquant") is None:
        print(f"{picture}: pngquant is missing, it stays as large as it is", file=sys.stderr)
        return
    command = ["pngquant", "--force", "--ext", ".png", "--strip", "--speed", "1", "64"]
    subprocess.run([*command, str(picture)], check=True)


if __name__ == "__main__":
    main()
