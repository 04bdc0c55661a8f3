/*
 * A small data-acquisition program that changes its sampling rate live: the configuration of its
 * node, {"rate_hz": 1000}, comes to it by libheadwater-agent, on the program's own loop. On SIGUSR1
 * it measures its pedestal and proposes that as new content of the config CALIBRATION.
 *
 *     cc daq-sampler.c $(pkg-config --cflags --libs headwater-agent) -o daq-sampler
 *     ./daq-sampler nats://127.0.0.1:4222 daq-1 /var/tmp/daq-1 calibration
 */
#include <errno.h>
#include <headwater_agent.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define RATE_MAX 100000

struct sampler {
    struct headwater_agent *agent;
    int timer;        /* ticks at the sampling rate */
    long rate;        /* 0: none yet */
    uint64_t samples; /* since the rate changed */
    int checking;     /* the agent waits for the first sample at the new rate */
};

static volatile sig_atomic_t stopping, calibrating;

static void on_signal(int signo)
{
    if (signo == SIGUSR1)
        calibrating = 1;
    else
        stopping = 1;
}

/* The rate that a document asks for; 0 when it asks for none that can be had. */
static long rate_of(const struct headwater_agent_document *document)
{
    const char *at = strstr(document->data, "\"rate_hz\"");
    long rate;

    if (at == NULL)
        return 0;
    at += strlen("\"rate_hz\"");
    at += strspn(at, " \t\r\n:");
    rate = strtol(at, NULL, 10);
    return rate >= 1 && rate <= RATE_MAX ? rate : 0;
}

/* Before anything changes. */
static enum headwater_agent_result validate(void *arg,
                                            const struct headwater_agent_document *document,
                                            char error[HEADWATER_AGENT_ERROR_MAX])
{
    (void)arg;
    if (rate_of(document) > 0)
        return HEADWATER_AGENT_OK;
    snprintf(error, HEADWATER_AGENT_ERROR_MAX, "\"rate_hz\" must be a number from 1 to %d",
             RATE_MAX);
    return HEADWATER_AGENT_REFUSED;
}

/* No restart, no file, no signal: the next sample is taken at the new rate. */
static enum headwater_agent_result apply(void *arg, const struct headwater_agent_document *document,
                                         char error[HEADWATER_AGENT_ERROR_MAX])
{
    struct sampler *s = arg;
    const long rate = rate_of(document);
    const long period_ns = 1000000000 / (rate > 0 ? rate : 1); /* it was validated */
    const struct timespec period = {period_ns / 1000000000, period_ns % 1000000000};
    const struct itimerspec ticks = {period, period};

    if (timerfd_settime(s->timer, 0, &ticks, NULL) != 0) {
        snprintf(error, HEADWATER_AGENT_ERROR_MAX, "setting the timer: %s", strerror(errno));
        return HEADWATER_AGENT_UNAVAILABLE;
    }
    s->rate = rate;
    s->samples = 0;
    printf("revision %lld: sampling at %ld Hz\n", (long long)document->revision, rate);
    return HEADWATER_AGENT_OK;
}

/* Well is who samples: the answer comes with the first tick. */
static enum headwater_agent_result health(void *arg,
                                          const struct headwater_agent_document *document,
                                          char error[HEADWATER_AGENT_ERROR_MAX])
{
    struct sampler *s = arg;

    (void)document;
    (void)error;
    s->checking = 1;
    return HEADWATER_AGENT_PENDING;
}

static void changed(void *arg, const struct headwater_agent_status *status)
{
    (void)arg;
    printf("agent: %s, %s, running %lld%s%s\n", headwater_agent_phase_name(status->phase),
           status->connected ? "connected" : "not connected", (long long)status->running,
           status->held ? ", held" : "", status->failed_stage[0] != '\0' ? ", failed" : "");
}

/* People look at it, and what they approve comes back as configuration. */
static void propose_calibration(struct sampler *s, const char *config)
{
    struct headwater_agent_proposal proposal;
    char error[HEADWATER_AGENT_ERROR_MAX];
    char ref[HEADWATER_AGENT_REF_MAX];
    char content[64], message[64];
    const int size = snprintf(content, sizeof(content), "{\"pedestal\": %.2f}",
                              100 + (double)(s->samples % 100) / 100);

    snprintf(message, sizeof(message), "of %llu samples", (unsigned long long)s->samples);
    headwater_agent_proposal_init(&proposal);
    proposal.config = config;
    proposal.data = content;
    proposal.data_size = (size_t)size;
    proposal.message = message;
    if (headwater_agent_propose(s->agent, &proposal, ref, error) == 0)
        printf("proposed %s as %s\n", content, ref);
    else
        printf("cannot propose %s: %s\n", content, error);
}

static void decided(void *arg, const struct headwater_agent_decision *decision)
{
    (void)arg;
    printf("proposal %s: %s %s\n", decision->ref, decision->state, decision->reason);
}

static void take_samples(struct sampler *s)
{
    uint64_t ticks;

    if (read(s->timer, &ticks, sizeof(ticks)) != (ssize_t)sizeof(ticks))
        return;
    s->samples += ticks; /* here the hardware would be read */
    if (s->checking)
        headwater_agent_finish(s->agent, HEADWATER_AGENT_OK, NULL);
    s->checking = 0;
}

int main(int argc, char **argv)
{
    char error[HEADWATER_AGENT_ERROR_MAX];
    struct headwater_agent_options options;
    struct sampler s = {0};
    struct sigaction action;
    struct pollfd fds[2];

    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: daq-sampler NATS-URL NODE STATE-DIR [CALIBRATION]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    s.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

    headwater_agent_options_init(&options);
    options.nats_url = argv[1];
    options.node = argv[2];
    options.state_dir = argv[3];
    options.validate = validate;
    options.apply = apply;
    options.health = health;
    options.changed = changed;
    options.decided = decided;
    options.arg = &s;
    if (headwater_agent_new(&options, &s.agent, error) != 0) {
        fprintf(stderr, "daq-sampler: %s\n", error);
        return 1;
    }

    fds[0] = (struct pollfd){.fd = s.timer, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = headwater_agent_fd(s.agent), .events = POLLIN};
    while (!stopping) {
        if (calibrating && argc == 5)
            propose_calibration(&s, argv[4]);
        calibrating = 0;
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[0].revents != 0)
            take_samples(&s);
        if (fds[1].revents != 0)
            headwater_agent_dispatch(s.agent);
    }
    printf("%llu samples at %ld Hz\n", (unsigned long long)s.samples, s.rate);
    headwater_agent_free(s.agent);
    close(s.timer);
    return 0;
}
