from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from sollold.ctl.main import cli, run
from sollold.ctl.options import Command, Group, Settings

COMMANDS = sorted(cli.commands)


def settings_of(args: list[str]) -> Settings:
    """Return what a command sees after these arguments."""
    seen: list[Settings] = []

    @click.group(cls=Group)
    def root() -> None:
        """Purpose."""

    @root.command("look", cls=Command)
    @click.pass_obj
    def look(settings: Settings) -> None:
        """Look."""
        seen.append(settings)

    result = CliRunner().invoke(root, args, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return seen[0]


@pytest.mark.parametrize(
    "options",
    [
        ["--url", "http://a:1"],
        ["--key-file", "k"],
        ["--timeout", "2"],
        ["--json"],
        ["--wide"],
        ["-q"],
        ["--sort", "-vram"],
        ["--filter", "state=up"],
        ["--columns", "a,b"],
        ["--no-header"],
        ["--color", "never"],
        ["--utc"],
        ["-v"],
        ["--watch", "3"],
        ["--watch"],
    ],
)
def test_options_count_before_and_after_the_name(options: list[str]) -> None:
    before, after = settings_of([*options, "look"]), settings_of(["look", *options])

    assert before == after
    assert before != Settings()


def test_the_option_after_the_name_wins_and_filters_add_up() -> None:
    settings = settings_of(
        ["--url", "a", "--timeout", "1", "--filter", "x=1", "look", "--url", "b", "--filter", "y=2"]
    )

    assert settings == Settings(url="b", timeout_s=1.0, filters=("x=1", "y=2"))


def test_without_options_there_are_defaults() -> None:
    assert settings_of(["look"]) == Settings()
    assert Settings().timeout_s == 5


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_has_purpose_usage_three_examples_and_variables(
    name: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [name, "--help"] if name else ["-h"]

    assert run(args) == 0

    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].endswith(".")
    assert lines[2].startswith("Usage: sollolctl")
    start = lines.index("Examples:") + 1
    examples = lines[start : lines.index("", start)]
    assert len(examples) == 3
    assert all(line.startswith("  sollolctl ") for line in examples)
    for word in ("NO_COLOR", "FORCE_COLOR", "Output:"):
        assert word in text
    # What asks no daemon needs no address of one.
    for word in ("SOLLOLD_URL", "SOLLOLD_KEY", "Connection:"):
        assert (word in text) == (name != "service")


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_can_be_typed(name: str) -> None:
    command = cli.commands[name]
    assert isinstance(command, Command | Group)
    for example in command.examples:
        words = example.partition(" > ")[0].split()[1:]
        context = cli.make_context("sollolctl", list(words), resilient_parsing=False)
        rest = [*context._protected_args, *context.args]
        if rest:
            found_name, found, arguments = cli.resolve_command(context, rest)
            assert found is not None
            found.make_context(found_name, arguments, parent=context)


def test_a_mistyped_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["statsu"]) == 2
    assert "status" in capsys.readouterr().err


def test_no_command_is_wrong_usage_and_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    captured = capsys.readouterr()
    assert "Examples:" in captured.out + captured.err


def test_the_version_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sollolctl ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_SOLLOLCTL_COMPLETE" in capsys.readouterr().out


def test_an_unknown_shell_is_wrong_usage() -> None:
    assert run(["completion", "tcsh"]) == 2
