#include "agent/library/line.h"

#include <stdio.h>
#include <stdlib.h>

#include "agent/library/shown.h"
#include "base/memory.h"

#define LINES_MAX 1000

struct library_line {
    enum headwater_agent_level level;
    char *message, *detail; /* detail may be NULL */
    bool has_about;
    struct library_shown about;
    struct library_line *next;
};

_Static_assert((int)HEADWATER_AGENT_LOG_ERROR == (int)HW_LOG_ERROR &&
                   (int)HEADWATER_AGENT_LOG_DEBUG == (int)HW_LOG_DEBUG,
               "levels are the same inside and outside");

static void free_line(struct library_line *line)
{
    free(line->message);
    free(line->detail);
    free(line);
}

void library_line_add(void *arg, enum hw_log_level level, const char *what,
                      const struct agent_document *document, const char *detail)
{
    struct headwater_agent *a = arg;
    struct library_line *line;

    if (a->options.log == NULL || (int)level > (int)a->options.log_level)
        return;
    line = hw_alloc(sizeof(*line));
    line->level = (enum headwater_agent_level)level;
    line->message = hw_strdup(what);
    line->detail = detail != NULL ? hw_strdup(detail) : NULL;
    line->has_about = document != NULL && document->set;
    if (line->has_about)
        library_shown_set(&line->about, document);
    pthread_mutex_lock(&a->lock);
    if (a->line_count < LINES_MAX) {
        *a->lines_end = line;
        a->lines_end = &line->next;
        a->line_count++;
        line = NULL;
    } else {
        a->lines_lost++;
    }
    pthread_mutex_unlock(&a->lock);
    if (line != NULL)
        free_line(line);
    library_wake(a);
}

int library_lines_give(struct headwater_agent *a, struct library_line *lines, size_t lost)
{
    int count = 0;

    while (lines != NULL) {
        struct library_line *const next = lines->next;

        a->options.log(a->options.arg, lines->level, lines->message,
                       lines->has_about ? library_shown_get(&lines->about) : NULL, lines->detail);
        free_line(lines);
        lines = next;
        count++;
    }
    if (lost > 0) {
        char text[64];

        snprintf(text, sizeof(text), "%zu lines were not kept", lost);
        a->options.log(a->options.arg, HEADWATER_AGENT_LOG_WARN, text, NULL, NULL);
        count++;
    }
    return count;
}
