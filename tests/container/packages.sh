#!/bin/sh
# Builds the Debian packages twice, which must come out the same to the byte, installs them in a fresh
# minimal Debian, runs their programs, and then boots such a system with PostgreSQL and NATS to see
# the services under systemd: packages-inside.sh.
#
# Without root or debootstrap the packages are only unpacked; without systemd-nspawn nothing is booted.
# The booted system has a network of its own.
#
#   PACKAGES_BASE  a directory that keeps the minimal systems for the next time
#   MAKEFLAGS      handed on
#   TMPDIR         where the systems are made: some 1 GB
#
# Exit status: 0 what could be tried passed, else failed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=

say() {
    printf '\n#### packages: %s\n' "$*"
}

fail() {
    echo "failed: $*" >&2
    exit 1
}

finish() {
    status=$?
    trap - EXIT
    if [ -n "$work" ]; then
        rm -rf --one-file-system "$work"
    fi
    exit "$status"
}

# build FROM TO: the packages of a copy of the sources FROM, into TO.
build() {
    mkdir -p "$2"
    tar -C "$1" -c --exclude=./build --exclude=./.git . | tar -C "$2" -x
    make -C "$2" deb >"$work/build.log" 2>&1 || {
        tail -n 30 "$work/build.log" >&2
        fail "the packages cannot be built"
    }
}

# fresh ROOT PACKAGE...: a minimal system of this machine's release with these packages.
fresh() {
    root=$1
    shift
    if [ -e "${PACKAGES_BASE:-/nonexistent}/${root##*/}/etc/debian_version" ]; then
        cp -a "$PACKAGES_BASE/${root##*/}" "$root"
        return
    fi
    ROOTFS_SUITE=$VERSION_CODENAME "$here/rootfs" "$root" "$@" >"$work/rootfs.log" 2>&1 || {
        tail -n 20 "$work/rootfs.log" >&2
        fail "no minimal system"
    }
    if [ -n "${PACKAGES_BASE:-}" ]; then
        mkdir -p "$PACKAGES_BASE"
        cp -a "$root" "$PACKAGES_BASE/"
    fi
}

# install_into ROOT: the packages, with what they depend on.
install_into() {
    mkdir "$1/packages"
    for package in "$work"/one/build/deb/*.deb; do
        case $package in
            *-dbgsym_*) ;;
            *) cp "$package" "$1/packages/" ;;
        esac
    done
    chroot "$1" sh -euc '
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq update
        apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends /packages/*.deb' \
        >"$work/install.log" 2>&1 || {
        tail -n 20 "$work/install.log" >&2
        fail "the packages cannot be installed"
    }
}

# shellcheck source=/dev/null
. /etc/os-release

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
work=$(mktemp -d "${TMPDIR:-/tmp}/headwater-packages.XXXXXX")
unset TMPDIR # what is installed in there has another /tmp
chmod 755 "$work"

say "building twice, in two places"
build "$here/../.." "$work/one"
build "$here/../.." "$work/the-other/one"
(cd "$work/one/build/deb" && sha256sum ./*.deb) >"$work/sums"
(cd "$work/the-other/one/build/deb" && sha256sum -c "$work/sums") || fail "they differ"

if [ "$(id -u)" -ne 0 ] || ! command -v debootstrap >/dev/null; then
    for package in "$work"/one/build/deb/*.deb; do
        dpkg-deb -x "$package" "$work/unpacked"
    done
    for program in "$work"/unpacked/usr/bin/*; do
        "$program" --version || fail "$program"
    done
    say "passed, but for what is installed: root and debootstrap are needed"
    exit 0
fi

say "installing in a minimal $VERSION_CODENAME"
fresh "$work/minimal"
install_into "$work/minimal"
chroot "$work/minimal" sh -eu <<'END'
for program in headwater-api headwater-reconciler headwater-cdc headwater-agent; do
    "$program" --version
    "$program" --help | grep -q "^$program: "
done
for user in headwater-api headwater-reconciler headwater-agent; do
    getent passwd "$user"
done
for file in api reconciler agent; do
    [ "$(stat -c '%a %U' "/etc/headwater/$file.env")" = '600 root' ]
done
# Each package brings the page of the docs that is about it, and the server's what watches it.
doc=/usr/share/doc
for file in "$doc/headwater/cli.md" "$doc/headwater-agent/agent.md" \
    "$doc/libheadwater-agent-dev/agent.md" "$doc/headwater-server/README.md" \
    "$doc/headwater-server/operations.md" "$doc/headwater-server/http.md" \
    /usr/share/headwater/grafana/headwater.json /usr/share/headwater/prometheus/headwater.rules.yml; do
    [ -s "$file" ] || [ -s "$file.gz" ] || { echo "no package brings $file" >&2; exit 1; }
done
[ ! -e /var/lib/headwater-agent ]
[ -z "$(find /etc/systemd -name '*headwater*')" ]
END
rm -rf --one-file-system "$work/minimal"

if ! command -v systemd-nspawn >/dev/null; then
    say "passed, but for what is booted: systemd-nspawn (systemd-container) is not installed"
    exit 0
fi
say "booting a system with the services"
fresh "$work/booted" dbus curl nats-server postgresql \
    "$(apt-cache --names-only search '^postgresql-[0-9]+-wal2json$' | awk '{ print $1; exit }')"
install_into "$work/booted"
install -m 0755 "$here/packages-inside.sh" "$work/booted/inside"
cat >"$work/booted/etc/systemd/system/inside.service" <<'END'
[Unit]
After=basic.target nats-server.service postgresql.service
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
    "$work/booted/etc/systemd/system/multi-user.target.wants/inside.service"
status=0
systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe \
    --directory="$work/booted" --boot </dev/null >"$work/boot.log" 2>&1 || status=$?
if [ ! -e "$work/booted/inside.log" ]; then
    tail -n 20 "$work/boot.log" >&2
    say "passed, but for what is booted: no system can be booted here"
    exit 0
fi
cat "$work/booted/inside.log"
[ "$status" -eq 0 ] || fail "under systemd"
say "passed"
