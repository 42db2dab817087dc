"""Unit files as they are written: made to fit, quoted, sealed."""

from __future__ import annotations

import pytest

from sollold.ctl.unitfile import SERVICE, exec_words, is_as_written, unit_text
from sollold.system.shipped import shipped

TEMPLATE = "# A comment\n[Service]\nExecStart=%h/somewhere/sollold\nRestart=on-failure\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["/opt/sollold/bin/sollold"], "/opt/sollold/bin/sollold"),
        (["/usr/bin/python3.11", "-m", "sollold"], "/usr/bin/python3.11 -m sollold"),
        (["/home/a b/sollold"], '"/home/a b/sollold"'),
        (["/home/100%/sollold"], '"/home/100%%/sollold"'),
        (['/home/"x"\\y/sollold'], '"/home/\\"x\\"\\\\y/sollold"'),
        (["/home/käthe/sollold"], '"/home/käthe/sollold"'),
        (["/home/$HOME;/sollold"], '"/home/$HOME;/sollold"'),
    ],
)
def test_a_command_is_quoted_as_unit_files_want_it(words: list[str], text: str) -> None:
    assert exec_words(words) == text


@pytest.mark.parametrize("word", ["/a\nExecStop=b", "/a\x00", "/a\udc80"])
def test_what_no_unit_file_can_hold_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="no unit file can hold"):
        exec_words([word])


def test_only_the_command_of_the_template_is_replaced() -> None:
    text = unit_text(SERVICE, template=TEMPLATE, command="/x/sollold", is_system=False)
    assert text.endswith(TEMPLATE.replace("%h/somewhere/sollold", "/x/sollold"))
    assert "systemctl --user edit sollold.service" in text


def test_a_command_with_backslashes_is_taken_as_it_is() -> None:
    text = unit_text(SERVICE, template=TEMPLATE, command=r'"/x\\1/\\g<0>"', is_system=True)
    assert r'ExecStart="/x\\1/\\g<0>"' in text
    assert "systemctl edit sollold.service" in text


def test_an_edit_breaks_the_seal() -> None:
    text = unit_text(SERVICE, template=TEMPLATE, command="/x/sollold", is_system=False)
    assert is_as_written(text)
    assert not is_as_written(text.replace("on-failure", "always"))
    assert not is_as_written(text + "\n")
    assert not is_as_written(TEMPLATE)
    assert not is_as_written("")


@pytest.mark.parametrize("manager", ["user", "system"])
@pytest.mark.parametrize("unit", ["sollold.service", "sollold.socket"])
def test_the_shipped_units_are_found(manager: str, unit: str) -> None:
    assert "[Unit]" in (shipped("systemd") / manager / unit).read_text()
