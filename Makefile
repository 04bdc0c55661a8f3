# Headwater. The two commands: make demo, make check. `make help` lists the rest.
#
# Not recursive: here are the flags, what is built, the rules, and the two commands; mk/*.mk has the rest.
# A program is a folder and the folders in it, and its main.c stands on everything else there. So a new
# file needs no line here, nor does a new folder in a program's folder.

VERSION := $(shell sed -n 's/^\#define HW_VERSION "\(.*\)"/\1/p' common/version.h)

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
# builds the same programs with named points to die at (base/points.h), in build/faults.
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
# The folders that programs share (docs/architecture.md).
SHARED := base common pg nats http protocol
PROGRAMS := api reconciler agent cdc
PRODUCT := $(SHARED) $(PROGRAMS) cli
BINARIES := $(PROGRAMS:%=$(B)/headwater-%) $(B)/headwater

# The objects of folders and of the folders in them, without programs' main.c.
objects = $(patsubst %.c,$(B)/%.o,$(filter-out %/main.c,$(wildcard $(1:%=%/*.c) $(1:%=%/*/*.c))))
COMMON := $(B)/libcommon.a
API_OBJ := $(call objects,api) $(addprefix $(B)/gen/,migrations.o openapi.o reference.o)
RECONCILER_OBJ := $(call objects,reconciler)
AGENT_OBJ := $(call objects,agent)
CLI_OBJ := $(call objects,cli)
# cdc/ is a library of the reconciler's, cdc/tool/ the program.
TOOL_OBJ := $(call objects,cdc/tool)
CDC_OBJ := $(filter-out $(TOOL_OBJ),$(call objects,cdc))

SUPPORT_OBJ := $(call objects,tests/support)
TESTS := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/test_*.c tests/integration/test_*.c))
RECOVERY := $(B)/tests/recovery/recovery
TESTS += $(RECOVERY)

.DEFAULT_GOAL := all
.PHONY: all demo check check-build check-run clean help
.SECONDARY:
.DELETE_ON_ERROR:

# These files say what else is built; those that are included at the end say what is done with it.
include mk/packages.mk mk/library.mk mk/bench.mk mk/fuzz.mk

all: $(BINARIES) $(LIBRARIES) $(EXAMPLES) ## build programs, library and examples into build/

$(B)/headwater-api: $(B)/api/main.o $(API_OBJ) $(COMMON)
$(B)/headwater-reconciler: $(B)/reconciler/main.o $(RECONCILER_OBJ) $(CDC_OBJ) $(COMMON)
$(B)/headwater-agent: $(B)/agent/daemon/main.o $(AGENT_OBJ) $(COMMON)
$(B)/headwater-cdc: $(B)/cdc/tool/main.o $(TOOL_OBJ) $(CDC_OBJ) $(COMMON)
$(B)/headwater: $(B)/cli/main.o $(CLI_OBJ) $(COMMON)
$(BINARIES):
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

# An archive, so that a program carries (and loads the libraries of) only what it uses.
$(COMMON): $(call objects,$(SHARED))
	@rm -f $@
	$(AR) rcs $@ $^

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

# And the page for people that is made of it, by a program that runs on the machine that builds.
BUILD_CC ?= gcc
$(B)/gen/reference: api/reference/main.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(BUILD_CC) -D_GNU_SOURCE -std=gnu17 -O1 $(WARNINGS) -o $@ $< -ljansson

$(B)/gen/reference.c: $(B)/gen/reference scripts/embed-file api/openapi.json
	$(B)/gen/reference api/openapi.json > $(@D)/reference.html
	scripts/embed-file api_reference api/openapi.h $(@D)/reference.html > $@

# A test links everything that has no main().
$(B)/tests/%: $(B)/tests/%.o $(SUPPORT_OBJ) $(API_OBJ) $(RECONCILER_OBJ) $(AGENT_OBJ) \
		$(CDC_OBJ) $(TOOL_OBJ) $(CLI_OBJ) $(COMMON)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) $(shell pkg-config --libs check)

# The fault harness is a test of several files.
$(RECOVERY): $(filter-out $(RECOVERY).o,$(call objects,tests/recovery))

-include $(shell [ -d $(B) ] && find $(B) -name '*.d')

# ---- the two commands ---------------------------------------------------------------------------
demo: ## install, build, and watch a configuration travel; ARGS=--keep leaves it running
	@scripts/demo --plan
	@$(MAKE) --no-print-directory deps-demo
	@$(MAKE) --no-print-directory $(BINARIES)
	@scripts/demo $(ARGS)

# make check runs these without sanitizers as well, since they tell how much memory is taken.
PLAIN_TESTS := build/tests/integration/test_flow

CHECKED = $(TESTS:build/%=build/address/%)

check: deps ## install, build, and pass all tests (with address and undefined sanitizers)
	@$(MAKE) --no-print-directory all $(PLAIN_TESTS)
	@$(MAKE) --no-print-directory SANITIZER=address TESTS='$(CHECKED)' check-build fuzz-check
	@tests/run $(PLAIN_TESTS) $(CHECKED)

check-build: $(BINARIES) $(LIBRARIES) $(EXAMPLES) $(FLEET) $(TESTS)

check-run: check-build # the tests of one build; TESTS=build/tests/… picks some
	@tests/run $(TESTS)

clean: ## remove build/
	rm -rf build

include mk/reliability.mk mk/cross.mk mk/lint.mk mk/install.mk

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile mk/*.mk | expand -t 17
	@echo 'SANITIZER=address|undefined|thread builds into build/<sanitizer>; WERROR=1 makes warnings errors'
