#!/bin/sh
# Runs the README's two commands, make demo and make check, where nothing of ours is installed: in a
# fresh minimal Debian with git, make and ca-certificates, from a clean clone of what is committed; as
# root, and as an ordinary user with sudo. The system is a directory with namespaces of its own for
# mounts and processes, and its first process is `sleep infinity`, which waits for nobody's children;
# it shares the network, for the package mirror.
#
#   tests/container/fresh.sh [--release NAME,...] [--as WHO,...] [--times COUNT] [TARGET...]
#
#   --release  Debian's: bookworm,trixie (default)
#   --as       who: root,user (default)
#   --times    how often in a row, in the same system: 2 (default)
#   TARGET     what to make: demo check (default)
#
# After each of them no process, not even a zombie, no file outside build/ but those of packages, and no
# database cluster may be left.
#
# Needs root and debootstrap (else it is skipped).
#
#   FRESH_BASE  a directory that keeps the minimal systems, below the names of their releases
#   MAKEFLAGS   handed on: '-- TESTS=build/tests/integration/test_pg_database' has make check run one program
#   TMPDIR      where the systems are made: some 2 GB each
#
# Exit status: 0 all passed, 77 skipped, else failed.
set -eu

# shellcheck source=tests/container/support.sh
. "$(dirname "$0")/support.sh"
releases='bookworm trixie'
who='root user'
times=2
summary=

# Prints a script for the inside that finds what a target left behind:
#   /left list CLONE         notes every process, and every path outside the clone's build/
#   /left check CLONE WHICH  fails for each that has come since; WHICH is "packages" when packages may
#                            have been installed, and "none" otherwise
left_behind() {
    cat <<'END'
paths() {
    find / -xdev \( -path "$1/build" -o -path /left.d -o -path /proc -o -path /sys \) -prune -o \
        -print | sort
}

# This must not start a child, which would be listed.
processes() {
    for process in /proc/[0-9]*; do
        case ${process#/proc/} in
            1 | $$) continue ;;
        esac
        read -r stat <"$process/stat" || continue
        name=${stat#*(}
        state=${stat##*) }
        echo "process ${process#/proc/}, state ${state%% *}: ${name%)*}"
    done 2>/dev/null
}

# Packages and their scripts make files only in these places. apt has helpers that it does not wait for,
# which stay as zombies.
expected() {
    if [ "$1" = packages ]; then
        grep -Ev '^/(etc|run|usr|var)/|, state Z: (apt|dpkg)'
    else
        cat
    fi
}

forbidden_paths() {
    for path in /dev/shm/* /etc/postgresql/*/* /var/lib/postgresql/*/* /usr/sbin/policy-rc.d \
        /etc/postgresql-common/createcluster.d/*install-deps*; do
        [ ! -e "$path" ] || echo "$path"
    done
}

export LC_ALL=C
if [ "$1" = list ]; then
    mkdir -p /left.d
    processes >/left.d/processes
    paths "$2" >/left.d/paths
    exit
fi
for tries in 1 2 3 4 5 6 7 8 9 10; do # what has ended may still be going
    processes >/left.d/now
    {
        grep -vxFf /left.d/processes /left.d/now || true
        paths "$2" | comm -13 /left.d/paths -
    } | expected "$3" >/left.d/found || true
    forbidden_paths >>/left.d/found
    [ -s /left.d/found ] || exit 0
    sleep 1
done
echo 'left behind:' >&2
cat /left.d/found >&2
exit 1
END
}

# make_target WHO CLONE TARGET
make_target() {
    inside_as "$1" env MAKEFLAGS="${MAKEFLAGS:-}" make -C "$2" "$3" </dev/null
}

# Fails when make demo installed packages that only make check needs.
check_packages_of_demo() {
    for package in check g++ prometheus; do
        ! inside dpkg-query -W "$package" >/dev/null 2>&1 || fail "make demo installed $package"
    done
}

# run RELEASE WHO: makes all targets in a system of their own, as often as was asked for.
run() {
    root=$work/$1-$2
    home=/root
    cp -a "$work/$1" "$root"
    start "$root"
    if [ "$2" = user ]; then
        home=/home/user
        make_user
    fi
    clone=$home/headwater
    clone_into "$root" "$clone" "$2"
    left_behind >"$root/left"
    time=1
    while [ "$time" -le "$times" ]; do
        for target in $targets; do
            say "$1, $2: make $target, time $time of $times"
            inside sh /left list "$clone"
            begun=$(date +%s)
            make_target "$2" "$clone" "$target"
            took=$(($(date +%s) - begun))
            inside sh /left check "$clone" "$([ "$time" -eq 1 ] && echo packages || echo none)"
            if [ "$time $target $targets" = "1 demo demo${targets#demo}" ]; then
                check_packages_of_demo
            fi
            summary="$summary
  $1, $2: make $target took $took s"
        done
        time=$((time + 1))
    done
    leave
    rm -rf --one-file-system "$root"
}

while [ $# -gt 0 ]; do
    case $1 in
        --release | --as | --times)
            [ $# -gt 1 ] || usage
            value=$(echo "$2" | tr , ' ')
            case $1 in
                --release) releases=$value ;;
                --as) who=$value ;;
                --times) times=$value ;;
            esac
            shift 2
            ;;
        -*) usage ;;
        *) break ;;
    esac
done
targets=${*:-demo check}
for one in $who; do
    case $one in
        root | user) ;;
        *) usage ;;
    esac
done

needs debootstrap unshare nsenter git
needs_namespaces
make_work
for release in $releases; do
    say "$release: the minimal system"
    make_release "$work/$release" "$release"
    for one in $who; do
        run "$release" "$one"
    done
    rm -rf --one-file-system "${work:?}/$release"
done
say "passed at commit $(git -C "$repository" rev-parse --short HEAD)$summary"
