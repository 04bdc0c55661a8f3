# Fuzzing (docs/development.md). A target is a file tests/fuzz/fuzz_<target>.c.

FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZERS := $(FUZZ_TARGETS:%=$(B)/fuzz/%)
.PHONY: fuzz fuzz-build fuzz-check fuzz-http

# A target links only what it needs of an archive, so it can bring a function of its own in place of one
# of the product's, or include a whole file to reach what is static in it.
$(B)/libfuzzed.a: $(API_OBJ) $(RECONCILER_OBJ) $(AGENT_OBJ) $(CDC_OBJ) $(TOOL_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

# libFuzzer has a main(); with any other compiler, replay.c feeds the kept inputs.
FUZZ_MAIN := $(if $(filter fuzzer,$(SANITIZER)),,$(B)/tests/fuzz/replay.o)
$(B)/fuzz/%: $(B)/tests/fuzz/fuzz_%.o $(FUZZ_MAIN) $(B)/libfuzzed.a $(COMMON)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(if $(FUZZ_MAIN),,-fsanitize=fuzzer) -o $@ $^ $(PKG_LIBS)

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
