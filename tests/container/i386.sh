#!/bin/sh
# Builds everything with 32 bits, and runs tests, in a fresh minimal Debian of the architecture i386:
# make check-32. Nothing of this machine is changed; the system shares its network.
#
#   tests/container/i386.sh 'PACKAGE...' TEST...
#
# Needs root, debootstrap and an x86-64 kernel that runs i386 programs (else it is skipped).
#
#   I386_BASE  a directory that keeps the minimal system for the next time
#   MAKEFLAGS  handed on
#   TMPDIR     where the system is made: some 1.5 GB
#
# Exit status: 0 passed, 77 skipped, else failed.
set -eu

# shellcheck source=tests/container/support.sh
. "$(dirname "$0")/support.sh"
[ $# -ge 2 ] || usage
packages=$1
shift

needs debootstrap unshare
[ "$(uname -m)" = x86_64 ] || skip 'this machine runs no i386 programs'
needs_namespaces
make_work
root=$work/system
# shellcheck disable=SC2086
ROOTFS_ARCH=i386 make_system "$root" "${I386_BASE:-}" $packages
mkdir "$root/headwater"
copy_sources "$repository" "$root/headwater"
# $1 and $* are arguments of the inner shell.
# shellcheck disable=SC2016
"$here/enter" "$root" sh -euc '
    cd /headwater
    export MAKEFLAGS="$1"
    shift
    make WERROR=1 check-run TESTS="$*"' inside "${MAKEFLAGS:-}" "$@" </dev/null
