from __future__ import annotations

import os
from pathlib import Path

import pytest

from sollold.config import Config, Flags, LoadArgs, LoadedConfig, Node, load
from sollold.errors import ConfigError


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def loaded(tmp_path: Path, text: str, **environ: str) -> LoadedConfig:
    return load(LoadArgs(config=write(tmp_path / "s.toml", text), environ=environ))


def problems(tmp_path: Path, text: str, flags: Flags | None = None, **environ: str) -> list[str]:
    file = write(tmp_path / "s.toml", text)
    with pytest.raises(ConfigError) as caught:
        load(LoadArgs(config=file, environ=environ, flags=flags or Flags()))
    return [line.replace(str(file), "F") for line in caught.value.problems]


def only(tmp_path: Path, text: str, **environ: str) -> str:
    (line,) = problems(tmp_path, text, None, **environ)
    return line


def test_without_any_source_all_is_default(tmp_path: Path) -> None:
    absent = (tmp_path / "a.toml", tmp_path / "b.toml")
    result = load(LoadArgs(files=absent))
    assert result.config == Config()
    assert result.files == ()
    assert result.origins == {}
    assert str(result.origin("queue.length")) == "default"
    (note,) = result.notes
    assert "no configuration file" in note
    assert all(str(path) in note for path in absent)


def test_the_defaults_are_those_of_the_design() -> None:
    config = Config()
    assert config.listen.api == ("127.0.0.1:11434",)
    assert config.listen.console == ("127.0.0.1:8080",)
    assert (config.queue.length, config.queue.look_ahead, config.queue.max_wait_s) == (512, 64, 0)
    assert config.limits.bodies_bytes == 512 * 1024**2
    assert config.limits.client_spool_bytes == 4 * 1024**2
    assert config.loads.on_client_gone == "finish"
    assert config.failover.attempts == 2
    assert config.http.version_floor == "0.33.0"


def test_eight_mistakes_are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    text = """\
[listen]
consol = "127.0.0.1:8080"
[[nodes]]
url = "gpu 1"
[[nodes]]
name = "two"
[queue]
length = "many"
max_wait_s = "5 minutes"
[limits]
body_bytes = "4M"
[quue]
length = 3
[redis]
url = "redis://localhost"
"""
    assert problems(tmp_path, text) == [
        "F:2: listen.consol: unknown key; did you mean console?",
        'F:4: nodes[0].url: "gpu 1" has a host that is neither name nor address; write "host:port"',
        'F:5: nodes[1].url: is missing; write for example url = "192.168.1.22:11434"',
        (
            'F:8: queue.length: expected a whole number, at least 1, got "many"; '
            "write for example length = 512"
        ),
        (
            'F:9: queue.max_wait_s: "5 minutes" cannot be read; write seconds as a number, '
            'or a text like "30s", "5m", "1h30m", "250ms"'
        ),
        (
            'F:11: limits.body_bytes: "4M" cannot be read; write bytes as a number, '
            'or a text like "64 KiB", "4 MiB", "512MB"'
        ),
        "F:12: quue: unknown section; did you mean queue?",
        "F:14: redis: this version does not use Redis; remove it",
    ]


def test_mistakes_of_all_sources_are_told_together(tmp_path: Path) -> None:
    hosts = write(tmp_path / "hosts", "gpu-1\nbad host\n")
    found = problems(
        tmp_path,
        '[discovery]\nhosts_file = "hosts"\n[log]\nlevel = 3\n',
        Flags(listen=("here",), log_format="jsn"),
        SOLLOLD_QUEUE__LENGTH="0",
    )
    assert found == [
        (
            'F:4: log.level: expected one of "debug", "info", "warning", "error", got 3; '
            'write for example level = "info"'
        ),
        f'{hosts}:2: "bad host" has a host that is neither name nor address; write "host:port"',
        (
            "environment SOLLOLD_QUEUE__LENGTH: queue.length: expected a whole number, at least 1, "
            "got 0; write for example length = 512"
        ),
        'flag --listen: listen.api: "here" names no port; write "here:11434", for example',
        (
            'flag --log-format: log.format: expected one of "auto", "text", "json", "journal", '
            'got "jsn"; did you mean "json"?'
        ),
    ]


def test_each_source_beats_the_one_before(tmp_path: Path) -> None:
    system = write(
        tmp_path / "system.toml",
        "[queue]\nlength = 1\nlook_ahead = 1\nper_client_running = 1\n[log]\nlevel = 'error'\n",
    )
    user = write(
        tmp_path / "user.toml", "[queue]\nlength = 2\nlook_ahead = 1\n\n[log]\nlevel='debug'"
    )
    result = load(
        LoadArgs(
            files=(system, user),
            environ={"SOLLOLD_QUEUE__LENGTH": "3", "SOLLOLD_LOG__LEVEL": "info"},
            flags=Flags(log_level="warning"),
        )
    )
    queue = result.config.queue
    assert (queue.length, queue.look_ahead, queue.per_client_running) == (3, 1, 1)
    assert result.config.log.level == "warning"
    assert result.files == (system, user)
    assert str(result.origin("queue.length")) == "environment SOLLOLD_QUEUE__LENGTH"
    assert str(result.origin("queue.look_ahead")) == f"{user}:3"
    assert str(result.origin("queue.per_client_running")) == f"{system}:4"
    assert str(result.origin("log.level")) == "flag --log-level"
    assert result.origin("queue.age_step_s").source == "default"
    with pytest.raises(KeyError):
        result.origin("queue.nothing")


def test_a_bad_value_is_told_even_where_a_good_one_beats_it(tmp_path: Path) -> None:
    line = only(tmp_path, "[queue]\nlength = 'x'\n", SOLLOLD_QUEUE__LENGTH="3")
    assert line.startswith("F:2: queue.length: expected")


def test_config_is_read_instead_of_the_other_files(tmp_path: Path) -> None:
    user = write(tmp_path / "user.toml", "[queue]\nlength = 2\n")
    named = write(tmp_path / "named.toml", "[queue]\nper_client_running = 7\n")
    result = load(LoadArgs(files=(user,), config=named))
    assert (result.config.queue.length, result.config.queue.per_client_running) == (512, 7)
    assert result.files == (named,)


def test_a_named_file_has_to_exist_and_be_a_file(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "no.toml", "does not exist"), (tmp_path, "cannot be read")):
        with pytest.raises(ConfigError) as caught:
            load(LoadArgs(config=path))
        (line,) = caught.value.problems
        assert line.startswith(f"{path}: {words}")


def test_an_unreadable_file_is_told_even_when_it_need_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: it is a folder"):
        load(LoadArgs(files=(tmp_path,)))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[listen]\napi = 127.0.0.1:11434\n", "F:2:12: is not valid TOML: expected newline"),
        ("a = 1\nb = [1,\n", "F:2:8: is not valid TOML: "),
        ("[queue]\nlength = 1\nlength = 2\n", "F:3:11: is not valid TOML: cannot overwrite"),
        ("[queue\n", "F:1:7: is not valid TOML: expected ']'"),
    ],
)
def test_a_syntax_error_has_line_and_column(tmp_path: Path, text: str, place: str) -> None:
    found = problems(tmp_path, text, SOLLOLD_LOG__LEVEL="loud")
    assert found[0].startswith(place)
    assert "; texts need quotes" in found[0]
    assert found[1].startswith("environment SOLLOLD_LOG__LEVEL")


def test_a_file_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes(b"[listen]\n# caf\xe9\n")
    with pytest.raises(ConfigError) as caught:
        load(LoadArgs(config=file))
    assert caught.value.problems == [f"{file}:2: is not UTF-8 text; save it as UTF-8"]


def test_a_windows_file_is_read_and_its_lines_are_right(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes(b"\xef\xbb\xbf[queue]\r\nlength = 7\r\nlook_ahead = 7\r\nlong = 1\r\n")
    with pytest.raises(ConfigError) as caught:
        load(LoadArgs(config=file))
    assert caught.value.problems == [f"{file}:4: queue.long: unknown key; did you mean length?"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[queue]\nLength = 1", "F:2: queue.Length: unknown key; did you mean length?"),
        ("[listen]\nlength = 1", "F:2: listen.length: unknown key; did you mean queue.length?"),
        ("length = 1", "F:1: length: unknown section; did you mean queue.length?"),
        (
            "[loads]\nzzz = 1",
            "F:2: loads.zzz: unknown key; remove it: [loads] has on_client_gone, ",
        ),
        ("zzz = 1", "F:1: zzz: unknown section; remove it: there are listen, nodes, "),
        ("queue = 5", "F:1: queue: is a section, got 5; write [queue]"),
        ("[[queue]]\nlength = 1", "F:1: queue: is a section, got [a table]; write [queue]"),
        (
            "[nodes]\nurl = 'x'",
            "F:1: nodes: expected a list of nodes, got a table; write [[nodes]]",
        ),
        ("nodes = ['x']", 'F:1: nodes[0].url: expected a table, got "x"; write [[nodes]]'),
        ("[[nodes]]\nurl = 'x'\nurll = 'y'", "F:3: nodes[0].urll: unknown key; did you mean url?"),
        ("[[nodes]]\nurl = 5", "F:2: nodes[0].url: expected a text in quotes, got 5"),
        (
            "[[nodes]]\nurl='x'\ntier = 11",
            "F:3: nodes[0].tier: expected a whole number, at least 1",
        ),
        (
            "[queue]\nlength = 1.5",
            "F:2: queue.length: expected a whole number, at least 1, got 1.5",
        ),
        (
            "[queue]\nlength = true",
            "F:2: queue.length: expected a whole number, at least 1, got true",
        ),
        (
            "[queue]\nage_step_s = 0",
            'F:2: queue.age_step_s: expected seconds or a text like "30s", ',
        ),
        ("[health]\ntimeout_s = inf", "F:2: health.timeout_s: expected seconds"),
        ("[health]\ntimeout_s = nan", "F:2: health.timeout_s: expected seconds"),
        (
            "[limits]\nbody_bytes = 1.5",
            'F:2: limits.body_bytes: expected bytes or a text like "4 MiB"',
        ),
        ("[limits]\nbody_bytes = 3", "F:2: limits.body_bytes: expected bytes"),
        ("[metrics]\nenabled = 'yes'", 'F:2: metrics.enabled: expected true or false, got "yes"'),
        ("[listen]\napi = [1]", "F:2: listen.api: expected a text or a list of texts, got [1]"),
        ("[listen]\ncontrol = 1", "F:2: listen.control: expected true or false or a path, got 1"),
        (
            "[routing]\nstrategy = 'fastest'",
            'F:2: routing.strategy: expected "intelligent", got "fa',
        ),
        (
            "[routing.weights]\nwait = -1",
            "F:2: routing.weights.wait: expected a number, at least 0",
        ),
        (
            "[routing]\nweights = 1",
            "F:2: routing.weights: is a section, got 1; write [routing.weigh",
        ),
        ("[log]\nlevel = 2024-01-01", "F:2: log.level: expected one of"),
        (
            "[discovery]\nmdns = true",
            "F:2: discovery.mdns: this version does not look for nodes by m",
        ),
        ("[discovery]\nsweep = true", "F:2: discovery.sweep: this version does not sweep"),
        ("[discovery]\nadmit = 'auto'", "F:2: discovery.admit: this version has no admission"),
        ("[routing]\nmode = 'auto'", "F:2: routing.mode: this version has one mode"),
        ("[[rpc_backends]]\naddress = 'x'", "F:1: rpc_backends: this version does not run models"),
        ("[coordinator]\nenabled = true", "F:1: coordinator: this version does not start coord"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(
    tmp_path: Path, text: str, words: str
) -> None:
    line = only(tmp_path, text)
    assert line.startswith(words)
    assert "; " in line


def test_durations_and_sizes_are_numbers_or_texts(tmp_path: Path) -> None:
    result = loaded(
        tmp_path,
        "[queue]\nmax_wait_s = '1h30m'\nage_step_s = 2\nholder_down_s = 0.5\n"
        "[limits]\nheld_bytes = '1 MiB'\nclient_spool_bytes = 2048\n[failover]\noverdue_s='250ms'",
    )
    queue, limits = result.config.queue, result.config.limits
    assert (queue.max_wait_s, queue.age_step_s, queue.holder_down_s) == (5400.0, 2.0, 0.5)
    assert (limits.held_bytes, limits.client_spool_bytes) == (1024**2, 2048)
    assert result.config.failover.overdue_s == 0.25


def test_a_single_text_stands_for_a_list(tmp_path: Path) -> None:
    result = loaded(tmp_path, "[listen]\napi = '127.0.0.1:1'\nconsole = ['[::1]:2', '127.0.0.1:2']")
    assert result.config.listen.api == ("127.0.0.1:1",)
    assert result.config.listen.api_addresses() == (("127.0.0.1", 1),)
    assert result.config.listen.console_addresses() == (("::1", 2), ("127.0.0.1", 2))


def test_nodes_are_read_in_their_normal_form(tmp_path: Path) -> None:
    result = loaded(
        tmp_path,
        "[[nodes]]\nurl = 'gpu-1'\nname = 'one'\nslots = 2\nkind = 'ollama'\n"
        "[[nodes]]\nurl = 'http://gpu-2'\nmac = '3C-7c-3f-1a-2b-4d'\nkey_env = 'KEY'\ntier = 1\n",
        KEY="secret",
    )
    assert result.config.nodes == (
        Node(url="http://gpu-1:11434", name="one", slots=2, kind="ollama"),
        Node(url="http://gpu-2:11434", mac="3C-7c-3f-1a-2b-4d", key_env="KEY", tier=1),
    )
    assert result.notes == ('nodes[1].url: "http://gpu-2" names no port; gpu-2:11434 is used',)
    assert str(result.origin("nodes[1].tier")).endswith("s.toml:10")
    assert str(result.origin("nodes[0].tier")) == "default"


def test_nodes_are_replaced_as_a_whole(tmp_path: Path) -> None:
    file = write(tmp_path / "s.toml", "[[nodes]]\nurl = 'a'\nname='x'\n[[nodes]]\nurl = 'b'\n")
    environ = {"SOLLOLD_NODES": "c, d:1"}
    result = load(LoadArgs(config=file, environ=environ))
    assert [node.url for node in result.config.nodes] == ["http://c:11434", "http://d:1"]
    assert str(result.origin("nodes[1].url")) == "environment SOLLOLD_NODES"
    assert str(result.origin("nodes[0].name")) == "default"
    result = load(LoadArgs(config=file, environ=environ, flags=Flags(nodes=("e",))))
    assert [node.url for node in result.config.nodes] == ["http://e:11434"]
    assert str(result.origin("nodes[0].url")) == "flag --node"


def test_the_hosts_file_adds_nodes_that_are_not_configured(tmp_path: Path) -> None:
    hosts = write(tmp_path / "hosts", "# mine\n\ngpu-1:11434\ngpu-2 # two\n[fd00::1]:8080\ngpu-2\n")
    result = loaded(
        tmp_path, "[discovery]\nhosts_file = 'hosts'\n[[nodes]]\nurl = 'gpu-1'\ntier = 2"
    )
    assert result.config.discovery.hosts_file == str(hosts)
    assert [(node.url, node.tier) for node in result.config.nodes] == [
        ("http://gpu-1:11434", 2),
        ("http://gpu-2:11434", 5),
        ("http://[fd00::1]:8080", 5),
    ]
    assert str(result.origin("nodes[1].url")) == f"{hosts}:4"
    assert result.origin("nodes[1].url").source == "hosts file"


def test_another_path_is_another_node_in_the_hosts_file_too(tmp_path: Path) -> None:
    write(tmp_path / "hosts", "http://gpu:1/a\nhttp://gpu:1/b/\ngpu:1/c\ngpu:1/b\n")
    text = "[discovery]\nhosts_file = 'hosts'\n[[nodes]]\nurl = 'gpu:1/a'"
    urls = [node.url for node in loaded(tmp_path, text).config.nodes]
    assert urls == ["http://gpu:1/a", "http://gpu:1/b", "http://gpu:1/c"]


def test_a_missing_or_binary_hosts_file_is_told(tmp_path: Path) -> None:
    text = "[discovery]\nhosts_file = 'hosts'\n"
    where = f'F:2: discovery.hosts_file: "{tmp_path}/hosts" cannot be read: '
    assert f"{where}No such file" in only(tmp_path, text)
    (tmp_path / "hosts").write_bytes(b"\xff\n")
    assert "it is not UTF-8" in only(tmp_path, text)


def test_paths_start_at_the_file_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.chdir("/")
    (tmp_path / "spool").mkdir()
    result = loaded(tmp_path, "[listen]\ncontrol = '~/c.sock'\n[limits]\nspool_dir = 'spool'\n")
    assert result.config.listen.control == "/home/somebody/c.sock"
    assert result.config.limits.spool_dir == str(tmp_path / "spool")
    result = loaded(tmp_path, "", SOLLOLD_LISTEN__CONTROL="x/c.sock")
    assert result.config.listen.control == "/x/c.sock"
    assert loaded(tmp_path, "[listen]\ncontrol = false").config.listen.control is False


def test_a_clash_with_a_default_is_told_at_the_value_that_was_given(tmp_path: Path) -> None:
    line = only(tmp_path, "[listen]\napi = '127.0.0.1:8080'")
    assert line.startswith("F:2: listen.console: 127.0.0.1:8080 and 127.0.0.1:8080 (listen.api)")


def test_a_wrong_node_does_not_hide_what_is_wrong_with_the_others(tmp_path: Path) -> None:
    hosts = write(tmp_path / "hosts", "127.0.0.1:8080\n")
    text = "[discovery]\nhosts_file = 'hosts'\n[[nodes]]\nurl = 5\n[[nodes]]\nurl = 'a b'\n"
    found = problems(tmp_path, text)
    assert [line.partition(": ")[0] for line in found] == ["F:4", "F:6", f"{hosts}:1"]
    assert "nodes[2].url: http://127.0.0.1:8080 is this daemon itself (listen.console" in found[2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[limits]\nspool_dir = "~nouserhere/x"', "F:2: limits.spool_dir: starts with ~nouserhere"),
        ('[limits]\nspool_dir = "/a\\u0000b"', "F:2: limits.spool_dir: holds a NUL character"),
        (
            '[[nodes]]\nurl = "https://x"\nca_file = "~nouserhere/x"',
            "F:3: nodes[0].ca_file: starts with ~nouserhere",
        ),
        ("[queue]\nlength = " + "1" * 5000, "F:2: queue.length: has a number that is too long"),
        *(
            (f"[queue]\n\nlength = {'[' * depth}{']' * depth}", "F:3: queue.length: is nested")
            for depth in (400, 3000)
        ),
    ],
)
def test_what_is_beyond_reading_is_a_problem_like_others(
    tmp_path: Path, text: str, told: str
) -> None:
    (line,) = problems(tmp_path, text + "\n")
    assert line.startswith(told)
    assert "; write " in line


def test_a_relative_path_where_the_folder_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    with pytest.raises(ConfigError, match="the current folder is gone; write the path from / on"):
        load(LoadArgs(environ={"SOLLOLD_LIMITS__SPOOL_DIR": "x"}))
    load(LoadArgs(environ={"SOLLOLD_LIMITS__SPOOL_DIR": str(tmp_path)}))


@pytest.mark.timeout(10)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    kinds = {pipe: "a pipe", Path("/dev/zero"): "a device", tmp_path: "a folder"}
    for path, kind in kinds.items():
        words = f"cannot be read: it is {kind}, not a regular file; "
        with pytest.raises(ConfigError) as caught:
            load(LoadArgs(config=path))
        assert caught.value.problems[0].startswith(f"{path}: {words}")
        line = only(tmp_path, f"[discovery]\nhosts_file = '{path}'\n")
        assert line.startswith(f'F:2: discovery.hosts_file: "{path}" {words}')
        line = only(tmp_path, f"[[nodes]]\nurl = 'https://gpu'\nca_file = '{path}'\n")
        assert line.startswith(f'F:3: nodes[0].ca_file: "{path}" {words}')


def test_a_file_too_large_for_settings_is_refused(tmp_path: Path) -> None:
    line = only(tmp_path, "#" * (1024 * 1024 + 1))
    assert line.startswith("F: cannot be read: it has more than 1024 KiB")
    assert loaded(tmp_path, "#" * 1024 * 1024).config == Config()


def test_a_table_that_stands_twice_is_named_as_it_is_written(tmp_path: Path) -> None:
    assert "cannot declare [log] twice" in only(tmp_path, "[log]\n[log]\n")
    assert "cannot declare [a.b] twice" in only(tmp_path, "[a.b]\n[a.b]\n")


def test_a_nodes_key_outside_of_nodes_is_told_where_it_belongs(tmp_path: Path) -> None:
    line = only(tmp_path, "[listen]\nurl = 'http://gpu-1'\n")
    assert line.startswith("F:2: listen.url: unknown key; nodes have it: write [[nodes]] in the")
