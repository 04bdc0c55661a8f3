# libheadwater-agent: the agent without its daemon, for programs that are agents themselves.

PUBLIC_HEADER := agent/library/headwater_agent.h
LIBRARY_OBJ := $(patsubst $(B)/%,$(B)/pic/%,$(filter-out $(B)/agent/daemon/%,$(AGENT_OBJ)))
LIBRARY_SHARED := $(patsubst $(B)/%,$(B)/pic/%,$(call objects,base common nats protocol))
LIBRARY_SO := libheadwater-agent.so
SONAME := $(LIBRARY_SO).$(firstword $(subst ., ,$(VERSION)))
LIBRARIES := $(B)/$(LIBRARY_SO).$(VERSION) $(B)/libheadwater-agent.a
LIBRARY_LIBS = $(shell pkg-config --libs libnats jansson libssl libcrypto)
EXAMPLES := $(patsubst %.c,$(B)/%,$(wildcard examples/*.c))

# Position-independent.
$(B)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -fPIC -MMD -MP -c -o $@ $<

# One object, so that only the public names are seen from outside in the static library as well.
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

$(B)/examples/%: examples/%.c $(PUBLIC_HEADER) $(B)/libheadwater-agent.a
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -I$(dir $(PUBLIC_HEADER)) $(ALL_LDFLAGS) -o $@ $< $(B)/libheadwater-agent.a $(LIBRARY_LIBS)
