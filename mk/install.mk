# Installation, systemd units and Debian packages. debian/rules calls all, env-files and install.

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/headwater
DATADIR ?= $(PREFIX)/share/headwater
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
COMPDIR ?= $(PREFIX)/share/bash-completion/completions
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
.PHONY: install uninstall env-files install-systemd deb

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
	install -m 0644 $(PUBLIC_HEADER) $(DESTDIR)$(INCLUDEDIR)
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|; s|@VERSION@|$(VERSION)|' \
		agent/library/headwater-agent.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/headwater-agent.pc
	install -m 0644 examples/*.c $(DESTDIR)$(DOCDIR)/examples
	install -m 0644 cli/completion/headwater $(DESTDIR)$(COMPDIR)

uninstall: ## remove what install put there
	rm -f $(BINARIES:$(B)/%=$(DESTDIR)$(BINDIR)/%) \
		$(patsubst man/%,$(DESTDIR)$(MANDIR)/man1/%,$(wildcard man/*.1)) \
		$(DESTDIR)$(LIBDIR)/libheadwater-agent.* $(DESTDIR)$(INCLUDEDIR)/$(notdir $(PUBLIC_HEADER)) \
		$(DESTDIR)$(LIBDIR)/pkgconfig/headwater-agent.pc \
		$(DESTDIR)$(COMPDIR)/headwater
	rm -rf $(DESTDIR)$(DOCDIR) $(DESTDIR)$(DATADIR)

# A program's environment file is its options, as its --help tells them, behind a written beginning.
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
