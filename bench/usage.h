/* How much of the machine a process has used, as /proc says. */
#ifndef BENCH_USAGE_H
#define BENCH_USAGE_H

#include <sys/types.h>

struct usage {
    double resident, peak; /* MiB: VmRSS, VmHWM */
    double own;            /* MiB: RssAnon, which is without the shared buffers of PostgreSQL */
    double cpu;            /* seconds, in the process and in the kernel for it */
};

/* Ends the program for a process that is gone. */
struct usage usage_of(pid_t pid);

#endif
