# What proves that nothing is lost (docs/reliability.md): the fault harness, an agent that is killed or
# loses power at every point of an apply, and the model of the protocol. With FAULTS=1 the programs have
# named points to die at (base/points.h).

.PHONY: recovery check-recovery agent-kills check-agent-kills agent-power refused-starts model

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

STARTS ?= 200
refused-starts: ## start the agent against servers that refuse it: STARTS=200 times each way
	@$(MAKE) --no-print-directory $(BINARIES) $(B)/tests/integration/test_refused
	@HW_STARTS=$(STARTS) HW_BUILD_DIR=$(B) $(B)/tests/integration/test_refused

model: ## check the model of the protocol with spin; ARGS='-j 4 leaders' and the like
	@scripts/install-deps $(MODEL_PACKAGES)
	@model/run $(ARGS)
