# The benchmark (docs/performance.md): the program that measures, on top of what the tests stand on, and
# the simulator of a fleet, which is made of the agent's own files.

BENCH := $(B)/bench/headwater-bench
FLEET := $(B)/bench/headwater-fleet
.PHONY: bench bench-quick

$(BENCH): $(filter-out $(B)/bench/simulator.o,$(call objects,bench)) $(SUPPORT_OBJ) \
		$(B)/gen/openapi.o $(COMMON)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) $(shell pkg-config --libs check)

$(FLEET): $(B)/bench/simulator.o $(AGENT_OBJ) $(COMMON)
	$(call say,LD)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

bench: deps-bench ## measure, beside the limits of the servers: ARGS='--only drain,latency --runs 5'
	@$(MAKE) --no-print-directory all $(BENCH) $(FLEET)
	@$(BENCH) $(ARGS)

bench-quick: ## the same, smaller: in two minutes
	@$(MAKE) --no-print-directory bench ARGS='--quick $(ARGS)'
