# Headwater. The two commands: make demo, make check. `make help` lists the rest.
#
# Non-recursive, and one rule for every object. What is in SHARED is linked into every program that
# uses it; a program is the main.c of its folder, and all other files there are its parts.

VERSION := $(shell sed -n 's/^\#define HW_VERSION "\(.*\)"/\1/p' common/version.h)

# ---- what Debian must provide (a|b: the first one that apt knows) -------------------------------
BUILD_PACKAGES := gcc make pkg-config libc6-dev libpq-dev libnats-dev libjansson-dev \
	libmicrohttpd-dev libssl-dev libgnutls28-dev libcurl4-openssl-dev libyaml-dev
SERVER_PACKAGES := postgresql-15|postgresql-17 postgresql-15-wal2json|postgresql-17-wal2json \
	nats-server curl
TEST_PACKAGES := check g++ openssl prometheus elfutils
DEV_PACKAGES := clang-format clang-tidy shellcheck mandoc
FUZZ_PACKAGES := clang libclang-rt-dev
MODEL_PACKAGES := spin gcc libc6-dev
BENCH_PACKAGES := wrk gnuplot-nox

# ---- flags --------------------------------------------------------------------------------------
PKGS := libpq libnats jansson libmicrohttpd libssl libcrypto gnutls libcurl yaml-0.1
CC ?= gcc
# Time beyond 2038 and files of any size, also where a long has 32 bits.
CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64 -I.
CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wundef -Wformat=2 \
	-Wvla -Wpointer-arith -Wcast-qual -Wwrite-strings -Wunused-result
HARDENING := -fstack-protector-strong -fPIE
HARDENING_LD := -pie -Wl,-z,relro,-z,now -Wl,--as-needed
ALL_CFLAGS = -std=gnu17 $(WARNINGS) $(HARDENING) -pthread $(PKG_CFLAGS) $(CFLAGS)
ALL_LDFLAGS = $(HARDENING_LD) -pthread $(LDFLAGS)
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS))
PKG_LIBS = $(shell pkg-config --libs $(PKGS))
# In continuous integration (CI is set) a warning is an error.
ifneq ($(CI)$(WERROR),)
WARNINGS += -Werror
endif

# V=1 shows every command.
Q := $(if $(V),,@)
say = $(if $(V),,@echo '  $(1)  $@')

# SANITIZER=address|undefined|thread builds beside the plain build, in build/<sanitizer>; FAULTS=1
# builds the same programs with named points to die at (common/points.h), in build/faults.
SANITIZER ?=
FAULTS ?=
comma := ,
ifeq ($(SANITIZER),)
B := $(if $(FAULTS),build/faults,build)
CPPFLAGS += $(if $(FAULTS),-DHW_FAULTS -DHW_STRICT)
HARDENING += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
else
B := build/$(SANITIZER)
CPPFLAGS += -DHW_FAULTS -DHW_STRICT
sanitizers := $(if $(filter address fuzzer,$(SANITIZER)),address$(comma)undefined,$(SANITIZER))
# clang's libFuzzer; make fuzz builds with it.
ifeq ($(SANITIZER),fuzzer)
sanitizers := $(sanitizers),fuzzer-no-link
endif
ALL_CFLAGS += -fsanitize=$(sanitizers) -fno-sanitize-recover=all -fno-omit-frame-pointer -O1
ALL_LDFLAGS += -fsanitize=$(sanitizers)
endif

# ---- what is built ------------------------------------------------------------------------------
PROGRAMS := api reconciler agent cdc
BINARIES := $(PROGRAMS:%=$(B)/headwater-%) $(B)/headwater

# Every file of these folders but the program's own main.c.
objects = $(patsubst %.c,$(B)/%.o,$(filter-out %/main.c,$(wildcard $(1:%=%/*.c))))
SHARED := common pg nats http protocol
COMMON := $(B)/libcommon.a
CDC_OBJ := $(call objects,cdc)
TOOL_OBJ := $(call objects,cdc/tool)
API_OBJ := $(call objects,api api/resources) $(B)/gen/migrations.o $(B)/gen/openapi.o
RECONCILER_OBJ := $(call objects,reconciler reconciler/counts reconciler/publish reconciler/intake reconciler/compare)
AGENT_OBJ := $(call objects,agent agent/library agent/daemon)
CLI_OBJ := $(call objects,cli cli/client cli/commands)

# libheadwater-agent: the agent without the daemon, position-independent.
LIBRARY_OBJ := $(patsubst $(B)/%,$(B)/pic/%,$(call objects,agent agent/library))
LIBRARY_SHARED := $(patsubst $(B)/%,$(B)/pic/%,$(call objects,common nats protocol))
LIBRARY_SO := libheadwater-agent.so
SONAME := $(LIBRARY_SO).$(firstword $(subst ., ,$(VERSION)))
LIBRARIES := $(B)/$(LIBRARY_SO).$(VERSION) $(B)/libheadwater-agent.a
LIBRARY_LIBS = $(shell pkg-config --libs libnats jansson libssl libcrypto)
EXAMPLES := $(patsubst %.c,$(B)/%,$(wildcard examples/*.c))

SUPPORT_OBJ := $(call objects,tests/support)
TESTS := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/test_*.c tests/integration/test_*.c))
RECOVERY := $(B)/tests/recovery/recovery
TESTS += $(RECOVERY)
FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZERS := $(FUZZ_TARGETS:%=$(B)/fuzz/%)

.DEFAULT_GOAL := all
.PHONY: all agent-kills agent-power bench bench-quick check-agent-kills deps deps-bench deps-build deps-demo deps-dev \
	demo check check-32 check-s390x check-build check-run \
	fuzz fuzz-build fuzz-check fuzz-http recovery check-recovery model lint format install static \
	uninstall clean help
.SECONDARY:
.DELETE_ON_ERROR:

all: $(BINARIES) $(LIBRARIES) $(EXAMPLES) ## build programs, library and examples into build/

$(B)/headwater-api: $(B)/api/main.o $(API_OBJ) $(COMMON)
$(B)/headwater-reconciler: $(B)/reconciler/main.o $(RECONCILER_OBJ) $(CDC_OBJ) $(COMMON)
$(B)/headwater-agent: $(B)/agent/daemon/main.o $(AGENT_OBJ) $(COMMON)
$(B)/headwater-cdc: $(B)/cdc/tool/main.o $(TOOL_OBJ) $(CDC_OBJ) $(COMMON)
$(B)/headwater: $(B)/cli/main.o $(CLI_OBJ) $(COMMON)
$(BINARIES):
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

# The agent alone, with every library inside. Debian has no static libnats: docs/development.md.
STATIC_NATS ?= $(wildcard /usr/local/lib/libnats_static.a)
STATIC_AGENT := $(B)/static/headwater-agent
$(STATIC_AGENT): $(B)/agent/daemon/main.o $(B)/agent/daemon/static/monitor.o $(AGENT_OBJ) $(COMMON) $(STATIC_NATS)
	@mkdir -p $(@D)
	@[ -n "$(STATIC_NATS)" ] || { echo "make static: Debian has no static libnats; say where one is," \
		"STATIC_NATS=/path/libnats_static.a: docs/development.md says how to build it" >&2; exit 1; }
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(filter-out -pie,$(ALL_LDFLAGS)) -static-pie -o $@ $^ \
		$(shell pkg-config --static --libs jansson libssl libcrypto)

static: $(STATIC_AGENT) ## the agent as one static binary: STATIC_NATS=/path/libnats_static.a

# An archive, so that a program carries (and loads the libraries of) only what it uses.
$(COMMON): $(call objects,$(SHARED))
	@rm -f $@
	$(AR) rcs $@ $^

# In the static library, too, only the public names are seen from outside.
$(B)/pic/headwater-agent.o: $(LIBRARY_OBJ) $(LIBRARY_SHARED)
	@rm -f $(@D)/libcommon.a
	@$(AR) rcs $(@D)/libcommon.a $(LIBRARY_SHARED)
	$(Q)$(LD) -r --force-group-allocation -o $@ $(LIBRARY_OBJ) $(@D)/libcommon.a
	$(Q)objcopy --wildcard --keep-global-symbol='headwater_agent_*' $@

$(B)/libheadwater-agent.a: $(B)/pic/headwater-agent.o
	$(call say,AR)
	@rm -f $@
	$(Q)$(AR) rcs $@ $<

$(B)/$(LIBRARY_SO).$(VERSION): $(B)/pic/headwater-agent.o agent/library/headwater-agent.map
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) -shared -fPIC $(filter-out -pie,$(ALL_LDFLAGS)) -Wl,-z,defs \
		-Wl,-soname,$(SONAME) -Wl,--version-script,agent/library/headwater-agent.map -o $@ $< $(LIBRARY_LIBS)
	@ln -sf $(@F) $(B)/$(SONAME)
	@ln -sf $(SONAME) $(B)/$(LIBRARY_SO)

$(B)/examples/%: examples/%.c agent/library/headwater_agent.h $(B)/libheadwater-agent.a
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -Iagent/library $(ALL_LDFLAGS) -o $@ $< $(B)/libheadwater-agent.a $(LIBRARY_LIBS)

$(B)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -fPIC -MMD -MP -c -o $@ $<

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/gen/%.o: $(B)/gen/%.c
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# The migrations travel inside headwater-api.
$(B)/gen/migrations.c: scripts/embed-migrations $(wildcard sql/migrations/*.sql)
	@mkdir -p $(@D)
	scripts/embed-migrations sql/migrations/*.sql > $@

# So does the API's description.
$(B)/gen/openapi.c: scripts/embed-file api/openapi.json
	@mkdir -p $(@D)
	scripts/embed-file api_openapi api/openapi.h api/openapi.json > $@

# A test links everything that has no main().
$(B)/tests/%: $(B)/tests/%.o $(SUPPORT_OBJ) $(API_OBJ) $(RECONCILER_OBJ) $(AGENT_OBJ) \
		$(CDC_OBJ) $(TOOL_OBJ) $(CLI_OBJ) $(COMMON)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) $(shell pkg-config --libs check)

# The fault harness is a test of several files.
$(RECOVERY): $(filter-out $(RECOVERY).o,$(call objects,tests/recovery))

# So is the benchmark a program of several files, on top of what the tests stand on.
BENCH := $(B)/bench/headwater-bench
FLEET := $(B)/bench/headwater-fleet
$(BENCH): $(filter-out $(B)/bench/simulator.o,$(call objects,bench)) $(SUPPORT_OBJ) $(COMMON)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) $(shell pkg-config --libs check)

$(FLEET): $(B)/bench/simulator.o $(AGENT_OBJ) $(COMMON)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

# A fuzz target takes what it needs, so that it may stand in for the rest, or hold a file whole.
$(B)/libfuzzed.a: $(API_OBJ) $(RECONCILER_OBJ) $(AGENT_OBJ) $(CDC_OBJ) $(TOOL_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

FUZZ_MAIN := $(if $(filter fuzzer,$(SANITIZER)),,$(B)/tests/fuzz/replay.o)
$(B)/fuzz/%: $(B)/tests/fuzz/fuzz_%.o $(FUZZ_MAIN) $(B)/libfuzzed.a $(COMMON)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(if $(FUZZ_MAIN),,-fsanitize=fuzzer) -o $@ $^ $(PKG_LIBS)

-include $(shell [ -d $(B) ] && find $(B) -name '*.d')

# ---- the two commands ---------------------------------------------------------------------------
demo: ## install, build, and watch a configuration travel; ARGS=--keep leaves it running
	@scripts/demo --plan
	@$(MAKE) --no-print-directory deps-demo
	@$(MAKE) --no-print-directory $(BINARIES)
	@scripts/demo $(ARGS)

# Those that also say something without a sanitizer, such as how much memory is taken.
PLAIN_TESTS := build/tests/integration/test_flow

CHECKED = $(TESTS:build/%=build/address/%)

check: deps ## install, build, and pass all tests (with address and undefined sanitizers)
	@$(MAKE) --no-print-directory all $(PLAIN_TESTS)
	@$(MAKE) --no-print-directory SANITIZER=address TESTS='$(CHECKED)' check-build fuzz-check
	@tests/run $(PLAIN_TESTS) $(CHECKED)

check-build: $(BINARIES) $(LIBRARIES) $(EXAMPLES) $(FLEET) $(TESTS)

check-run: check-build # the tests of one build; TESTS=build/tests/… picks some
	@tests/run $(TESTS)

# docs/development.md.
FUZZ_TIME ?= 60
TARGETS ?= $(FUZZ_TARGETS)
fuzz: ## feed every parser bytes, FUZZ_TIME=60 seconds each; TARGETS='lsn body' picks some
	@scripts/install-deps $(BUILD_PACKAGES) $(FUZZ_PACKAGES)
	@$(MAKE) --no-print-directory SANITIZER=fuzzer CC=clang fuzz-build
	@tests/fuzz/run fuzz $(FUZZ_TIME) $(TARGETS)

fuzz-build: $(FUZZERS)

fuzz-check: $(FUZZERS) ## feed the parsers the inputs that are kept in tests/fuzz/corpus
	@tests/fuzz/run check $(B) $(TARGETS)

REQUESTS ?= 100000
fuzz-http: deps ## mutated requests against headwater-api: REQUESTS=100000 SEED=…
	@$(MAKE) --no-print-directory SANITIZER=address build/address/headwater-api \
		build/address/tests/integration/test_http_mutate
	@REQUESTS=$(REQUESTS) SEED=$${SEED:-$$(date +%s)} \
		tests/run build/address/tests/integration/test_http_mutate

# With named points to die at; docs/reliability.md.
SEEDS ?= 1-20
recovery: ## break everything, and prove that nothing is lost: SEEDS=1-20 ARGS='--kinds wipe,kill'
	@$(MAKE) --no-print-directory FAULTS=1 check-recovery

check-recovery: $(BINARIES) $(RECOVERY)
	@HW_BUILD_DIR=$(B) $(RECOVERY) --strict-replay --seeds $(SEEDS) $(ARGS)

KILLS ?= 100
agent-kills: ## kill the agent at every point of an apply: KILLS=100 times each
	@$(MAKE) --no-print-directory FAULTS=1 check-agent-kills

check-agent-kills: $(BINARIES) $(B)/tests/integration/test_agent_kills
	@HW_KILLS=$(KILLS) HW_BUILD_DIR=$(B) $(B)/tests/integration/test_agent_kills

agent-power: ## start the agent on every disk that a power loss may leave
	@$(MAKE) --no-print-directory $(B)/tests/integration/test_agent_power
	@HW_EVERY=1 tests/run $(B)/tests/integration/test_agent_power

# Of the agent and its library, and what they stand on; whatever needs no PostgreSQL.
PACKAGES_32 := $(BUILD_PACKAGES) check nats-server openssl g++
TESTS_32 = $(filter build/tests/unit/% build/tests/integration/test_agent% \
	build/tests/integration/test_nats,$(TESTS))
check-32: ## build with 32 bits, and pass unit tests and those of the agent, in a fresh i386 system
	@scripts/install-deps debootstrap
	@tests/container/i386.sh $(PACKAGES_32) -- $(TESTS_32)

# Without what qemu-user does otherwise than a kernel: how a program that is missing cannot be started.
PACKAGES_S390X := $(filter-out gcc make pkg-config,$(BUILD_PACKAGES)) check
TESTS_S390X = $(filter-out %/test_agent_command,$(filter build/tests/unit/%,$(TESTS))) \
	build/tests/integration/test_agent_power build/tests/integration/test_nats
check-s390x: ## the other byte order: unit tests, and those of NATS and disk, for s390x with qemu-user
	@scripts/install-deps debootstrap gcc-s390x-linux-gnu libc6-dev-s390x-cross qemu-user nats-server
	@tests/container/s390x.sh $(PACKAGES_S390X) -- $(TESTS_S390X)

# docs/performance.md.
bench: deps-bench ## measure, beside the limits of the servers: ARGS='--only drain,latency --runs 5'
	@$(MAKE) --no-print-directory all $(BENCH) $(FLEET)
	@$(BENCH) $(ARGS)

bench-quick: ## the same, smaller: in two minutes
	@$(MAKE) --no-print-directory bench ARGS='--quick $(ARGS)'

model: ## check the model of the protocol with spin; ARGS='-j 4 leaders' and the like
	@scripts/install-deps $(MODEL_PACKAGES)
	@model/run $(ARGS)

quoted = '$(subst $() ,' ',$(strip $(1)))'

deps: ## install every Debian package that demo and check need
	@scripts/install-deps $(BUILD_PACKAGES) $(call quoted,$(SERVER_PACKAGES) $(TEST_PACKAGES))

deps-demo: ## install only what the demonstration needs
	@scripts/install-deps $(BUILD_PACKAGES) $(call quoted,$(SERVER_PACKAGES))

deps-bench: deps ## and what bench needs besides
	@scripts/install-deps $(BENCH_PACKAGES)

deps-build: ## install only what compiling needs
	@scripts/install-deps $(BUILD_PACKAGES)

deps-dev: ## install what lint and format need
	@scripts/install-deps $(DEV_PACKAGES)

# ---- for developers -----------------------------------------------------------------------------
C_FILES := $(wildcard */*.c */*.h */*/*.c */*/*.h)
C_FILES := $(filter-out build/%,$(C_FILES))
SH_FILES := .ci/run tests/run tests/fuzz/run model/run $(wildcard scripts/* tests/*.sh tests/*/*.sh) \
	tests/support/limited tests/support/stacks \
	tests/container/enter tests/container/rootfs tests/readme deploy/db/entrypoint cli/completion/headwater

# On all processors; silent about a file that is clean.
TIDY = said=$$(clang-tidy --quiet "$$@" -- $(CPPFLAGS) -Iagent/library -std=gnu17 $(PKG_CFLAGS) 2>&1) || \
	{ echo "$$said"; exit 1; }

lint: deps-dev ## clang-format, clang-tidy, shellcheck, mandoc, systemd-analyze
	clang-format --dry-run -Werror $(C_FILES)
	@echo 'clang-tidy, some minutes of one processor'
	@printf '%s\n' $(filter %.c,$(C_FILES)) | xargs -n 4 -P "$$(nproc)" sh -c '$(TIDY)' tidy
	shellcheck $(SH_FILES)
	mandoc -T lint -W warning man/*
	scripts/check-units deploy/systemd/*.service

format: ## rewrite the C files in the project's style
	clang-format -i $(C_FILES)

# ---- installation -------------------------------------------------------------------------------
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/headwater
DATADIR ?= $(PREFIX)/share/headwater
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
COMPDIR ?= $(PREFIX)/share/bash-completion/completions

install: all ## install below PREFIX (default /usr/local), under DESTDIR
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(DOCDIR) \
		$(DESTDIR)$(DATADIR)/migrations $(DESTDIR)$(DATADIR)/grafana \
		$(DESTDIR)$(DATADIR)/prometheus $(DESTDIR)$(COMPDIR)
	install -m 0755 $(BINARIES) $(DESTDIR)$(BINDIR)
	install -m 0644 man/*.1 $(DESTDIR)$(MANDIR)/man1
	install -m 0644 README.md LICENSE docs/*.md $(DESTDIR)$(DOCDIR)
	install -m 0644 sql/migrations/*.sql $(DESTDIR)$(DATADIR)/migrations
	install -m 0644 deploy/grafana/headwater.json $(DESTDIR)$(DATADIR)/grafana
	install -m 0644 deploy/prometheus/prometheus.yml deploy/prometheus/headwater.rules.yml \
		$(DESTDIR)$(DATADIR)/prometheus
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(DOCDIR)/examples
	install -m 0644 $(LIBRARIES) $(DESTDIR)$(LIBDIR)
	ln -sf $(LIBRARY_SO).$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/$(LIBRARY_SO)
	install -m 0644 agent/library/headwater_agent.h $(DESTDIR)$(INCLUDEDIR)
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|; s|@VERSION@|$(VERSION)|' \
		agent/library/headwater-agent.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/headwater-agent.pc
	install -m 0644 examples/*.c $(DESTDIR)$(DOCDIR)/examples
	install -m 0644 cli/completion/headwater $(DESTDIR)$(COMPDIR)

uninstall: ## remove what install put there
	rm -f $(BINARIES:$(B)/%=$(DESTDIR)$(BINDIR)/%) \
		$(patsubst man/%,$(DESTDIR)$(MANDIR)/man1/%,$(wildcard man/*.1)) \
		$(DESTDIR)$(LIBDIR)/libheadwater-agent.* $(DESTDIR)$(INCLUDEDIR)/headwater_agent.h \
		$(DESTDIR)$(LIBDIR)/pkgconfig/headwater-agent.pc \
		$(DESTDIR)$(COMPDIR)/headwater
	rm -rf $(DESTDIR)$(DOCDIR) $(DESTDIR)$(DATADIR)

clean: ## remove build/
	rm -rf build

# ---- systemd and Debian packages ----------------------------------------------------------------
DEV_PACKAGES += systemd
DEB_PACKAGES := build-essential debhelper dpkg-dev fakeroot lintian
.PHONY: env-files install-systemd deb
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
ENV_FILES := $(patsubst deploy/%,$(B)/%,$(wildcard deploy/systemd/*.env))

env-files: $(ENV_FILES)

$(B)/systemd/%.env: deploy/systemd/%.env scripts/sample-env $(B)/headwater-%
	@mkdir -p $(@D)
	scripts/sample-env $(B)/headwater-$* $< > $@

install-systemd: env-files ## install units, users, and what is missing of /etc/headwater/*.env
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(SYSCONFDIR)/headwater
	for unit in deploy/systemd/*.service; do \
		sed 's|/usr/bin/headwater|$(BINDIR)/headwater|' "$$unit" | \
			install -m 0644 /dev/stdin "$(DESTDIR)$(UNITDIR)/$${unit##*/}" || exit; done
	for users in deploy/systemd/*.sysusers; do name=$${users##*/}; \
		install -m 0644 "$$users" "$(DESTDIR)$(SYSUSERSDIR)/$${name%.sysusers}.conf" || exit; done
	for file in $(ENV_FILES); do there=$(DESTDIR)$(SYSCONFDIR)/headwater/$${file##*/}; \
		[ -e "$$there" ] || install -m 0600 "$$file" "$$there" || exit; done

deb: ## build the Debian packages into build/deb/
	@scripts/install-deps $(BUILD_PACKAGES) $(DEB_PACKAGES)
	@scripts/build-deb $(VERSION)

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 14
	@echo 'SANITIZER=address|undefined|thread builds into build/<sanitizer>; WERROR=1 makes warnings errors'
