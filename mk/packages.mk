# What Debian must provide. Of alternatives (a|b) any installed one will do, otherwise the first one
# that apt knows is installed. The Dockerfile runs deps-build before it has any source file.

BUILD_PACKAGES := gcc make pkg-config libc6-dev libpq-dev libnats-dev libjansson-dev \
	libmicrohttpd-dev libssl-dev libgnutls28-dev libcurl4-openssl-dev libyaml-dev
SERVER_PACKAGES := postgresql-15|postgresql-17 postgresql-15-wal2json|postgresql-17-wal2json \
	nats-server curl
TEST_PACKAGES := check g++ openssl prometheus elfutils
LINT_PACKAGES := clang-format clang-tidy shellcheck mandoc systemd
FUZZ_PACKAGES := clang libclang-rt-dev
MODEL_PACKAGES := spin gcc libc6-dev
BENCH_PACKAGES := wrk gnuplot-nox
DEB_PACKAGES := build-essential debhelper dpkg-dev fakeroot lintian

# The shell must not take a|b for two commands.
quoted = '$(subst $() ,' ',$(strip $(1)))'

.PHONY: deps deps-demo deps-bench deps-build deps-dev

deps: ## install every Debian package that demo and check need
	@scripts/install-deps $(BUILD_PACKAGES) $(call quoted,$(SERVER_PACKAGES) $(TEST_PACKAGES))

deps-demo: ## install only what the demonstration needs
	@scripts/install-deps $(BUILD_PACKAGES) $(call quoted,$(SERVER_PACKAGES))

deps-bench: deps ## and what bench needs besides
	@scripts/install-deps $(BENCH_PACKAGES)

deps-build: ## install only what compiling needs
	@scripts/install-deps $(BUILD_PACKAGES)

deps-dev: ## install what lint and format need
	@scripts/install-deps $(LINT_PACKAGES)
