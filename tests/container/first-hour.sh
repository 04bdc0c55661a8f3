#!/bin/sh
# The first hour of a newcomer, by README.md alone: from a machine with nothing of ours to a node of
# one's own that runs a configuration of one's own. Every command is copied from there.
#
#   tests/container/first-hour.sh [--release NAME] [source|packages|containers...]
#
#   source      make demo, the tour, and a node of your own; as a user with sudo, in a fresh minimal Debian
#   packages    build and install the packages, and set up one machine with them; as a user with sudo,
#               in a Debian that is booted with systemd (systemd-nspawn, else it is skipped)
#   containers  compose.yaml, with the Docker engine of this machine: compose.sh, which runs what stands
#               in the README (else it is skipped)
#
# Without one of these all of them. --release is Debian's: bookworm (default) or trixie.
#
# Needs root and debootstrap (else it is skipped).
#
#   FRESH_BASE  a directory that keeps the minimal systems, below the names of their releases
#   MAKEFLAGS   handed on
#   TMPDIR      where the systems are made: some 2 GB each
#
# Exit status: 0 all passed, 77 one was skipped, else failed.
set -eu

# shellcheck source=tests/container/support.sh
. "$(dirname "$0")/support.sh"
release=bookworm
skipped=

# begin NAME PACKAGE...: starts a system, in $root, in which a user has a clone, and installs packages.
begin() {
    root=$work/$1
    shift
    make_release "$root" "$release"
    start "$root"
    make_user
    if [ $# -gt 0 ]; then
        quietly install "$* cannot be installed" inside sh -euc "$apt_install" begin "$@"
    fi
    clone_into "$root" /home/user/headwater user
}

# as_reader NAME: runs the commands on standard input in one shell of the user's, in the clone. NAME is the
# file that keeps them.
as_reader() {
    cat >"$root/home/user/$1"
    inside_as user env MAKEFLAGS="${MAKEFLAGS:-}" \
        bash -euc "cd ~/headwater && set -x && . ../$1" </dev/null 2>&1
}

# holds FILE TEXT WHAT: fails with WHAT unless one of the file's lines is the text.
holds() {
    grep -qxF "$2" "$1" || fail "$3 does not hold $2: $(cat "$1")"
}

from_source() {
    say "from source, on $release"
    begin source
    begun=$(date +%s)
    {
        # A reader pastes the indented lines that the demonstration ends with.
        echo "make demo ARGS=--keep >../kept"
        echo "eval \"\$(sed -n 's/^  export /export /p' ../kept)\""
        "$repository/tests/readme" 'A tour of five minutes'
        "$repository/tests/readme" 'A node of your own'
        # shellcheck disable=SC2016 # the reader's
        echo 'scripts/demo --stop "$DEMO"'
    } | as_reader commands
    # grep -x wants a line, and the file has no line feed at its end.
    echo >>"$root/home/user/headwater/my-node/config.json"
    holds "$root/home/user/headwater/my-node/config.json" \
        '{"rate_hz": 4000, "trigger": "external", "channels": [1, 2, 3]}' 'the node of one'"'"'s own'
    say "from source: passed after $(($(date +%s) - begun)) s"
    leave
}

by_packages() {
    if ! command -v systemd-nspawn >/dev/null; then
        say 'by packages: skipped, systemd-nspawn (systemd-container) is not installed'
        skipped=yes
        return
    fi
    say "by packages, on $release"
    begin packages systemd systemd-sysv dbus
    begun=$(date +%s)
    "$repository/tests/readme" 'Install the packages' | as_reader install
    leave
    "$repository/tests/readme" 'Set up one machine' >"$root/home/user/commands"
    cat >"$work/inside" <<'END'
#!/bin/sh
exec runuser -u user -- bash -euc 'cd && set -x && . ./commands' 2>&1
END
    status=0
    boot "$root" 'nats-server.service postgresql.service' "$work/inside" || status=$?
    case $status in
        0) ;;
        77)
            skipped=yes
            return
            ;;
        *) fail 'by packages' ;;
    esac
    echo >>"$root/var/lib/headwater-agent/config.json"
    holds "$root/var/lib/headwater-agent/config.json" '{"rate_hz":1000,"trigger":"internal"}' \
        "the service's node"
    say "by packages: passed after $(($(date +%s) - begun)) s"
}

by_containers() {
    say 'in containers'
    status=0
    "$here/compose.sh" || status=$?
    case $status in
        0) say 'in containers: passed' ;;
        77) skipped=yes ;;
        *) fail 'in containers' ;;
    esac
}

if [ "${1:-}" = --release ]; then
    [ $# -gt 1 ] || usage
    release=$2
    shift 2
fi
ways=${*:-source packages containers}
for way in $ways; do
    case $way in
        source | packages | containers) ;;
        *) usage ;;
    esac
done
needs debootstrap unshare nsenter git
needs_namespaces
make_work
for way in $ways; do
    case $way in
        source) from_source ;;
        packages) by_packages ;;
        containers) by_containers ;;
    esac
done
[ -z "$skipped" ] || exit 77
say 'passed'
