"""Each name of the predecessor does what the table of docs/migration.md says."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sollold.__main__ import main
from sollold.config import Config, Flags, LoadArgs, LoadedConfig, load
from sollold.config.keys import config_keys, value_at
from sollold.config.predecessor import (
    COMMANDS,
    FIELDS,
    FLAGS,
    GENERIC_VARIABLES,
    VARIABLES,
    Flag,
    Word,
    render_migration,
)
from sollold.config.reference import BEGIN, END
from sollold.errors import ConfigError
from sollold.old_words import given

MANUAL = Path(__file__).parents[3] / "docs" / "migration.md"
VALUES = {"--port": "8000", "--ollama-nodes": "a, b:1", "--hosts": "hosts.txt"}
OTHER_THAN_DEFAULT = {"log.routing": ("false", False), "log.routing_console": ("1", True)}


def given_by(*args: str) -> tuple[tuple[str, str], ...]:
    return given(main.make_context("sollold", list(args)))


def started(*args: str, **environ: str) -> LoadedConfig:
    return load(LoadArgs(flags=Flags(old=given_by(*args)), environ=environ))


def argv(flag: Flag) -> list[str]:
    return [flag.name, VALUES.get(flag.name, "5")] if flag.metavar else [flag.name]


def with_fate(words: tuple[Word, ...], fate: str) -> list[Word]:
    return [word for word in words if word.fate == fate]


def by_name(word: Word) -> str:
    return word.name


@pytest.fixture(autouse=True)
def _hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hosts.txt").write_text("gpu-1\ngpu-2:8080\n")
    monkeypatch.chdir(tmp_path)


def test_the_manual_is_current() -> None:
    inside = MANUAL.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    remedy = "run: python -m sollold.config.reference docs/migration.md"
    assert inside.strip() == render_migration().strip(), remedy


def test_the_manual_names_the_variables_that_are_not_looked_at() -> None:
    before = MANUAL.read_text("utf-8").partition(BEGIN)[0]
    for name in GENERIC_VARIABLES:
        assert f"`{name}`" in before or name.startswith("INFLUX_")


@pytest.mark.parametrize("word", [*FLAGS, *VARIABLES, *FIELDS], ids=by_name)
def test_a_named_key_exists(word: Word) -> None:
    assert not word.key or tuple(word.key.split(".")) in config_keys()
    assert word.text or word.key


@pytest.mark.parametrize("flag", with_fate(FLAGS, "taken"), ids=by_name)
def test_a_flag_that_is_taken_sets_its_key(flag: Flag) -> None:
    result = started(*argv(flag))

    path = tuple(flag.key.split("."))
    assert value_at(result.config, path) != value_at(Config(), path)
    where = f"{flag.key}[0].url" if flag.key == "nodes" else flag.key
    assert str(result.origin(where)) == f"flag {flag.name}"


@pytest.mark.parametrize("flag", with_fate(FLAGS, "no effect"), ids=by_name)
def test_a_flag_without_effect_says_so_and_changes_nothing(flag: Flag) -> None:
    result = started(*argv(flag))

    assert f"{flag.name} has no effect: {flag.text}" in result.notes
    assert result.config == Config()


@pytest.mark.parametrize("flag", with_fate(FLAGS, "refused"), ids=by_name)
def test_a_flag_that_is_refused_says_what_to_use(flag: Flag) -> None:
    result = CliRunner().invoke(main, ["up", *argv(flag)])

    assert result.exit_code == 2
    assert f"Error: {flag.name}: {flag.text}" in result.output


def test_all_refused_flags_are_told_at_once() -> None:
    result = CliRunner().invoke(main, ["up", "--autobatch", "--redis-url", "redis://x"])

    assert "--autobatch: " in result.output
    assert "--redis-url: " in result.output


@pytest.mark.parametrize("command", with_fate(COMMANDS, "refused"), ids=by_name)
def test_a_command_that_is_refused_says_what_to_use(command: Word) -> None:
    result = CliRunner().invoke(main, [command.name, "--quiet"])

    assert result.exit_code == 2
    assert f"Error: {command.name}: {command.text}" in result.output


def test_up_is_the_start_and_stands_first() -> None:
    assert given_by("up", "--port", "1") == given_by("--port", "1") == (("--port", "1"),)
    late = CliRunner().invoke(main, ["--port", "1", "up"])
    assert late.exit_code == 2
    assert "up: write it first" in late.output


def test_up_takes_the_own_options_too() -> None:
    context = main.make_context("sollold", ["up", "--node", "a", "--port", "1", "--check-config"])
    assert context.params["node"] == ("a",)


def test_a_word_nobody_knows_is_no_command() -> None:
    assert "No such command 'upp'" in CliRunner().invoke(main, ["upp"]).output


def test_port_keeps_the_addresses() -> None:
    both = {"SOLLOLD_LISTEN__API": "127.0.0.1:11434,[::1]:11435"}
    assert started("--port", "80", **both).config.listen.api == ("127.0.0.1:80", "[::1]:80")
    same = {"SOLLOLD_LISTEN__API": "127.0.0.1:1,127.0.0.1:2"}
    assert started("--port", "0", **same).config.listen.api == ("127.0.0.1:0",)
    assert started("--port", "1", "--port", "2").config.listen.api == ("127.0.0.1:2",)


def test_port_hides_no_mistake_of_the_address() -> None:
    with pytest.raises(ConfigError, match="SOLLOLD_LISTEN__API"):
        started("--port", "80", SOLLOLD_LISTEN__API="127.0.0.1")
    with pytest.raises(ConfigError, match=r"bad.toml:1"):
        file = Path("bad.toml")
        file.write_text("listen.api = 5\n")
        load(LoadArgs(config=file, flags=Flags(old=(("--port", "80"),))))


def test_port_and_listen_exclude_each_other() -> None:
    args = ["--port", "80", "--listen", "127.0.0.1:81"]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 2
    assert "--port does not go with --listen" in result.output


@pytest.mark.parametrize("port", ["http", "65536", "-1"])
def test_a_port_is_a_number(port: str) -> None:
    assert CliRunner().invoke(main, ["--port", port]).exit_code == 2


def test_hosts_and_nodes_come_together() -> None:
    result = started("--hosts", "hosts.txt", "--ollama-nodes", "gpu-1,gpu-3")
    urls = [node.url for node in result.config.nodes]
    assert urls == ["http://gpu-1:11434", "http://gpu-3:11434", "http://gpu-2:8080"]


@pytest.mark.parametrize("word", with_fate(VARIABLES, "taken"), ids=by_name)
def test_a_variable_that_is_taken_sets_its_key(word: Word) -> None:
    text, value = OTHER_THAN_DEFAULT[word.key]
    path = tuple(word.key.split("."))

    result = started(**{word.name: text})

    assert value_at(result.config, path) is value
    assert str(result.origin(word.key)) == f"environment {word.name}"
    own = "SOLLOLD_" + "__".join(path).upper()
    assert value_at(started(**{word.name: text, own: str(not value)}).config, path) is not value
    assert started(**{word.name: ""}).config == Config()
    with pytest.raises(ConfigError, match=f"environment {word.name}: {word.key}: expected true"):
        started(**{word.name: "maybe"})


def test_a_variable_beats_the_file() -> None:
    file = Path("own.toml")
    file.write_text("[log]\nrouting_console = false\n")
    result = load(LoadArgs(config=file, environ={"SOLLOL_ROUTING_LOG_CONSOLE": "true"}))
    assert result.config.log.routing_console


@pytest.mark.parametrize("word", with_fate(VARIABLES, "no effect"), ids=by_name)
def test_a_variable_without_effect_says_so(word: Word) -> None:
    result = started(**{word.name: "5"})

    assert f"{word.name} has no effect: {word.text}" in result.notes
    assert result.config == Config()


def test_any_other_variable_of_the_predecessor_is_told_too() -> None:
    assert any(note.startswith("SOLLOL_X has no effect") for note in started(SOLLOL_X="1").notes)


@pytest.mark.parametrize("name", GENERIC_VARIABLES)
def test_a_name_that_others_use_is_left_alone(name: str) -> None:
    result = started(**{name: "8000"})

    assert result.config == Config()
    assert not any(name in note for note in result.notes)


def test_help_stays_short() -> None:
    said = CliRunner().invoke(main, ["--help"]).output

    assert "Flags of the predecessor (docs/migration.md):" in said
    assert "--hosts FILE" in said
    assert "--dask-scheduler" not in said
    assert len(said.splitlines()) < 50


def test_options_before_a_command_are_refused() -> None:
    result = CliRunner().invoke(main, ["--workers", "2", "demo"])
    assert result.exit_code == 2
    assert "--workers does not go with demo" in result.output


def test_no_two_rows_have_one_name() -> None:
    names = [word.name for word in (*FLAGS, *VARIABLES, *COMMANDS, *FIELDS)]
    assert len(set(names)) == len(names)
    assert all(isinstance(parameter, click.Option) for parameter in main.params)
