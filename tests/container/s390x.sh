#!/bin/sh
# Builds for a big-endian machine, s390x, with Debian's cross compiler against Debian's libraries of
# that port, and runs tests with qemu-user; servers are this machine's: make check-s390x.
#
#   tests/container/s390x.sh 'PACKAGE...' TEST...
#
# The libraries are unpacked into a temporary directory; the machine's own packages stay as they are.
# Needs root, debootstrap, qemu-user and gcc-s390x-linux-gnu (else it is skipped).
#
#   MAKEFLAGS  handed on
#   TMPDIR     where it is built: some 1 GB
#
# Exit status: 0 passed, 77 skipped, else failed.
set -eu

# shellcheck source=tests/container/support.sh
. "$(dirname "$0")/support.sh"
[ $# -ge 2 ] || usage
packages=$(echo "$1" | tr ' ' ,)
shift

needs debootstrap qemu-s390x s390x-linux-gnu-gcc
make_work
root=$work/root

# The mirror of Debian that this machine's apt reads.
# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' |
    sed -n 's/^Debian //p' | grep -v -- - | head -n 1)
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
quietly root "the libraries of s390x cannot be had" \
    debootstrap --foreign --arch=s390x --variant=minbase --include="$packages" "$suite" "$root" \
    "${mirror:?apt has no lists of a Debian mirror here: run apt-get update}"
for package in "$root"/var/cache/apt/archives/*.deb; do
    dpkg -x "$package" "$root"
done

mkdir "$work/headwater"
copy_sources "$repository" "$work/headwater"
cd "$work/headwater"
export PKG_CONFIG_SYSROOT_DIR="$root"
export PKG_CONFIG_LIBDIR="$root/usr/lib/s390x-linux-gnu/pkgconfig:$root/usr/share/pkgconfig"
make WERROR=1 CC="s390x-linux-gnu-gcc --sysroot=$root" build/headwater-agent "$@"
for test in "$@"; do
    mv "$test" "$test.s390x"
    printf '#!/bin/sh\nexec qemu-s390x -L "%s" "%s" "$@"\n' "$root" "$PWD/$test.s390x" >"$test"
    chmod +x "$test"
done
tests/run "$@" </dev/null
