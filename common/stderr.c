#include "common/stderr.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/memory.h"

enum { PAUSE_MS = 5, NS_OF_MS = 1000000 };

/* A text on its way. */
struct text {
    struct text *next;
    struct hw_buf bytes;
    size_t written; /* of them */
    size_t lines;   /* that are lost with it: 1, or 0 for a mere notice */
    uint64_t told;  /* how many lost ones its notice tells of */
    bool mends;     /* it begins with the line end that the one before it lacks */
};

/* The lock guards all of this, and nothing that may wait is done under it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER; /* wakes the thread */
static struct text *first, **last = &first;            /* the thread is writing the first one */
static size_t waiting;                                 /* bytes, as waits_as counts them */
static bool has_thread;
static bool dropping;         /* the queue was full, and is not yet half empty */
static bool torn;             /* what was written last ended within a line */
static uint64_t lost, untold; /* untold: of them, those that no notice tells of */
static hw_stderr_notice_fn *make_notice;

/* A text waits together with what holds it. */
static size_t waits_as(size_t len)
{
    return len + sizeof(struct text);
}

/* ---- texts ---- */

/* Puts before the line what must be said first: that others are missing. */
static struct text *text_new(const char *line, size_t len)
{
    struct text *t = hw_alloc(sizeof(*t));

    t->lines = len > 0;
    t->mends = torn;
    if (torn)
        hw_buf_putc(&t->bytes, '\n');
    torn = false;
    if (untold > 0 && make_notice != NULL) {
        HW_AUTO_FREE char *notice = make_notice(untold);

        hw_buf_puts(&t->bytes, notice);
        t->told = untold;
        untold = 0;
    }
    hw_buf_add(&t->bytes, line, len);
    return t;
}

static void lose(uint64_t lines)
{
    lost += lines;
    untold += lines;
}

/* Frees a text that was written, or cannot be. */
static void text_end(struct text *t)
{
    const bool whole = t->written == t->bytes.len;

    if (!whole) {
        torn = t->mends || t->written > 0;
        lose(t->lines);
        untold += t->told;
    }
    hw_buf_free(&t->bytes);
    free(t);
}

/* ---- writing at once ---- */

/* The second open file of the pipe or terminal that stderr is; -1: there is none. */
static int second_file(const struct stat *is)
{
    static struct stat of;
    static int fd = -1;
    static bool tried;
    unsigned pair;

    if (tried && of.st_dev == is->st_dev && of.st_ino == is->st_ino)
        return fd;
    if (fd >= 0)
        close(fd);
    fd = -1;
    of = *is;
    tried = true;
    /* To open the controlling side of a pseudo-terminal would make another one. */
    if (ioctl(STDERR_FILENO, TIOCGPTN, &pair) != 0)
        fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd;
}

/* Writes what can be written without waiting. False: the rest needs waiting. */
static bool write_at_once(struct text *t)
{
    int fd = STDERR_FILENO;
    bool is_socket;
    struct stat is;
    ssize_t n;

    if (fstat(fd, &is) != 0)
        return true; /* a failure, which waiting would not mend */
    is_socket = S_ISSOCK(is.st_mode);
    if (S_ISFIFO(is.st_mode) || (S_ISCHR(is.st_mode) && isatty(fd) != 0))
        fd = second_file(&is);
    else if (!is_socket && !S_ISREG(is.st_mode) && !S_ISCHR(is.st_mode))
        fd = -1;
    if (fd < 0)
        return false;
    while (t->written < t->bytes.len) {
        const char *const rest = t->bytes.data + t->written;
        const size_t len = t->bytes.len - t->written;

        n = is_socket ? send(fd, rest, len, MSG_DONTWAIT | MSG_NOSIGNAL) : write(fd, rest, len);
        if (n == 0 || (n < 0 && errno != EINTR))
            return n == 0 || errno != EAGAIN;
        t->written += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* ---- writing later ---- */

static void write_waiting(struct text *t)
{
    while (t->written < t->bytes.len) {
        const ssize_t n =
            write(STDERR_FILENO, t->bytes.data + t->written, t->bytes.len - t->written);

        if (n < 0 && errno == EAGAIN) /* somebody else has set O_NONBLOCK */
            poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, -1);
        else if (n == 0 || (n < 0 && errno != EINTR))
            return;
        t->written += n > 0 ? (size_t)n : 0;
    }
}

static void join_queue(struct text *t)
{
    *last = t;
    last = &t->next;
    waiting += waits_as(t->bytes.len);
    pthread_cond_signal(&more);
}

static void *run_queue(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (first == NULL)
            pthread_cond_wait(&more, &lock);
        struct text *const t = first;

        pthread_mutex_unlock(&lock);
        write_waiting(t);
        pthread_mutex_lock(&lock);
        const bool whole = t->written == t->bytes.len;

        first = t->next;
        if (first == NULL)
            last = &first;
        waiting -= waits_as(t->bytes.len);
        dropping = dropping && waiting > HW_STDERR_WAITING_MOST / 2;
        text_end(t);
        /* The reader is back, and no line comes that could tell it. */
        if (whole && first == NULL && untold > 0 && make_notice != NULL)
            join_queue(text_new("", 0));
    }
    return NULL;
}

/* It takes no signals: they are for the loop, and SIGPIPE for nobody. */
static void need_thread(void)
{
    pthread_t thread;
    sigset_t all, before;

    if (has_thread)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    has_thread = pthread_create(&thread, NULL, run_queue, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (has_thread)
        pthread_detach(thread);
}

/* ---- for others ---- */

void hw_stderr_write(const char *text, size_t len)
{
    if (len == 0)
        return;
    pthread_mutex_lock(&lock);
    /* A text that is longer than the whole queue can have it for itself. */
    dropping = first != NULL && (dropping || waiting + waits_as(len) > HW_STDERR_WAITING_MOST);
    if (dropping) {
        lose(1);
    } else {
        struct text *t = text_new(text, len);

        if (first == NULL && write_at_once(t)) {
            text_end(t);
        } else {
            join_queue(t);
            need_thread();
        }
    }
    pthread_mutex_unlock(&lock);
}

uint64_t hw_stderr_lost(void)
{
    pthread_mutex_lock(&lock);
    const uint64_t count = lost;
    pthread_mutex_unlock(&lock);
    return count;
}

void hw_stderr_on_loss(hw_stderr_notice_fn *notice)
{
    pthread_mutex_lock(&lock);
    make_notice = notice;
    pthread_mutex_unlock(&lock);
}

void hw_stderr_finish(int64_t most_ms)
{
    const struct timespec pause = {.tv_nsec = (long)PAUSE_MS * NS_OF_MS};

    for (int64_t left = most_ms; left > 0; left -= PAUSE_MS) {
        pthread_mutex_lock(&lock);
        const bool done = first == NULL;
        pthread_mutex_unlock(&lock);
        if (done)
            return;
        nanosleep(&pause, NULL);
    }
}
