#include "agent/daemon/words.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "base/memory.h"

enum hw_status agent_words_split(const char *line, char ***out, struct hw_error *err)
{
    /* There are no more words than every second character, and no more text than the line; both are
     * in one block of memory. */
    const size_t most = strlen(line) / 2 + 2;
    HW_AUTO_FREE char **words = hw_alloc(most * sizeof(*words) + strlen(line) + 1);
    char *to = (char *)(words + most);
    size_t count = 0;
    char quote = 0;
    bool in_word = false;

    for (const char *p = line; *p != '\0'; p++) {
        if (quote == 0 && (*p == ' ' || *p == '\t' || *p == '\n')) {
            if (in_word)
                *to++ = '\0';
            in_word = false;
            continue;
        }
        if (!in_word) {
            words[count++] = to;
            in_word = true;
        }
        if (*p == quote) {
            quote = 0;
        } else if (quote == 0 && (*p == '\'' || *p == '"')) {
            quote = *p;
        } else if (*p == '\\' && (quote == 0 || (quote == '"' && (p[1] == '"' || p[1] == '\\')))) {
            if (*++p == '\0')
                return hw_fail(err, HW_EINVAL, "a backslash at the end of \"%s\"", line);
            *to++ = *p;
        } else {
            *to++ = *p;
        }
    }
    if (quote != 0)
        return hw_fail(err, HW_EINVAL, "an open %c in %s", quote, line);
    if (count == 0 || words[0][0] == '\0')
        return hw_fail(err, HW_EINVAL, "no command in \"%s\"", line);
    *out = HW_TAKE(words);
    return HW_OK;
}

/* ---- what only a shell understands ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\0';
}

/* The length of a shell operator at p, where a word begins; 0: there is none. The word holds only
 * the operator and the target of a redirection. */
static size_t operator_at(const char *p)
{
    static const char *const whole[] = {"|", "&", ";", ";;", "|&"};
    const size_t digits = strspn(p, "0123456789");
    const size_t arrows = strspn(p + digits, "<>");

    for (size_t i = 0; i < HW_COUNT(whole); i++)
        if (strncmp(p, whole[i], strlen(whole[i])) == 0 && is_blank(p[strlen(whole[i])]))
            return strlen(whole[i]);
    if (strncmp(p, "&>", 2) == 0)
        return 2;
    return arrows > 0 ? digits + arrows : 0;
}

/* The length of an expansion that a shell would replace by a value; 0: there is none. */
static size_t expansion_at(const char *p)
{
    if (*p == '`')
        return 1;
    if (*p != '$')
        return 0;
    if (p[1] == '{' || p[1] == '(')
        return 2;
    const size_t letters = isalpha((unsigned char)p[1]) || p[1] == '_' ? 1 : 0;
    return letters == 0
               ? 0
               : 1 + strspn(p + 1,
                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
}

/* The length of NAME= at the start of the line; 0: the line does not begin so. */
static size_t assignment_at(const char *line)
{
    const size_t name =
        strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");

    return name > 0 && !isdigit((unsigned char)*line) && line[name] == '=' ? name + 1 : 0;
}

/* The length of something outside of quotes at p that only a shell understands; 0: there is
 * none. */
static size_t shell_at(const char *p, bool starts_word)
{
    size_t len = starts_word ? operator_at(p) : 0;

    if (len == 0)
        len = expansion_at(p);
    if (len == 0 && starts_word && strncmp(p, "~/", 2) == 0)
        len = 2;
    if (len == 0 && (strncmp(p, "&&", 2) == 0 || strncmp(p, "||", 2) == 0))
        len = 2;
    if (len == 0 && *p == ';' && is_blank(p[1]))
        len = 1;
    return len;
}

enum hw_status agent_words_check(const char *line, const char **glob, struct hw_error *err)
{
    const char *pattern = NULL;
    bool starts_word = true;
    char quote = 0;

    line += strspn(line, " \t\n");
    const size_t assignment = assignment_at(line);
    if (assignment > 0)
        return hw_fail(err, HW_EINVAL,
                       "no shell reads this command, so \"%.*s\" sets no variable; write "
                       "env %.*s\xE2\x80\xA6 COMMAND",
                       (int)assignment, line, (int)assignment, line);
    for (const char *p = line; *p != '\0'; p++) {
        if (quote != 0) {
            if (*p == '\\' && quote == '"' && (p[1] == '"' || p[1] == '\\'))
                p++;
            else if (*p == quote)
                quote = 0;
            continue;
        }
        const size_t len = shell_at(p, starts_word);
        if (len > 0)
            return hw_fail(
                err, HW_EINVAL,
                "no shell reads this command, so %.*s is nothing but text; "
                "sh -c '\xE2\x80\xA6' has a shell read it, and quotes ('%.*s') pass it on "
                "as it is",
                (int)len, p, (int)len, p);
        if (*p == '\'' || *p == '"')
            quote = *p;
        else if (*p == '\\' && p[1] != '\0')
            p++;
        else if (pattern == NULL && (*p == '*' || *p == '['))
            pattern = p;
        starts_word = is_blank(*p);
    }
    *glob = pattern;
    return HW_OK;
}
