#include "tests/support/patience.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/servers.h"

/* Some tenth of a second on the machine for which the limits were written: long enough to be
 * scheduled many times beside others. */
#define STEPS       100000000
#define REFERENCE_S 0.12
#define MOST        20 /* what is that slow will not pass; and something may hang */

static double factor;

/* The memory access keeps every compiler and sanitizer from making it another piece of work. */
static void *work(void *arg)
{
    volatile uint32_t state = 1;

    for (uint32_t i = 0; i < STEPS; i++)
        state = state * 1664525 + 1013904223;
    return arg;
}

/* On two threads, as most tests keep two processors busy: a single one takes twice as long. */
static double measure(void)
{
    const double begun = test_now();
    pthread_t other;

    if (pthread_create(&other, NULL, work, NULL) != 0)
        return 1;
    work(NULL);
    pthread_join(other, NULL);
    return (test_now() - begun) / REFERENCE_S;
}

static double bounded(double measured)
{
    return measured > MOST ? MOST : measured > 1 ? measured : 1;
}

/* Before main and before anything is forked. Check multiplies the limits of its cases by itself. */
static void __attribute__((constructor(101))) set_up(void)
{
    const char *given = getenv("HW_PATIENCE");
    const double handed_on = given != NULL ? strtod(given, NULL) : 0;
    char text[32];

    factor = bounded(handed_on > 0 ? handed_on : measure());
    snprintf(text, sizeof(text), "%.2f", factor);
    if (given != NULL && strcmp(given, "measure") == 0) {
        puts(text);
        fflush(stdout);
        _exit(0);
    }
    setenv("CK_TIMEOUT_MULTIPLIER", text, 1);
}

double test_patience(void)
{
    return factor;
}

double test_deadline(double seconds)
{
    return test_now() + seconds * factor;
}

int test_patient_ms(int ms)
{
    return (int)(ms * factor);
}
