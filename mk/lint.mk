# What every file of the sources must keep to. Continuous integration runs it behind make check.

C_FILES = $(shell find $(PRODUCT) bench examples tests -name '*.[ch]')
SH_FILES = $(shell find .ci scripts tests model deploy -type f \( -perm -u+x -o -name '*.sh' \)) \
	cli/completion/headwater
.PHONY: lint format

# A part of the files at a time, on all processors; silent about a file that is clean.
TIDY = said=$$(clang-tidy --quiet "$$@" -- $(CPPFLAGS) -I$(dir $(PUBLIC_HEADER)) -std=gnu17 $(PKG_CFLAGS) 2>&1) || \
	{ echo "$$said"; exit 1; }

lint: deps-dev ## layers, format, clang-tidy, shellcheck, manual pages, systemd units
	scripts/check-includes
	scripts/check-words
	clang-format --dry-run -Werror $(C_FILES)
	@echo 'clang-tidy, some minutes of one processor'
	@printf '%s\n' $(filter %.c,$(C_FILES)) | xargs -n 4 -P "$$(nproc)" sh -c '$(TIDY)' tidy
	shellcheck $(SH_FILES)
	mandoc -T lint -W warning man/*
	scripts/check-units deploy/systemd/*.service

format: ## rewrite the C files in the project's style
	clang-format -i $(C_FILES)
