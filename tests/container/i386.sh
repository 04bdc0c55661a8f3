#!/bin/sh
# Builds everything with 32 bits, and runs tests, in a fresh minimal Debian of the architecture i386:
# make check-32. Nothing of this machine is changed; the system shares its network.
#
#   tests/container/i386.sh PACKAGE... -- TEST...
#
# Needs root, debootstrap and an x86-64 kernel that runs i386 programs (else it is skipped).
#
#   I386_BASE  a directory that keeps the minimal system for the next time
#   MAKEFLAGS  handed on
#   TMPDIR     where the system is made: some 1.5 GB
#
# Exit status: 0 passed, 77 skipped, else failed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
work=
packages=

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

while [ $# -gt 0 ] && [ "$1" != -- ]; do
    packages="$packages $1"
    shift
done
if [ $# -lt 2 ]; then
    echo 'usage: i386.sh PACKAGE... -- TEST...' >&2
    exit 2
fi
shift

[ "$(id -u)" -eq 0 ] || skip 'a fresh system cannot be made without root'
for tool in debootstrap unshare; do
    command -v "$tool" >/dev/null || skip "$tool is not installed"
done
[ "$(uname -m)" = x86_64 ] || skip 'this machine runs no i386 programs'
unshare --mount --pid --fork true 2>/dev/null || skip 'no namespaces may be made here'

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
work=$(mktemp -d "${TMPDIR:-/tmp}/headwater-i386.XXXXXX")
chmod 755 "$work"
root=$work/system
if [ -n "${I386_BASE:-}" ] && [ -e "$I386_BASE/etc/debian_version" ]; then
    cp -a "$I386_BASE" "$root"
else
    # shellcheck disable=SC2086
    ROOTFS_ARCH=i386 "$here/rootfs" "$root" $packages >"$work/rootfs.log" 2>&1 || {
        tail -n 20 "$work/rootfs.log" >&2
        exit 1
    }
    if [ -n "${I386_BASE:-}" ]; then
        cp -a "$root" "$I386_BASE"
    fi
fi
mkdir "$root/headwater"
tar -C "$repository" -c --exclude=./build --exclude=./.git . | tar -C "$root/headwater" -x
# The inner shell's arguments.
# shellcheck disable=SC2016
"$here/enter" "$root" sh -euc '
    cd /headwater
    export MAKEFLAGS="$1"
    shift
    make WERROR=1 check-run TESTS="$*"' inside "${MAKEFLAGS:-}" "$@" </dev/null
