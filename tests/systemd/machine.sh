#!/usr/bin/env bash
# A service manager in a machine of its own: namespaces over a copy-on-write view of this system.
#
#   machine.sh user|system DIR TREE VENV    until its standard input ends
#
#   user     systemd --user by hand, for an ordinary user
#   system   systemd as PID 1, booted
#
# Ends with 77 where the kernel refuses what it takes, with 69 where root or systemd is missing.
# DIR is an empty folder; DIR/pid holds the first process of the machine as seen from outside.
# TREE and VENV are seen inside as /opt/sollold/tree and /opt/sollold/venv. The network is this
# machine's own; files written, processes and control groups go with the machine. Needs root.
set -euo pipefail

readonly PROGRAM=/lib/systemd/systemd
readonly REFUSED=77 LACKING=69
readonly USER_ID=61234
readonly USER_NAME=sollold-test
readonly GROUP_PREFIX=sollold-test
readonly MASKED=(
  console-getty.service getty.target modprobe@.service networking.service
  systemd-binfmt.service systemd-firstboot.service systemd-hwdb-update.service
  systemd-journal-flush.service systemd-logind.service systemd-modules-load.service
  systemd-networkd.service systemd-pstore.service systemd-random-seed.service
  systemd-remount-fs.service systemd-resolved.service systemd-sysctl.service
  systemd-timesyncd.service systemd-udev-trigger.service systemd-udevd.service
  systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-update-utmp.service
  dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount
  sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount
  sys-kernel-tracing.mount systemd-tmpfiles-clean.timer
)

main() {
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
  case ${1:-} in
    user | system) outside "$@" ;;
    --groups) shift; with_groups "$@" ;;
    --inside) shift; inside "$@" ;;
    *) die "usage: machine.sh user|system DIR TREE VENV" ;;
  esac
}

die() { printf '%s\n' "$*" >&2; exit 1; }

# What the kernel, or who has set up this container, does not allow: no fault of a script.
refused() { printf '%s\n' "$*" >&2; exit $REFUSED; }

# What a person can mend: root, a package.
lacking() { printf '%s\n' "$*" >&2; exit $LACKING; }

outside() {
  ((EUID == 0)) || lacking "namespaces and mounts need root; run the tests as root"
  [[ -x $PROGRAM ]] || lacking "systemd is missing. On Debian and Ubuntu: apt-get install systemd"
  unshare --mount --propagation unchanged true 2>/dev/null ||
    refused "this machine lets nobody mount; of a container it takes a privileged one (docker run --privileged)"
  exec unshare --mount --propagation unchanged bash "${BASH_SOURCE[0]}" --groups "$@"
}

# Mounts of this process end with it; control groups do not, so it stays to remove them.
with_groups() {
  local dir=$2 groups=$2/groups own machine
  # What is mounted here must not show outside. A chroot has no root to say so of: its path is that
  # of the namespace, where nsenter leads.
  mount --make-rprivate / 2>/dev/null ||
    nsenter --mount=/proc/self/ns/mnt mount --make-rprivate /
  mkdir "$groups"
  mount -t cgroup2 cgroup2 "$groups" 2>/dev/null ||
    refused "this kernel gives no control groups (cgroup2); of a container it takes a privileged one"
  own=$groups$(sed -n 's/^0:://p' /proc/self/cgroup)
  remove_old_groups "$own"
  group=$(mktemp -d "$own/$GROUP_PREFIX.XXXXXX") ||
    refused "no control group can be made in $own: it must be writable; of a container it takes a privileged one"
  trap 'remove_group "$group"' EXIT
  trap 'kill -KILL "$machine" 2>/dev/null' TERM INT HUP
  # In a group of its own before its root is hidden from it.
  (
    echo "$BASHPID" >"$group/cgroup.procs"
    exec unshare --mount --propagation unchanged --cgroup --ipc --uts --pid --fork --kill-child \
      bash "${BASH_SOURCE[0]}" --inside "$@"
  ) </dev/null &
  machine=$!
  # Whoever started this ends it by closing its standard input.
  cat >/dev/null <&0 &
  local watch=$! status=0
  wait -n "$machine" "$watch" || status=$?
  kill -KILL "$machine" "$watch" 2>/dev/null || true
  wait "$machine" 2>/dev/null || true
  return "$status"
}

# A run that was killed left empty groups behind. Those in use cannot be removed.
remove_old_groups() {
  local old
  for old in "$1/$GROUP_PREFIX".*/; do
    if [[ -d $old ]]; then remove_tree "$old"; fi
  done
}

remove_group() {
  local attempt
  if [[ -e $1/cgroup.kill ]]; then echo 1 >"$1/cgroup.kill" || true; fi
  for ((attempt = 0; attempt < 50; attempt++)); do
    remove_tree "$1"
    [[ -d $1 ]] || return 0
    sleep 0.1
  done
  printf 'control group left behind: %s\n' "$1" >&2
}

remove_tree() { find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || true; }

inside() {
  local mode=$1 dir=$2 tree=$3 venv=$4 root pid
  # The process id outside: /proc is still that of the outside.
  read -r pid _ </proc/self/stat
  root=$dir/root
  make_root "$dir" "$root"
  cd "$root"
  make_devices
  add_program "$tree" "$venv"
  add_user
  "prepare_$mode"
  echo "$pid" >"$dir/pid.new"
  mv "$dir/pid.new" "$dir/pid"
  "run_$mode"
}

make_root() {
  local dir=$1 root=$2
  mkdir "$dir/layer" "$root"
  mount -t tmpfs -o mode=755 tmpfs "$dir/layer"
  mkdir "$dir/layer/upper" "$dir/layer/work"
  mount -t overlay -o "lowerdir=/,upperdir=$dir/layer/upper,workdir=$dir/layer/work" \
    overlay "$root" 2>/dev/null ||
    refused "this kernel gives no overlay of its root file system"
  mkdir -p "$root"/{proc,sys,dev,run,tmp,opt/sollold}
  mount -t proc proc "$root/proc"
  # What is written there is the kernel's, not this machine's.
  mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
  mount -o remount,bind,ro "$root/proc/sys"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
}

make_devices() {
  local name
  mount -t tmpfs -o mode=755 tmpfs dev
  for name in null zero full random urandom tty; do
    : >"dev/$name"
    mount --bind "/dev/$name" "dev/$name"
  done
  ln -s /proc/self/fd dev/fd
  for name in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${name%:*}" "dev/${name#*:}"; done
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
  ln -s pts/ptmx dev/ptmx
  mount -t tmpfs -o mode=1777 tmpfs dev/shm
}

# As installed in a place that every user may read: root's own folders are closed.
add_program() {
  local tree=$1 venv=$2 here=opt/sollold base name
  base=$("$venv/bin/python" -I -c 'import sys; print(sys.base_prefix)')
  mkdir -p $here/{tree,venv/bin,venv/lib} ".$base"
  mount --bind -o ro "$tree" $here/tree
  mount --bind -o ro "$venv/lib" $here/venv/lib
  if [[ $base != /usr ]]; then
    # A Python knows where its library lies, so it stays there, and the way to it is opened.
    mount --bind -o ro "$base" ".$base"
    open_way "$base"
  fi
  name=$(basename "$(readlink -f "$venv/bin/python")")
  printf 'home = %s/bin\ninclude-system-site-packages = false\n' "$base" >$here/venv/pyvenv.cfg
  ln -s "$base/bin/$name" $here/venv/bin/python
  for name in sollold:sollold.__main__ sollolctl:sollold.ctl.main; do
    cat >"$here/venv/bin/${name%:*}" <<END
#!/opt/sollold/venv/bin/python
import sys
sys.path.insert(0, "/opt/sollold/tree")
from ${name#*:} import main
sys.exit(main())
END
    chmod 755 "$here/venv/bin/${name%:*}"
  done
}

open_way() {
  local above=${1%/*}
  while [[ $above ]]; do
    chmod a+x ".$above"
    above=${above%/*}
  done
}

add_user() {
  local home=/home/$USER_NAME
  printf '%s:x:%d:%d::%s:/bin/sh\n' $USER_NAME $USER_ID $USER_ID $home >>etc/passwd
  printf '%s:x:%d:\n' $USER_NAME $USER_ID >>etc/group
  mkdir -p ".$home" run/user/$USER_ID run/systemd/system
  mkdir -p ".$home/.local/share/sollold"
  ln -s /opt/sollold/venv ".$home/.local/share/sollold/venv"
  chown -R $USER_ID:$USER_ID ".$home" run/user/$USER_ID
  chmod 700 ".$home" run/user/$USER_ID
}

# Units of this system start nothing here: only the manager and what a test installs.
prepare_user() {
  mkdir -p etc/systemd/user.conf.d
  rm -rf etc/systemd/user/*.wants usr/lib/systemd/user/*.target.wants
  # Without a journal the lines of services go where the manager's own go.
  printf '[Manager]\nDefaultStandardOutput=inherit\nDefaultStandardError=inherit\n' \
    >etc/systemd/user.conf.d/test.conf
  local name
  for name in '' /cgroup.procs /cgroup.threads /cgroup.subtree_control; do
    chown $USER_ID:$USER_ID "sys/fs/cgroup$name"
  done
}

# A shell is the first process: to a manager without parents the lines of services have no way out.
run_user() {
  # shellcheck disable=SC2016
  exec chroot . bash -c '"$@" & wait "$!"' init \
    setpriv --reuid=$USER_ID --regid=$USER_ID --clear-groups --inh-caps=-all --bounding-set=-all \
    env -i "HOME=/home/$USER_NAME" "XDG_RUNTIME_DIR=/run/user/$USER_ID" "USER=$USER_NAME" \
    "PATH=$PATH" LANG=C.UTF-8 $PROGRAM --user --log-target=console
}

prepare_system() {
  local unit
  rm -rf etc/systemd/system/*.wants etc/fstab
  : >etc/machine-id
  mkdir -p etc/systemd/system var/log/journal
  rm -rf var/log/journal
  for unit in "${MASKED[@]}"; do ln -sfn /dev/null "etc/systemd/system/$unit"; done
  cat >etc/systemd/system/test.target <<'END'
[Unit]
Description=What tests need
Requires=basic.target
After=basic.target
AllowIsolate=yes
END
}

run_system() {
  exec env -i container=sollold-test "PATH=$PATH" \
    chroot . $PROGRAM --system --unit=test.target --log-target=console --show-status=no
}

main "$@"
