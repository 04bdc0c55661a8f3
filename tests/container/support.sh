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

# What else is to be done before the directory goes.
leave() {
    :
}

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
