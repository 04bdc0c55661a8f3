# The agent for other machines: as one static file, with 32 bits, and with the other byte order
# (docs/development.md).

.PHONY: static check-32 check-s390x

# The agent alone, with every library inside. Debian has no static libnats. The daemon's own stand-in
# for http/monitor.c takes the place of what has no static libraries.
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

# The tests of the agent, of its library and of what they stand on: none needs PostgreSQL.
PACKAGES_32 := $(BUILD_PACKAGES) check nats-server openssl g++
TESTS_32 = $(filter build/tests/unit/% build/tests/integration/test_agent% \
	build/tests/integration/test_nats,$(TESTS))
check-32: ## build with 32 bits, and pass unit tests and those of the agent, in a fresh i386 system
	@scripts/install-deps debootstrap
	@tests/container/i386.sh '$(PACKAGES_32)' $(TESTS_32)

# Without test_agent_command: qemu-user does not fail as a kernel does when a program cannot be started.
PACKAGES_S390X := $(filter-out gcc make pkg-config,$(BUILD_PACKAGES)) check
TESTS_S390X = $(filter-out %/test_agent_command,$(filter build/tests/unit/%,$(TESTS))) \
	build/tests/integration/test_agent_power build/tests/integration/test_nats
check-s390x: ## the other byte order: unit tests, and those of NATS and disk, for s390x with qemu-user
	@scripts/install-deps debootstrap gcc libjansson-dev gcc-s390x-linux-gnu libc6-dev-s390x-cross qemu-user nats-server
	@tests/container/s390x.sh '$(PACKAGES_S390X)' $(TESTS_S390X)
