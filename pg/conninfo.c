#include "pg/conninfo.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* An empty port of a list means the default one. */
static bool are_ports(const char *list)
{
    for (const char *p = list;; p++) {
        const size_t digits = strspn(p, "0123456789");
        const long port = strtol(p, NULL, 10);

        if (digits > 5 || (digits > 0 && (port < 1 || port > 65535)))
            return false;
        p += digits;
        if (*p != ',')
            return *p == '\0';
    }
}

static bool is_one_of(const char *words, const char *value)
{
    const size_t len = strlen(value);

    for (const char *p = words; p != NULL && *p != '\0'; p = strchr(p, ' ')) {
        p += strspn(p, " ");
        if (strcspn(p, " ") == len && strncmp(p, value, len) == 0)
            return true;
    }
    return false;
}

static enum hw_status check_value(const PQconninfoOption *o, struct hw_error *err)
{
    static const char *const choices[][2] = {
        {"sslmode", "disable allow prefer require verify-ca verify-full"},
        {"gssencmode", "disable prefer require"},
        {"channel_binding", "disable prefer require"},
        {"target_session_attrs", "any read-write read-only primary standby prefer-standby"},
    };

    if (o->val == NULL || *o->val == '\0')
        return HW_OK;
    if (strcmp(o->keyword, "port") == 0 && !are_ports(o->val))
        return hw_fail(err, HW_EINVAL, "\"%.100s\" is no port, which is a number from 1 to 65535",
                       o->val);
    for (size_t i = 0; i < HW_COUNT(choices); i++)
        if (strcmp(o->keyword, choices[i][0]) == 0 && !is_one_of(choices[i][1], o->val))
            return hw_fail(err, HW_EINVAL, "%s is \"%.100s\", which is none of: %s", o->keyword,
                           o->val, choices[i][1]);
    return HW_OK;
}

enum hw_status hw_conninfo_check(const char *conninfo, struct hw_error *err)
{
    PQconninfoOption *parsed = PQconninfoParse(conninfo, NULL);
    enum hw_status status = HW_OK;

    /* libpq's own words may quote the whole of it, password included. */
    if (parsed == NULL)
        return hw_fail(err, HW_EINVAL,
                       "it is no libpq URI such as postgresql://HOST/NAME, nor a connection string "
                       "such as host=HOST dbname=NAME");
    for (const PQconninfoOption *o = parsed; o->keyword != NULL && status == HW_OK; o++)
        status = check_value(o, err);
    PQconninfoFree(parsed);
    return status;
}
