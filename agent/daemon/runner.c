#include "agent/daemon/runner.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/daemon/command.h"
#include "base/memory.h"

#define HEALTH_PAUSE_MS 1000 /* between two runs of the health command */

struct agent_runner {
    struct hw_loop *loop;
    struct agent_runner_options options;
    struct headwater_agent *agent;
    struct agent_command *running;

    /* The call that is out. */
    const struct headwater_agent_document *document;
    const struct agent_runner_command *what;
    int64_t until; /* hw_loop_now(): a run that fails before then is repeated */
    struct hw_timer again;
};

/* The environment of a command: ours without our own settings, which may hold a password, and with
 * the document's. */
static char **make_environment(const struct agent_runner *r)
{
    extern char **environ;
    const struct headwater_agent_document *const d = r->document;
    size_t count = 0, kept = 0;
    char **env;

    while (environ[count] != NULL)
        count++;
    env = hw_alloc((count + 6) * sizeof(*env));
    env[kept++] = hw_sprintf("HEADWATER_NODE=%s", r->options.node);
    env[kept++] = hw_sprintf("HEADWATER_REVISION=%" PRId64, d->revision);
    env[kept++] = hw_sprintf("HEADWATER_DIGEST=%s", d->digest);
    env[kept++] = hw_sprintf("HEADWATER_MEDIA_TYPE=%s", d->media_type);
    env[kept++] = hw_sprintf("HEADWATER_FILE=%s", d->file);
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], "HEADWATER_", 10) != 0)
            env[kept++] = hw_strdup(environ[i]);
    return env;
}

static void on_done(void *arg, const char *error);

void agent_runner_reap(const struct agent_runner *r)
{
    agent_orphans_reap(r->running);
}

static enum hw_status start(struct agent_runner *r, struct hw_error *err)
{
    char **env = make_environment(r);
    const struct agent_command_spec spec = {.argv = r->what->argv,
                                            .env = env,
                                            .timeout_ms = r->what->timeout_ms,
                                            .record = r->options.record};
    const enum hw_status status = agent_command_start(r->loop, &spec, on_done, r, &r->running, err);

    for (size_t i = 0; env[i] != NULL; i++)
        free(env[i]);
    free(env);
    return status;
}

static void on_again(void *arg)
{
    struct agent_runner *r = arg;
    struct hw_error err;

    if (start(r, &err) != HW_OK)
        headwater_agent_finish(r->agent, HEADWATER_AGENT_UNAVAILABLE, err.message);
}

static void on_done(void *arg, const char *error)
{
    struct agent_runner *r = arg;

    r->running = NULL;
    agent_runner_reap(r);
    if (error[0] != '\0' && hw_loop_now() < r->until)
        hw_timer_start(r->loop, &r->again, HEALTH_PAUSE_MS, on_again, r);
    else
        headwater_agent_finish(
            r->agent, error[0] == '\0' ? HEADWATER_AGENT_OK : HEADWATER_AGENT_REFUSED, error);
}

static enum headwater_agent_result run(struct agent_runner *r,
                                       const struct agent_runner_command *what, int64_t within_ms,
                                       const struct headwater_agent_document *document,
                                       char error[HEADWATER_AGENT_ERROR_MAX])
{
    struct hw_error err;

    r->document = document;
    r->what = what;
    r->until = hw_loop_now() + within_ms;
    if (start(r, &err) == HW_OK)
        return HEADWATER_AGENT_PENDING;
    snprintf(error, HEADWATER_AGENT_ERROR_MAX, "%s", err.message);
    return HEADWATER_AGENT_UNAVAILABLE;
}

static enum headwater_agent_result validate(void *arg,
                                            const struct headwater_agent_document *document,
                                            char error[HEADWATER_AGENT_ERROR_MAX])
{
    struct agent_runner *r = arg;

    return run(r, &r->options.validate, 0, document, error);
}

static enum headwater_agent_result apply(void *arg, const struct headwater_agent_document *document,
                                         char error[HEADWATER_AGENT_ERROR_MAX])
{
    struct agent_runner *r = arg;

    return run(r, &r->options.apply, 0, document, error);
}

static enum headwater_agent_result health(void *arg,
                                          const struct headwater_agent_document *document,
                                          char error[HEADWATER_AGENT_ERROR_MAX])
{
    struct agent_runner *r = arg;

    return run(r, &r->options.health, r->options.health_within_ms, document, error);
}

struct agent_runner *agent_runner_new(struct hw_loop *loop,
                                      const struct agent_runner_options *options)
{
    struct agent_runner *r = hw_alloc(sizeof(*r));

    r->loop = loop;
    r->options = *options;
    return r;
}

void agent_runner_free(struct agent_runner *r)
{
    agent_runner_end(r);
    free(r);
}

void agent_runner_end(struct agent_runner *r)
{
    if (r == NULL)
        return;
    hw_timer_stop(&r->again);
    agent_command_end(HW_TAKE(r->running));
}

const char *agent_runner_node(const struct agent_runner *r)
{
    return r->options.node;
}

void agent_runner_fill(const struct agent_runner *r, struct headwater_agent_options *options)
{
    options->validate = r->options.validate.argv != NULL ? validate : NULL;
    options->apply = r->options.apply.argv != NULL ? apply : NULL;
    options->health = r->options.health.argv != NULL ? health : NULL;
}

void agent_runner_serve(struct agent_runner *r, struct headwater_agent *agent)
{
    r->agent = agent;
}
