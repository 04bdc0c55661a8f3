# shellcheck shell=sh
# What the scripts share that run something in a Debian system in a directory; they source it.

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck disable=SC2034 # of those who source this
repository=$(cd "$here/../.." && pwd)
work=

fail() {
    echo "failed: $*" >&2
    exit 1
}

skip() {
    echo "skipped: $*" >&2
    exit 77
}

# needs TOOL...: root, and these.
needs() {
    [ "$(id -u)" -eq 0 ] || skip 'a fresh system cannot be made without root'
    for tool in "$@"; do
        command -v "$tool" >/dev/null || skip "$tool is not installed"
    done
}

needs_namespaces() {
    unshare --mount --pid --fork true 2>/dev/null || skip 'no namespaces may be made here'
}

# ---- a system that runs: its first process sleeps, and waits for nobody's children ----

space= # the process around it
first= # its first process

# A system ends with its first process.
leave() {
    if [ -n "$space" ]; then
        kill -KILL "$space" 2>/dev/null || true
        wait "$space" 2>/dev/null || true
        space=
    fi
}

# The file that a process runs; of one in another root the end of its path is what counts.
runs() {
    [ "$(basename "$(readlink "/proc/$1/exe" 2>/dev/null || true)")" = "$2" ]
}

# start ROOT: its first process sleeps from here on.
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

# inside COMMAND...: as root in the system that runs.
inside() {
    nsenter --target "$first" --mount --pid --ipc --uts --root --wd -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"
}

# inside_as WHO COMMAND...: as that user, from nothing of ours.
inside_as() {
    as=$1
    shift
    inside setpriv --reuid="$as" --regid="$as" --init-groups --reset-env -- "$@"
}

# An ordinary user, "user", who may use sudo.
make_user() {
    inside sh -euc '
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq update
        apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends sudo
        useradd --create-home --shell /bin/bash user
        echo "user ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/user' >"$work/user.log" 2>&1 || {
        tail -n 20 "$work/user.log" >&2
        fail 'no user with sudo'
    }
}

# clone_into ROOT CLONE WHO: what is committed, in the system that runs.
clone_into() {
    git clone --quiet --no-hardlinks "$repository" "$1$2"
    inside chown -R "$3:" "$2"
}

# ---- a system that is booted, with systemd and a network of its own ----

# boot ROOT UNITS SCRIPT: runs the script in there once UNITS are up, and ends with the system and the
# script's status. What it said is in ROOT/inside.log: no such file, no system can be booted here.
boot() {
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
        --directory="$1" --boot </dev/null >"$work/boot.log" 2>&1
}

# ---- a directory of our own ----

finish() {
    status=$?
    trap - EXIT
    leave
    if [ -n "$work" ]; then
        rm -rf --one-file-system "$work"
    fi
    exit "$status"
}

# make_work NAME: a temporary directory, $work, that is removed at the end, whatever that is.
make_work() {
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    work=$(mktemp -d "${TMPDIR:-/tmp}/headwater-$1.XXXXXX")
    chmod 755 "$work"
}

# make_system DIRECTORY KEPT PACKAGE...: a fresh minimal system, as rootfs makes it; a copy of the one
# in KEPT where there is one, and KEPT is made a copy of it where not. KEPT may be empty.
make_system() {
    system=$1
    kept=$2
    shift 2
    if [ -n "$kept" ] && [ -e "$kept/etc/debian_version" ]; then
        cp -a "$kept" "$system"
        return
    fi
    "$here/rootfs" "$system" "$@" >"$work/rootfs.log" 2>&1 || {
        tail -n 20 "$work/rootfs.log" >&2
        return 1
    }
    if [ -n "$kept" ]; then
        mkdir -p "${kept%/*}"
        cp -a "$system" "$kept"
    fi
}
