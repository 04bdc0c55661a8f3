#include "api/request/parameter.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "http/answer.h"

enum { LIMIT_DEFAULT = 100, LIMIT_MOST = 1000 };

/* The value of digits alone, from 0 to most; -1 for anything else. */
static int64_t read_number(const char *text, int64_t most)
{
    int64_t value = 0;

    if (*text == '\0')
        return -1;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *text - '0', &value) || value > most)
            return -1;
    }
    return value;
}

bool api_parameter_limit(struct http_request *request, int *limit, const char **text)
{
    const char *given = http_request_parameter(request, "limit");
    const int64_t value = given != NULL ? read_number(given, LIMIT_MOST) : LIMIT_DEFAULT;

    if (value < 1) {
        http_answer_problem(request, &http_invalid_parameter,
                            "limit: must be a number from 1 to %d", LIMIT_MOST);
        return false;
    }
    *limit = (int)value;
    *text = http_request_keep(request, hw_sprintf("%d", *limit + 1));
    return true;
}

bool api_parameter_flag(struct http_request *request, const char *name, bool *flag)
{
    const char *given = http_request_parameter(request, name);

    if (given != NULL && strcmp(given, "true") != 0 && strcmp(given, "false") != 0) {
        http_answer_problem(request, &http_invalid_parameter, "%s: must be true or false", name);
        return false;
    }
    *flag = given != NULL && strcmp(given, "true") == 0;
    return true;
}

bool api_parameter_number(struct http_request *request, const char *name, const char **text)
{
    const char *given = http_request_parameter(request, name);

    if (given != NULL && read_number(given, INT32_MAX) < 1) {
        http_answer_problem(request, &http_invalid_parameter, "%s: must be a number from 1 to %d",
                            name, INT32_MAX);
        return false;
    }
    *text = given;
    return true;
}

bool api_parameter_after(struct http_request *request, const char **text)
{
    const char *given = http_request_parameter(request, "after");

    if (given != NULL && read_number(given, INT64_MAX) < 0) {
        http_answer_problem(request, &http_invalid_parameter,
                            "after: must be a number, as next gives it");
        return false;
    }
    *text = given;
    return true;
}

bool api_parameter_rev(const char *text, int64_t *rev)
{
    const int64_t value = read_number(text, INT64_MAX);

    if (value < 1)
        return false;
    *rev = value;
    return true;
}
