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

# shellcheck source=tests/container/support.sh
. "$(dirname "$0")/support.sh"

# build FROM TO: copies the sources FROM to TO, and builds the packages there.
build() {
    mkdir -p "$2"
    copy_sources "$1" "$2"
    quietly build "the packages cannot be built" make -C "$2" deb
}

# fresh ROOT PACKAGE...: makes a minimal system of this machine's release with these packages.
fresh() {
    root=$1
    shift
    ROOTFS_SUITE=$VERSION_CODENAME make_system "$root" \
        "${PACKAGES_BASE:+$PACKAGES_BASE/${root##*/}}" "$@"
}

# install_into ROOT: installs our packages there, with their dependencies.
install_into() {
    mkdir "$1/packages"
    for package in "$work"/one/build/deb/*.deb; do
        case $package in
            *-dbgsym_*) ;;
            *) cp "$package" "$1/packages/" ;;
        esac
    done
    quietly install "the packages cannot be installed" \
        chroot "$1" sh -euc "set -- /packages/*.deb$apt_install"
}

# shellcheck source=/dev/null
. /etc/os-release

make_work
unset TMPDIR # what is installed in there has another /tmp

say "building twice, in two places"
build "$repository" "$work/one"
build "$repository" "$work/the-other/one"
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
# Each package brings the page of docs/ that is about it; the server's also brings what watches it.
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
status=0
boot "$work/booted" 'nats-server.service postgresql.service' "$here/packages-inside.sh" || status=$?
case $status in
    0) say "passed" ;;
    77) say "passed, but for what is booted" ;;
    *) fail "under systemd" ;;
esac
