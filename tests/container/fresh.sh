#!/bin/sh
# Runs the README's two commands, make demo and make check, where nothing of ours is installed: in a
# fresh minimal Debian with git, make and ca-certificates, from a clean clone of what is committed;
# once as root and once as an ordinary user with sudo. Afterwards no process, no file in /tmp, no
# database cluster may be left.
#
# Needs root and debootstrap (else it is skipped). The system is a directory with namespaces of its
# own for mounts and processes; it shares the network, for the package mirror.
#
#   FRESH_SUITE    the Debian release: bookworm (default), trixie
#   FRESH_AS       who: "root user" (default)
#   FRESH_TARGETS  what to make: "demo check" (default)
#   FRESH_BASE     a directory that keeps the minimal system for the next time
#   MAKEFLAGS      handed on
#   TMPDIR         where the systems are made: some 2 GB each
#
# Exit status: 0 all passed, 77 skipped, else failed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
suite=${FRESH_SUITE:-bookworm}
who=${FRESH_AS:-root user}
targets=${FRESH_TARGETS:-demo check}
work=

say() {
    printf '\n#### fresh %s: %s\n' "$suite" "$*"
}

skip() {
    echo "skipped: $*" >&2
    exit 77
}

finish() {
    status=$?
    trap - EXIT
    if [ -n "$work" ]; then
        rm -rf --one-file-system "$work"
    fi
    exit "$status"
}

make_base() {
    if [ -n "${FRESH_BASE:-}" ] && [ -e "$FRESH_BASE/etc/debian_version" ]; then
        base=$FRESH_BASE
        return
    fi
    say "making the minimal system"
    ROOTFS_SUITE=$suite "$here/rootfs" "$work/base" git make ca-certificates >"$work/rootfs.log" 2>&1 || {
        tail -n 20 "$work/rootfs.log" >&2
        return 1
    }
    base=$work/base
    if [ -n "${FRESH_BASE:-}" ]; then
        cp -a "$base" "$FRESH_BASE"
    fi
}

# What the two commands may not leave behind, as a script for the inside.
left_behind() {
    cat <<'END'
left=
for process in /proc/[0-9]*; do
    case ${process#/proc/} in
        1 | $$) continue ;;
    esac
    if [ -s "$process/cmdline" ]; then
        left="$left
process: $(tr '\0' ' ' < "$process/cmdline")"
    fi
done
for path in /tmp/* /dev/shm/* /etc/postgresql/*/*; do
    if [ -e "$path" ]; then
        left="$left
file: $path"
    fi
done
if [ -n "$left" ]; then
    echo "left behind:$left" >&2
    exit 1
fi
END
}

# run WHO: a system of its own, and all targets in it, in one go of processes.
run() {
    root=$work/$1
    cp -a "$base" "$root"
    case $1 in
        root) home=/root ;;
        user)
            home=/home/user
            "$here/enter" "$root" sh -euc '
                export DEBIAN_FRONTEND=noninteractive
                apt-get -qq update
                apt-get -qq -y install --no-install-recommends sudo
                rm -rf /var/lib/apt/lists/*
                useradd --create-home --shell /bin/bash user
                echo "user ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/user' >"$work/user.log" 2>&1 || {
                tail -n 20 "$work/user.log" >&2
                return 1
            }
            ;;
        *)
            echo "FRESH_AS: $1: neither root nor user" >&2
            return 1
            ;;
    esac
    git clone --quiet --no-hardlinks "$repository" "$root$home/headwater"
    chown -R --reference="$root$home" "$root$home/headwater"
    left_behind > "$root/left-behind"
    for target in $targets; do
        say "$1: make $target"
        start=$(date +%s)
        # The inner shell's arguments.
        # shellcheck disable=SC2016
        "$here/enter" "$root" sh -euc '
            setpriv --reuid="$1" --regid="$1" --init-groups --reset-env -- \
                env MAKEFLAGS="$4" make -C "$2" "$3"
            sh /left-behind' inside "$([ "$1" = root ] && echo root || echo user)" \
            "$home/headwater" "$target" "${MAKEFLAGS:-}" </dev/null
        summary="$summary
  $1: make $target passed in $(($(date +%s) - start)) s"
    done
    rm -rf --one-file-system "$root"
}

[ "$(id -u)" -eq 0 ] || skip "a fresh system cannot be made without root"
for tool in debootstrap unshare git; do
    command -v "$tool" >/dev/null || skip "$tool is not installed"
done
unshare --mount --pid --fork true 2>/dev/null || skip "no namespaces may be made here"

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
work=$(mktemp -d "${TMPDIR:-/tmp}/headwater-fresh.XXXXXX")
chmod 755 "$work"
summary=
make_base
for one in $who; do
    run "$one"
done
say "passed at commit $(git -C "$repository" rev-parse --short HEAD)$summary"
