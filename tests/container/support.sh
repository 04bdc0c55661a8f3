# shellcheck shell=sh
# What the scripts of this directory share; they source it. Most of them run something in a Debian system
# that is a directory.

here=$(cd "$(dirname "$0")" && pwd)
name=$(basename "$0" .sh)
repository=$(cd "$here/../.." && pwd)
work=

say() {
    printf '\n#### %s: %s\n' "$name" "$*"
}

fail() {
    echo "failed: $*" >&2
    exit 1
}

skip() {
    echo "skipped: $*" >&2
    exit 77
}

# Prints the line of the script's first comment that shows how it is called.
usage() {
    sed -n "s,^#  *\(tests/container/$name.sh.*\),usage: \1,p" "$0" >&2
    exit 2
}

# quietly LOG WHAT COMMAND...: runs the command with its output in $work/LOG.log. A command that fails ends
# the script, which shows the end of that output and WHAT.
quietly() {
    log=$work/$1.log
    what=$2
    shift 2
    "$@" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        fail "$what"
    }
}

# copy_sources FROM TO: copies all files but build/ and .git into an existing directory.
copy_sources() {
    tar -C "$1" -c --exclude=./build --exclude=./.git . | tar -C "$2" -x
}

# A script for sh -euc inside a system, which installs the packages that are its arguments.
# shellcheck disable=SC2016
apt_install='
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@"'

# needs TOOL...: skips the script unless root runs it and these tools are there.
needs() {
    [ "$(id -u)" -eq 0 ] || skip 'a fresh system cannot be made without root'
    for tool in "$@"; do
        command -v "$tool" >/dev/null || skip "$tool is not installed"
    done
}

needs_namespaces() {
    unshare --mount --pid --fork true 2>/dev/null || skip 'no namespaces may be made here'
}

# ---- a system that runs: its first process sleeps, and never waits for orphans ----

space= # the process around it
first= # its first process

# Ends the system that runs, which ends with its first process.
leave() {
    if [ -n "$space" ]; then
        kill -KILL "$space" 2>/dev/null || true
        wait "$space" 2>/dev/null || true
        space=
    fi
}

# runs PID NAME: does the process run a file of that name? Only the end of the path counts, since a process
# in another root shows it with a path of its own.
runs() {
    [ "$(basename "$(readlink "/proc/$1/exe" 2>/dev/null || true)")" = "$2" ]
}

# start ROOT: starts the system, whose first process sleeps from then on.
start() {
    "$here/enter" "$1" sleep infinity </dev/null >/dev/null &
    space=$!
    first=
    until [ -n "$first" ] && runs "$first" sleep; do
        [ -e "/proc/$space/exe" ] || fail 'the system does not start'
        first=$(tr -d ' ' <"/proc/$space/task/$space/children" || true)
        sleep 0.1
    done
}

# inside COMMAND...: runs a command as root in the system that runs.
inside() {
    nsenter --target "$first" --mount --pid --ipc --uts --root --wd -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"
}

# inside_as WHO COMMAND...: runs a command as that user, with a new environment.
inside_as() {
    as=$1
    shift
    inside setpriv --reuid="$as" --regid="$as" --init-groups --reset-env -- "$@"
}

# Makes an ordinary user, "user", who may use sudo.
make_user() {
    quietly user 'no user with sudo' inside sh -euc "$apt_install"'
        useradd --create-home --shell /bin/bash user
        echo "user ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/user' make_user sudo
}

# clone_into ROOT CLONE WHO: gives a user of the system that runs a clone of what is committed.
clone_into() {
    git clone --quiet --no-hardlinks "$repository" "$1$2"
    inside chown -R "$3:" "$2"
}

# ---- a system that is booted, with systemd and a network of its own ----

# boot ROOT UNITS SCRIPT: boots it, runs the script in there once UNITS are up, and shows what the script
# said. Returns the script's status, and 77 where no system can be booted.
boot() {
    ended=0
    install -m 0755 "$3" "$1/inside"
    cat >"$1/etc/systemd/system/inside.service" <<END
[Unit]
After=basic.target $2
SuccessAction=exit
FailureAction=exit
FailureActionExitStatus=1

[Service]
Type=oneshot
ExecStart=/inside
StandardOutput=file:/inside.log
StandardError=file:/inside.log
TimeoutStartSec=600

[Install]
WantedBy=multi-user.target
END
    ln -s /etc/systemd/system/inside.service \
        "$1/etc/systemd/system/multi-user.target.wants/inside.service"
    systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe \
        --directory="$1" --boot </dev/null >"$work/boot.log" 2>&1 || ended=$?
    if [ ! -e "$1/inside.log" ]; then
        tail -n 20 "$work/boot.log" >&2
        say 'no system can be booted here'
        return 77
    fi
    cat "$1/inside.log"
    return "$ended"
}

# ---- a directory of our own ----

# A script redefines this when it leaves something else behind. $1 is the status that it ends with.
tidy_up() {
    :
}

finish() {
    status=$?
    trap - EXIT
    leave
    tidy_up "$status" || status=1
    if [ -n "$work" ]; then
        rm -rf --one-file-system "$work"
    fi
    exit "$status"
}

# Makes a temporary directory, $work, that is removed at the end, however the script ends.
make_work() {
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    work=$(mktemp -d "${TMPDIR:-/tmp}/headwater-$name.XXXXXX")
    chmod 755 "$work"
}

# make_system DIRECTORY KEPT PACKAGE...: makes a minimal system with these packages, by rootfs. A system that
# was kept in the directory KEPT is copied instead; otherwise the new one is kept there. KEPT may be empty.
make_system() {
    system=$1
    kept=$2
    shift 2
    if [ -n "$kept" ] && [ -e "$kept/etc/debian_version" ]; then
        cp -a "$kept" "$system"
        return
    fi
    quietly rootfs 'no minimal system can be made' "$here/rootfs" "$system" "$@"
    if [ -n "$kept" ]; then
        mkdir -p "${kept%/*}"
        cp -a "$system" "$kept"
    fi
}

# make_release DIRECTORY NAME: makes a minimal Debian of that release with what a clone and make need.
make_release() {
    ROOTFS_SUITE=$2 make_system "$1" "${FRESH_BASE:+$FRESH_BASE/$2}" git make ca-certificates
}
