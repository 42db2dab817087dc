"""`sollold demo` beside `sollold`."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sollold.__main__ import main
from sollold.demo import show


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int | None, bool]]:
    """What the demo was asked for, instead of the demo."""
    asked: list[tuple[int | None, bool]] = []

    def run(*, port: int | None, is_once: bool) -> int:
        asked.append((port, is_once))
        return 75

    monkeypatch.setattr(show, "run", run)
    return asked


def test_its_options_and_exit_code(shown: list[tuple[int | None, bool]]) -> None:
    assert CliRunner().invoke(main, ["demo"]).exit_code == 75
    assert CliRunner().invoke(main, ["demo", "--port", "11500", "--once"]).exit_code == 75

    assert shown == [(None, False), (11500, True)]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--config", "x.toml", "demo"], "--config does not go with demo"),
        (["--node", "gpu-1", "demo"], "--node does not go with demo"),
        (["demo", "--port", "0"], "0 is not in the range"),
        (["dmeo"], "No such command 'dmeo'"),
    ],
)
def test_wrong_usage(args: list[str], complaint: str, shown: list[tuple[int | None, bool]]) -> None:
    result = CliRunner().invoke(main, args)

    assert result.exit_code == 2
    assert complaint in result.output
    assert not shown
