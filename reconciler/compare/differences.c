#include "reconciler/compare/differences.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

void rec_differences_add(struct rec_differences *differences, struct rec_session *session,
                         const char *kind, const char *node, const char *object, const char *sql,
                         const char *nats)
{
    const struct {
        const char *name, *value;
    } members[] = {{"node", node}, {"object", object}, {"sql", sql}, {"nats", nats}};
    struct hw_buf line = {0};

    if (differences->count++ >= REC_DIFFERENCES_SHOWN)
        return;
    rec_session_clear_sign(session);
    hw_buf_puts(&line, kind);
    hw_buf_printf(&differences->list, "%s{\"kind\":\"%s\"", differences->list.len > 0 ? "," : "",
                  kind);
    for (size_t i = 0; i < HW_COUNT(members); i++) {
        hw_buf_printf(&differences->list, ",\"%s\":", members[i].name);
        if (members[i].value == NULL) {
            hw_buf_puts(&differences->list, "null");
            continue;
        }
        hw_buf_json_string(&differences->list, members[i].value, strlen(members[i].value));
        hw_buf_printf(&line, " %s=", members[i].name);
        hw_buf_json_string(&line, members[i].value, strlen(members[i].value));
    }
    hw_buf_putc(&differences->list, '}');
    if (!session->config->json)
        puts(hw_buf_str(&line));
    hw_buf_free(&line);
}

void rec_differences_clear(struct rec_differences *differences)
{
    hw_buf_free(&differences->list);
}
