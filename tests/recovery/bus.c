#include "tests/recovery/bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/memory.h"
#include "tests/support/accounts.h"
#include "tests/support/process.h"

enum { STORE_LIMIT_MIB = 64 }; /* so that it can be full while the machine's disk is not */

void bus_url(char url[BUS_URL_MOST], const char *user, int port)
{
    snprintf(url, BUS_URL_MOST, "nats://%s:%s@127.0.0.1:%d", user, user, port);
}

/* Adds an account. Of the lists that begin with a word of wider, each gets one more member. */
static void add_account(struct hw_buf *text, const char *account, const char *const wider[][2])
{
    const char *rest = account;

    for (; wider != NULL && (*wider)[0] != NULL; wider++) {
        const char *list = strstr(rest, (*wider)[0]);

        if (list == NULL)
            continue;
        list += strlen((*wider)[0]);
        hw_buf_printf(text, "%.*s\n%s", (int)(list - rest), rest, (*wider)[1]);
        rest = list;
    }
    hw_buf_puts(text, rest);
}

static void add_accounts(struct hw_buf *text, const char *const nodes[], size_t count, bool is_open)
{
#define BUCKET "$KV.headwater.>"
    static const char *const wider[][2] = {
        {"exports: [", "{service: \"" BUCKET "\"}"},
        {"imports: [", "{service: {account: headwater, subject: \"" BUCKET "\"}}"},
        {"publish: [", "\"" BUCKET "\""},
        {NULL, NULL}};
    HW_AUTO_FREE char *core = test_account("headwater-reconciler", NULL, "", "core");

    add_account(text, core, is_open ? wider : NULL);
    for (size_t i = 0; i < count; i++) {
        HW_AUTO_FREE char *node = test_account("headwater-agent", nodes[i], "", nodes[i]);

        add_account(text, node, is_open ? wider : NULL);
    }
}

void bus_start(struct test_nats *nats, const char *const nodes[], size_t count, bool is_open)
{
    struct hw_buf text = {0};
    char path[160];

    test_nats_start(nats);
    test_new_path(path, sizeof(path), "nats.conf");
    hw_buf_printf(&text, "jetstream { max_file_store: %dMB }\naccounts {\n", STORE_LIMIT_MIB);
    add_accounts(&text, nodes, count, is_open);
    hw_buf_puts(&text, "}\n");
    FILE *file = fopen(path, "we");
    if (file == NULL || fputs(hw_buf_str(&text), file) < 0 || fclose(file) != 0)
        test_fail("cannot write %s: %s", path, strerror(errno));
    hw_buf_free(&text);
    nats->config = hw_strdup(path);
    bus_url(nats->url, "core", nats->port);
    test_nats_restart(nats);
}

void bus_remove(struct test_nats *nats)
{
    test_nats_remove(nats);
    unlink(nats->config);
    free(nats->config);
}

void bus_start_another(struct test_nats *other, const struct test_nats *like, const char *store)
{
    test_nats_start(other);
    test_nats_stop(other);
    test_nats_wipe(other);
    if (store != NULL) {
        HW_AUTO_FREE char *own = hw_sprintf("%s/store", other->dir);

        if (test_program_run((const char *const[]){"cp", "-a", store, own, NULL}, NULL, NULL,
                             NULL) != 0)
            test_fail("cannot copy %s", store);
    }
    other->config = like->config;
    if (like->config != NULL)
        bus_url(other->url, "core", other->port);
    test_nats_restart(other);
}
