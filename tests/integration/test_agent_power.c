/*
 * The agent and a power loss. What it does to its disk is written down, and from that every disk is
 * made that a power loss may leave behind at any moment: of a file what was not synced is there,
 * missing, cut or zeroes; of a directory each change that was not synced is there or not, by
 * itself. On each such disk the agent is started again, without NATS: output, state and report must
 * be one document, the one that ran before or the one that was about to, and after `applied` only
 * that one; the copy to go back to must be whole. The same where the process was killed first, and
 * the power went later, in the midst of what the next start did.
 *
 * A sample of the disks is tried, drawn by HW_SEED; `make agent-power` tries all of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/report.h"
#include "base/file.h"
#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"
#include "tests/support/upstream.h"

#define NODE      "edge-1"
#define BYTES_MAX 4096 /* of a file */
#define NODES_MAX 512  /* files, links and directories that there ever were */
#define DIRS_MAX  5
#define CHANGES   12 /* of a directory that are not synced */
#define ENTRIES   32 /* of a directory */
#define PATH      160
#define OPS_MAX   2048

/* ---- what a disk holds, and what it may lose ------------------------------------------------- */

enum kind { FILE_NODE, LINK_NODE, DIR_NODE };

struct bytes {
    size_t size;
    mode_t mode;
    char data[BYTES_MAX];
};

struct entry {
    char name[80];
    int node; /* -1: none */
};

struct change {
    char from[80]; /* that goes away, or "" */
    char to[80];   /* that is node, or "" */
    int node;
};

struct dir {
    struct entry now[ENTRIES], kept[ENTRIES]; /* kept: as of the last sync */
    int now_count, kept_count;
    struct change changes[CHANGES]; /* since */
    int count;
};

struct node {
    enum kind kind;
    int dir;                /* of DIR_NODE: which */
    bool synced;            /* now is kept */
    struct bytes now, kept; /* kept: as of the last sync; LINK_NODE: the target */
};

struct disk {
    struct dir dirs[DIRS_MAX];
    struct node nodes[NODES_MAX];
    int dirs_count, nodes_count;
};

static int find(const struct entry *entries, int count, const char *name)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(entries[i].name, name) == 0)
            return i;
    }
    return -1;
}

static void set_entry(struct entry *entries, int *count, const char *name, int node)
{
    const int at = find(entries, *count, name);
    if (name[0] == '\0')
        return;
    if (node < 0) {
        if (at >= 0)
            entries[at] = entries[--*count];
        return;
    }
    if (at < 0)
        ck_assert_int_lt(*count, ENTRIES);
    struct entry *entry = &entries[at < 0 ? (*count)++ : at];
    ck_assert_uint_lt(strlen(name), sizeof(entry->name));
    strcpy(entry->name, name);
    entry->node = node;
}

static void make_change(struct entry *entries, int *count, const struct change *change)
{
    set_entry(entries, count, change->from, -1);
    set_entry(entries, count, change->to, change->node);
}

static int new_node(struct disk *disk, enum kind kind)
{
    ck_assert_int_lt(disk->nodes_count, NODES_MAX);
    struct node *node = &disk->nodes[disk->nodes_count];
    memset(node, 0, sizeof(*node));
    node->kind = kind;
    if (kind == DIR_NODE) {
        ck_assert_int_lt(disk->dirs_count, DIRS_MAX);
        node->dir = disk->dirs_count++;
        memset(&disk->dirs[node->dir], 0, sizeof(disk->dirs[0]));
    }
    return disk->nodes_count++;
}

/* The directory that holds path, and its last part. */
static struct dir *parent_of(struct disk *disk, const char *path, const char **name)
{
    struct dir *dir = &disk->dirs[0];
    for (const char *slash; (slash = strchr(path, '/')) != NULL; path = slash + 1) {
        char part[80];
        snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
        const int at = find(dir->now, dir->now_count, part);
        ck_assert_msg(at >= 0, "%s is not in the model", part);
        dir = &disk->dirs[disk->nodes[dir->now[at].node].dir];
    }
    *name = path;
    return dir;
}

static int node_at(struct disk *disk, const char *path)
{
    const char *name;
    struct dir *dir = parent_of(disk, path, &name);
    const int at = find(dir->now, dir->now_count, name);
    return *name == '\0' ? 0 : at < 0 ? -1 : dir->now[at].node;
}

static void change_dir(struct disk *disk, const char *from, const char *to, int node)
{
    struct change change = {.node = node};
    const char *from_name = "", *to_name = "";
    struct dir *dir = NULL;
    if (from != NULL)
        dir = parent_of(disk, from, &from_name);
    if (to != NULL) {
        struct dir *const other = parent_of(disk, to, &to_name);
        ck_assert_msg(dir == NULL || dir == other, "a rename between directories");
        dir = other;
    }
    ck_assert_int_lt(dir->count, CHANGES);
    strcpy(change.from, from_name);
    strcpy(change.to, to_name);
    make_change(dir->now, &dir->now_count, &change);
    dir->changes[dir->count++] = change;
}

enum op_kind {
    OP_CREATE,
    OP_CUT,
    OP_WRITE,
    OP_MODE,
    OP_SYNC,
    OP_RENAME,
    OP_UNLINK,
    OP_LINK,
    OP_DIR
};

struct op {
    enum op_kind kind;
    char path[PATH], to[PATH];
    mode_t mode;
    char *data;
    size_t size;
    int step;     /* of the scenario */
    bool settled; /* its document was said to run already */
};

static void run_op(struct disk *disk, const struct op *op)
{
    const int at = op->kind == OP_RENAME ? -1 : node_at(disk, op->path);
    struct node *node = at < 0 ? NULL : &disk->nodes[at];
    if (node == NULL && op->kind >= OP_CUT && op->kind <= OP_SYNC)
        test_fail("%s is not in the model", op->path);
    switch (op->kind) {
    case OP_CREATE: {
        const int file = new_node(disk, FILE_NODE);
        disk->nodes[file].now.mode = disk->nodes[file].kept.mode = op->mode;
        change_dir(disk, NULL, op->path, file);
        break;
    }
    case OP_CUT:
        node->now.size = 0;
        node->synced = false;
        break;
    case OP_WRITE:
        ck_assert_uint_le(node->now.size + op->size, BYTES_MAX);
        memcpy(node->now.data + node->now.size, op->data, op->size);
        node->now.size += op->size;
        node->synced = false;
        break;
    case OP_MODE:
        node->now.mode = op->mode;
        node->synced = false;
        break;
    case OP_SYNC:
        if (node->kind == DIR_NODE) {
            struct dir *dir = &disk->dirs[node->dir];
            memcpy(dir->kept, dir->now, sizeof(dir->kept));
            dir->kept_count = dir->now_count;
            dir->count = 0;
        } else {
            node->kept = node->now;
            node->synced = true;
        }
        break;
    case OP_RENAME:
        change_dir(disk, op->path, op->to, node_at(disk, op->path));
        break;
    case OP_UNLINK:
        change_dir(disk, op->path, NULL, -1);
        break;
    case OP_LINK: {
        const int link = new_node(disk, LINK_NODE);
        memcpy(disk->nodes[link].now.data, op->to, sizeof(op->to));
        disk->nodes[link].kept = disk->nodes[link].now;
        disk->nodes[link].synced = true;
        change_dir(disk, NULL, op->path, link);
        break;
    }
    case OP_DIR:
        change_dir(disk, NULL, op->path, new_node(disk, DIR_NODE));
        break;
    }
}

/* ---- writing down what is done --------------------------------------------------------------- */

static struct {
    bool on;
    pthread_t thread;
    char base[PATH]; /* below which it is */
    struct op ops[OPS_MAX];
    int count;
    int step; /* of the scenario */
    bool settled;
} tape;

/* path below the base, or NULL. */
static const char *inside(const char *path)
{
    const size_t len = strlen(tape.base);
    if (!tape.on || !pthread_equal(tape.thread, pthread_self()))
        return NULL;
    return strncmp(path, tape.base, len) == 0 && path[len] == '/' ? path + len + 1 : NULL;
}

static const char *inside_fd(int fd, char path[static PATH])
{
    char proc[64];
    if (!tape.on || !pthread_equal(tape.thread, pthread_self()))
        return NULL;
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    const ssize_t len = readlink(proc, path, PATH - 1);
    path[len > 0 ? len : 0] = '\0';
    return strcmp(path, tape.base) == 0 ? "" : inside(path);
}

static struct op *note(enum op_kind kind, const char *path)
{
    ck_assert_int_lt(tape.count, OPS_MAX);
    struct op *op = &tape.ops[tape.count++];
    *op = (struct op){.kind = kind, .step = tape.step, .settled = tape.settled};
    snprintf(op->path, sizeof(op->path), "%s", path);
    return op;
}

/* A new tape, for what is done below base. */
static void tape_start(const char *base)
{
    for (int i = 0; i < tape.count; i++)
        free(tape.ops[i].data);
    tape.count = 0;
    tape.thread = pthread_self();
    ck_assert_uint_lt(strlen(base), sizeof(tape.base));
    strcpy(tape.base, base);
    tape.on = true;
}

/*
 * The system's calls, for this program: done, and written down. They take the place of the C
 * library's; a change to the disk that went past them would show in expect_disk.
 */

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list args;
        va_start(args, flags);
        mode = (mode_t)va_arg(args, int);
        va_end(args);
    }
    const char *const name = inside(path);
    const bool there = name == NULL || access(path, F_OK) == 0;
    const int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && name != NULL && (flags & O_CREAT) && !there)
        note(OP_CREATE, name)->mode = mode;
    else if (fd >= 0 && name != NULL && (flags & O_TRUNC))
        note(OP_CUT, name);
    return fd;
}

ssize_t write(int fd, const void *data, size_t size)
{
    char path[PATH];
    const ssize_t n = syscall(SYS_write, fd, data, size);
    const char *const name = n > 0 ? inside_fd(fd, path) : NULL;
    if (name != NULL) {
        struct op *op = note(OP_WRITE, name);
        op->size = (size_t)n;
        op->data = hw_alloc(op->size);
        memcpy(op->data, data, op->size);
    }
    return n;
}

/* Nothing here needs the real one. */
int fsync(int fd)
{
    char path[PATH];
    const char *const name = inside_fd(fd, path);
    if (name != NULL)
        note(OP_SYNC, name);
    return 0;
}

int fchmod(int fd, mode_t mode)
{
    char path[PATH];
    const int done = (int)syscall(SYS_fchmod, fd, mode);
    const char *const name = inside_fd(fd, path);
    if (done == 0 && name != NULL)
        note(OP_MODE, name)->mode = mode;
    return done;
}

int rename(const char *from, const char *to)
{
    const int done = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (done == 0 && inside(from) != NULL)
        snprintf(note(OP_RENAME, inside(from))->to, PATH, "%s", inside(to));
    return done;
}

int unlink(const char *path)
{
    const int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (done == 0 && inside(path) != NULL)
        note(OP_UNLINK, inside(path));
    return done;
}

int unlinkat(int fd, const char *path, int flags)
{
    char dir[PATH];
    const int done = (int)syscall(SYS_unlinkat, fd, path, flags);
    const char *const name = done == 0 ? inside_fd(fd, dir) : NULL;
    if (name != NULL) {
        HW_AUTO_FREE char *whole = hw_sprintf("%s/%s", name, path);
        note(OP_UNLINK, whole);
    }
    return done;
}

int symlink(const char *target, const char *path)
{
    const int done = (int)syscall(SYS_symlinkat, target, AT_FDCWD, path);
    if (done == 0 && inside(path) != NULL)
        snprintf(note(OP_LINK, inside(path))->to, PATH, "%s", target);
    return done;
}

int mkdir(const char *path, mode_t mode)
{
    const int done = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (done == 0 && inside(path) != NULL)
        note(OP_DIR, inside(path));
    return done;
}

/* ---- disks that a power loss may leave ------------------------------------------------------- */

/* What may become of a file that is not synced. */
enum fate { AS_SYNCED, AS_WRITTEN, EMPTY, ZEROES, HALF, FATES };

/* For each directory its changes that are there, for each node what becomes of it. */
struct choice {
    unsigned changes[DIRS_MAX];
    enum fate fates[NODES_MAX];
};

static void whole(struct choice *choice)
{
    for (int i = 0; i < DIRS_MAX; i++)
        choice->changes[i] = ~0u;
    for (int i = 0; i < NODES_MAX; i++)
        choice->fates[i] = AS_WRITTEN;
}

/* The disk as text, directories first: "d state\n", "f 644 3 state/x\nabc\n", "l current target\n".
 * Two that are the same have the same text. */
struct image {
    char *text;
    size_t size;
};

static void tell_node(FILE *out, const struct node *node, enum fate fate, const char *path)
{
    const struct bytes *bytes = fate == AS_SYNCED ? &node->kept : &node->now;
    struct bytes cut;
    if (node->kind == LINK_NODE) {
        fprintf(out, "l %s %s\n", path, bytes->data);
        return;
    }
    if (!node->synced && fate > AS_WRITTEN) {
        cut = node->now;
        if (fate == EMPTY)
            cut.size = 0;
        else if (fate == HALF)
            cut.size /= 2;
        else
            memset(cut.data, 0, sizeof(cut.data));
        bytes = &cut;
    }
    fprintf(out, "f %o %zu %s\n", (unsigned)bytes->mode, bytes->size, path);
    fwrite(bytes->data, 1, bytes->size, out);
    fputc('\n', out);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static void tell_dir(FILE *out, const struct disk *disk, const struct choice *choice, int which,
                     const char *path)
{
    const struct dir *dir = &disk->dirs[which];
    struct entry entries[ENTRIES];
    int count = dir->kept_count;
    memcpy(entries, dir->kept, sizeof(entries));
    for (int i = 0; i < dir->count; i++) {
        if (choice->changes[which] & (1u << i))
            make_change(entries, &count, &dir->changes[i]);
    }
    qsort(entries, (size_t)count, sizeof(*entries), by_name);
    for (int i = 0; i < count; i++) {
        const int at = entries[i].node;
        HW_AUTO_FREE char *below =
            hw_sprintf("%s%s%s", path, *path != '\0' ? "/" : "", entries[i].name);
        if (disk->nodes[at].kind == DIR_NODE) {
            fprintf(out, "d %s\n", below);
            tell_dir(out, disk, choice, disk->nodes[at].dir, below);
        } else {
            tell_node(out, &disk->nodes[at], choice->fates[at], below);
        }
    }
}

static struct image image_of(const struct disk *disk, const struct choice *choice)
{
    struct image image;
    FILE *out = open_memstream(&image.text, &image.size);
    tell_dir(out, disk, choice, 0, "");
    fclose(out);
    return image;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

/* Makes a directory what the image says. */
static void lay(const struct image *image, const char *base)
{
    nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    ck_assert_int_eq(mkdir(base, 0755), 0);
    for (const char *at = image->text; at < image->text + image->size;) {
        char name[PATH], target[PATH];
        const char *const next = strchr(at, '\n') + 1;
        if (*at == 'd') {
            ck_assert_int_eq(sscanf(at, "d %159s", name), 1);
            HW_AUTO_FREE char *path = hw_sprintf("%s/%s", base, name);
            ck_assert_int_eq(mkdir(path, 0755), 0);
            at = next;
        } else if (*at == 'l') {
            ck_assert_int_eq(sscanf(at, "l %159s %159s", name, target), 2);
            HW_AUTO_FREE char *path = hw_sprintf("%s/%s", base, name);
            ck_assert_int_eq(symlink(target, path), 0);
            at = next;
        } else {
            char *end;
            const mode_t mode = (mode_t)strtoul(at + 2, &end, 8);
            const size_t size = strtoul(end, &end, 10);
            ck_assert_int_eq(sscanf(end, "%159s", name), 1);
            HW_AUTO_FREE char *path = hw_sprintf("%s/%s", base, name);
            const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
            ck_assert_int_eq(write(fd, next, size), (ssize_t)size);
            ck_assert_int_eq(fchmod(fd, mode), 0);
            close(fd);
            at = next + size + 1;
        }
    }
}

/* ---- which of them are tried ----------------------------------------------------------------- */

static unsigned long long seed;
static bool every;

static unsigned long long draw(void)
{
    seed ^= seed << 13; /* xorshift */
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* The disks that were tried in this moment of the scenario, by the hash of their image. */
static struct {
    struct hw_digest seen[1 << 16];
    int count;
} tried;

static bool is_new(const struct image *image)
{
    struct hw_digest digest;
    hw_digest_of(image->text, image->size, &digest);
    for (int i = 0; i < tried.count; i++) {
        if (hw_digest_equal(&tried.seen[i], &digest))
            return false;
    }
    if (tried.count < (int)HW_COUNT(tried.seen))
        tried.seen[tried.count++] = digest;
    return true;
}

/* Calls fn with the disks that a power loss now may leave, or with a sample of so many. */
static void for_each_loss(const struct disk *disk, int sample,
                          void (*fn)(const struct image *image))
{
    struct choice *choice = hw_alloc(sizeof(*choice));
    int files[NODES_MAX], count = 0;
    unsigned long long total = 1;
    for (int i = 0; i < disk->dirs_count; i++)
        total <<= disk->dirs[i].count;
    for (int i = 0; i < disk->nodes_count; i++) {
        const struct node *node = &disk->nodes[i];
        bool reachable = false; /* by a name, or one that may have stayed */
        for (int d = 0; d < disk->dirs_count; d++) {
            const struct dir *dir = &disk->dirs[d];
            for (int e = 0; e < dir->kept_count; e++)
                reachable |= dir->kept[e].node == i;
            for (int e = 0; e < dir->count; e++)
                reachable |= dir->changes[e].node == i;
        }
        if (node->kind == FILE_NODE && !node->synced && reachable && node->now.size > 0) {
            files[count++] = i;
            total *= FATES;
        }
    }
    for (unsigned long long i = 0; i < total; i++) {
        unsigned long long rest = every ? i : draw() % total;
        if (!every && i == (unsigned long long)sample)
            break;
        whole(choice);
        for (int d = 0; d < disk->dirs_count; d++) {
            choice->changes[d] = (unsigned)(rest & ((1u << disk->dirs[d].count) - 1));
            rest >>= disk->dirs[d].count;
        }
        for (int f = 0; f < count; f++) {
            choice->fates[files[f]] = (enum fate)(rest % FATES);
            rest /= FATES;
        }
        struct image image = image_of(disk, choice);
        if (is_new(&image))
            fn(&image);
        free(image.text);
    }
    free(choice);
}

/* ---- the agent ------------------------------------------------------------------------------- */

static struct {
    struct agent *agent;
    char told[BYTES_MAX]; /* the document that the node was told to use last */
    char log[8192];
    int64_t waits_for; /* revision */
    struct hw_timer pause;
    int turns;
    bool rests;
    bool cuts_off;                               /* the next document, the node from NATS */
    char state_dir[PATH], file[PATH], dir[PATH]; /* its options */
} host;

static struct upstream up;

/* What the node says of a document is in its bytes. */
static void on_call(void *arg, const struct agent_call *call)
{
    (void)arg;
    if (call->phase == AGENT_APPLYING || call->phase == AGENT_ROLLING_BACK)
        snprintf(host.told, sizeof(host.told), "%s", (const char *)call->data);
    if (host.cuts_off && call->phase == AGENT_APPLYING) {
        host.cuts_off = false;
        test_nats_stop(&up.server);
    }
    const char *const refused = call->phase == AGENT_VALIDATING ? "invalid"
                                : call->phase == AGENT_APPLYING ? "refused"
                                : call->phase == AGENT_CHECKING ? "unwell"
                                                                : "-";
    agent_answer(host.agent, strncmp(call->data, refused, strlen(refused)) == 0 ? "no" : NULL,
                 false);
}

static void on_told(void *arg, enum hw_log_level level, const char *what,
                    const struct agent_document *document, const char *detail)
{
    (void)arg;
    (void)level;
    (void)document;
    const size_t used = strlen(host.log);
    snprintf(host.log + used, sizeof(host.log) - used, "%s %s\n", what,
             detail != NULL ? detail : "");
}

/* From the moment that it may be reported to run. */
static void on_changed(void *arg)
{
    struct agent_view view;
    (void)arg;
    if (host.agent == NULL || host.waits_for == 0)
        return;
    agent_look(host.agent, &view);
    tape.settled |= view.state.running.set && view.state.running.revision == host.waits_for &&
                    view.phase == AGENT_IDLE;
}

/* Of the scenario; the paths of the output are below the base. */
static struct agent_output output;
static bool with_hooks;
static int64_t confirm_ms;

static void open_agent(struct hw_loop *loop, const char *base, const char *url)
{
    struct agent_options options = {.url = url,
                                    .node = NODE,
                                    .bucket = "headwater",
                                    .state_dir = host.state_dir,
                                    .output = output,
                                    .poll_ms = 600000,
                                    .confirm_ms = confirm_ms,
                                    .heal = true};
    const struct agent_hooks hooks = {.validates = with_hooks,
                                      .applies = with_hooks,
                                      .checks = with_hooks,
                                      .call = on_call,
                                      .told = on_told,
                                      .changed = on_changed};
    struct hw_error err;
    snprintf(host.state_dir, sizeof(host.state_dir), "%s/state", base);
    if (output.file != NULL) {
        snprintf(host.file, sizeof(host.file), "%s/%s", base, output.file);
        options.output.file = host.file;
    }
    if (output.dir != NULL) {
        snprintf(host.dir, sizeof(host.dir), "%s/%s", base, output.dir);
        options.output.dir = host.dir;
    }
    host.log[0] = host.told[0] = '\0';
    if (agent_open(loop, &options, &hooks, &host.agent, &err) != HW_OK)
        test_fail("agent_open: %s", err.message);
}

/* A turn of the loop in which nothing is under way; several in a row are rest. */
static void on_pause(void *arg)
{
    struct agent_view view;
    agent_look(host.agent, &view);
    host.turns = view.phase == AGENT_IDLE ? host.turns + 1 : 0;
    host.rests = host.turns >= 5;
    if (!host.rests)
        hw_timer_start(arg, &host.pause, 0, on_pause, arg);
}

static void close_agent(void)
{
    hw_timer_stop(&host.pause);
    agent_close(host.agent);
    host.agent = NULL;
}

/* ---- what must hold -------------------------------------------------------------------------- */

/* What runs, by its bytes ("" for nothing), before a step of the scenario and after it. */
struct bracket {
    const char *old, *new;
    const char *tried; /* that may be in the output until the start puts it right */
    const char *found; /* the output before the agent came, or NULL */
};

static struct bracket bracket;
static struct hw_loop *offline;
static const char *scenario;
static int disks;
static struct {
    int step, op;
} moment; /* of the scenario, that the power went in */

static char *output_below(const char *base)
{
    return output.file != NULL  ? hw_sprintf("%s/%s", base, output.file)
           : output.dir != NULL ? hw_sprintf("%s/%s/current", base, output.dir)
                                : NULL;
}

static void complain(const struct image *image, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

static void complain(const struct image *image, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    printf("---- the disk after the power loss:\n%.*s\n---- the agent said:\n%s", (int)image->size,
           image->text, host.log);
    test_fail("%s, step %d: %s (before \"%.20s\", after \"%.20s\")", scenario, moment.step, text,
              bracket.old, bracket.new);
}

static bool same(const char *a, const char *b)
{
    return b != NULL && strcmp(a, b) == 0;
}

/* The agent has come to rest on this disk, without NATS. */
static void expect_whole(const char *base, const struct image *image, const char *before)
{
    struct agent_view view;
    HW_AUTO_FREE char *path = output_below(base);
    HW_AUTO_FREE char *after = path != NULL ? test_read_file(path) : NULL;
    HW_AUTO_FREE char *bad = hw_sprintf("%s/state/state.json.bad", base);
    HW_AUTO_FREE char *copy = NULL;
    HW_AUTO_FREE char *kept = NULL;
    HW_AUTO_JSON json_t *report = NULL;
    char hex[HW_DIGEST_HEX_MAX], digest[HW_DIGEST_STR_MAX];
    const char *runs = "";

    agent_look(host.agent, &view);
    const struct agent_document *const running = &view.state.running;
    if (access(bad, F_OK) == 0)
        complain(image, "the state was torn");
    if (running->set) {
        copy = hw_sprintf("%s/state/blob/%s", base, hw_digest_hex(&running->digest, hex));
        kept = test_read_file(copy);
        runs = kept;
        if (strlen(kept) != running->size)
            complain(image, "the copy of what runs is lost");
    }
    if (!same(runs, bracket.old) && !same(runs, bracket.new))
        complain(image, "what runs is \"%.20s\"", runs);
    if (before != NULL && !same(before, bracket.old) && !same(before, bracket.new) &&
        !same(before, bracket.tried) && !same(before, bracket.found))
        complain(image, "the output was torn: %zu bytes, \"%.20s\"", strlen(before), before);
    if (after != NULL && strcmp(after, runs) != 0 && (running->set || !same(after, bracket.found)))
        complain(image, "the output is \"%.20s\", \"%.20s\" runs", after, runs);
    if (with_hooks && before != NULL && after != NULL && strcmp(before, after) != 0 &&
        after[0] != '\0' && strcmp(host.told, after) != 0)
        complain(image, "the node was not told of what it went back to");
    if (with_hooks && before == NULL && running->set && strcmp(host.told, runs) != 0)
        complain(image, "the node was not told what runs");
    if (view.state.trial.open)
        complain(image, "it did not come to rest");
    if (view.state.previous.set) {
        free(copy);
        copy =
            hw_sprintf("%s/state/blob/%s", base, hw_digest_hex(&view.state.previous.digest, hex));
        HW_AUTO_FREE char *previous = test_read_file(copy);
        if (strlen(previous) != view.state.previous.size)
            complain(image, "the copy of what ran before is lost");
    }
    report = agent_report_build(&view.state, NODE, "boot", NULL, 0);
    if (running->set && (report == NULL || strcmp(upstream_text(report, "running", "digest"),
                                                  hw_digest_format(&running->digest, digest)) != 0))
        complain(image, "the report is of something else");
}

static char *loss_base;

/* Starts the agent on this disk, and has it come to rest. */
static void start_on(const char *base, const struct image *image)
{
    open_agent(offline, base, "nats://127.0.0.1:1");
    host.turns = 0;
    host.rests = false;
    hw_timer_start(offline, &host.pause, 0, on_pause, offline);
    if (!hw_loop_run_until(offline, &host.rests, test_patient_ms(UPSTREAM_WAIT_S * 1000)))
        complain(image, "it did not come to rest");
}

static const char *goal; /* what runs at the end of the scenario */
static int online;       /* disks that are still to be tried with NATS as well */

static void expect_goal(const struct image *image)
{
    struct agent_view view;
    struct hw_digest digest;
    hw_digest_of(goal, strlen(goal), &digest);
    open_agent(up.loop, loss_base, up.server.url);
    const double until = test_deadline(UPSTREAM_WAIT_S);
    do {
        if (test_now() > until)
            complain(image, "with NATS it does not get to \"%.20s\"", goal);
        upstream_turn(&up, 10);
        agent_look(host.agent, &view);
    } while (view.phase != AGENT_IDLE || !view.state.running.set ||
             !hw_digest_equal(&view.state.running.digest, &digest));
    close_agent();
}

static void try_disk(const struct image *image)
{
    lay(image, loss_base);
    HW_AUTO_FREE char *path = output_below(loss_base);
    HW_AUTO_FREE char *before = path != NULL ? test_read_file(path) : NULL;
    disks++;
    start_on(loss_base, image);
    expect_whole(loss_base, image, before);
    close_agent();
    if (online > 0 && draw() % 32 == 0) {
        online--;
        expect_goal(image);
    }
}

/* ---- scenarios ------------------------------------------------------------------------------- */

struct step {
    int revision;
    const char *content; /* "invalid", "refused" and "unwell" go no further than that */
    bool restart;        /* the agent, before */
    bool cut_off;        /* by it from NATS, with confirm_ms */
};

#define STEPS_MAX 12

/* More than one line, and told from any other by its beginning. */
static const char *content_of(const struct step *step)
{
    static char contents[STEPS_MAX][1500];
    char *text = contents[step->revision % STEPS_MAX];
    const int len = snprintf(text, sizeof(contents[0]), "%s ", step->content);
    memset(text + len, step->content[strlen(step->content) - 1],
           sizeof(contents[0]) - 1 - (size_t)len);
    text[sizeof(contents[0]) - 1] = '\0';
    return text;
}

static const char *stage_of(const char *content)
{
    return strncmp(content, "invalid", 7) == 0   ? "validate"
           : strncmp(content, "refused", 7) == 0 ? "apply"
           : strncmp(content, "unwell", 6) == 0  ? "health"
                                                 : NULL;
}

/* What is there before the agent comes, synced. */
static void begin_disk(struct disk *disk, const char *base, const char *found)
{
    struct choice *choice = hw_alloc(sizeof(*choice));
    HW_AUTO_FREE char *path = NULL;
    disk->dirs_count = disk->nodes_count = 0;
    new_node(disk, DIR_NODE);
    run_op(disk, &(struct op){.kind = OP_DIR, .path = "out"});
    run_op(disk, &(struct op){.kind = OP_SYNC, .path = ""});
    if (found != NULL) {
        struct op op = {.kind = OP_CREATE, .mode = 0644};
        strcpy(op.path, output.file);
        run_op(disk, &op);
        op.kind = OP_WRITE;
        op.data = (char *)(uintptr_t)found;
        op.size = strlen(found);
        run_op(disk, &op);
        op.kind = OP_SYNC;
        run_op(disk, &op);
        strcpy(op.path, "out");
        run_op(disk, &op);
    }
    whole(choice);
    struct image image = image_of(disk, choice);
    lay(&image, base);
    free(image.text);
    free(choice);
}

/* By step, what runs at its end, and what may have run meanwhile. */
static const char *outcomes[STEPS_MAX], *reached[STEPS_MAX];

static void set_bracket(const struct op *op, const struct step *steps)
{
    const char *const old = op->settled    ? outcomes[op->step]
                            : op->step > 0 ? outcomes[op->step - 1]
                                           : "";
    if (moment.step != op->step || bracket.old != old)
        tried.count = 0;
    moment.step = op->step;
    bracket.old = old;
    bracket.new = reached[op->step];
    bracket.tried = content_of(&steps[op->step]);
}

/* The process is killed, and comes again; then the power goes. */
static void lose_after_kill(const struct disk *disk)
{
    struct disk *later = hw_alloc(sizeof(*later));
    struct choice *choice = hw_alloc(sizeof(*choice));
    HW_AUTO_FREE char *base = test_temp_dir();
    memcpy(later, disk, sizeof(*later));
    whole(choice);
    struct image image = image_of(disk, choice);
    lay(&image, base);
    tape_start(base);
    start_on(base, &image);
    close_agent();
    tape.on = false;
    for (int i = 0; i < tape.count; i++) {
        run_op(later, &tape.ops[i]);
        for_each_loss(later, 1, try_disk);
    }
    free(image.text);
    free(choice);
    free(later);
}

/* What the model says the disk holds, it holds. */
static void expect_disk(const struct disk *disk, const char *base)
{
    struct choice *choice = hw_alloc(sizeof(*choice));
    HW_AUTO_FREE char *other = test_temp_dir();
    char *said = NULL;
    whole(choice);
    struct image image = image_of(disk, choice);
    lay(&image, other);
    const char *const argv[] = {"diff", "-r", "--no-dereference", base, other, NULL};
    if (test_program_run(argv, NULL, NULL, &said) != 0)
        test_fail("the disk was changed in a way that was not written down:\n%s", said);
    free(said);
    free(image.text);
    free(choice);
}

static void play(const char *name, const char *found, const struct step *steps, int count)
{
    struct disk *disk = hw_alloc(sizeof(*disk));
    HW_AUTO_FREE struct op *ops = NULL;
    HW_AUTO_FREE char *base = test_temp_dir();
    struct hw_error err;
    int running = 0;

    scenario = name;
    disks = 0;
    bracket = (struct bracket){.found = found};
    loss_base = test_temp_dir();
    ck_assert_int_eq(hw_loop_new(&offline, &err), HW_OK);
    upstream_open(&up);
    begin_disk(disk, base, found);

    tape_start(base);
    for (int i = 0; i < count; i++) {
        const struct step *step = &steps[i];
        const char *const stage = step->cut_off ? "health" : stage_of(step->content);
        const char *const old = i > 0 ? outcomes[i - 1] : "";
        tape.step = i;
        tape.settled = false;
        host.waits_for = stage == NULL ? step->revision : 0;
        host.cuts_off = step->cut_off;
        if (step->restart)
            close_agent();
        upstream_desire(&up, NODE, step->revision, content_of(step));
        confirm_ms = step->cut_off ? 1 : 0;
        if (host.agent == NULL)
            open_agent(up.loop, base, up.server.url);
        running = stage == NULL ? step->revision : running;
        outcomes[i] = stage == NULL ? content_of(step) : old;
        reached[i] = step->cut_off ? content_of(step) : outcomes[i];
        if (step->cut_off) {
            for (const double until = test_deadline(UPSTREAM_WAIT_S);
                 strstr(host.log, "the last known good runs again") == NULL;
                 upstream_turn(&up, 10)) {
                if (test_now() > until)
                    test_fail("it was not taken back:\n%s", host.log);
            }
            upstream_restart(&up);
        }
        json_decref(upstream_expect(&up, NODE,
                                    stage == NULL                    ? "applied"
                                    : strcmp(stage, "validate") == 0 ? "rejected"
                                                                     : "failed",
                                    running, stage));
    }
    close_agent();
    tape.on = false;
    host.waits_for = 0;
    confirm_ms = 600000;
    goal = outcomes[count - 1];
    online = 4;

    const int ops_count = tape.count;
    ops = hw_alloc(sizeof(tape.ops));
    memcpy(ops, tape.ops, sizeof(tape.ops));
    tape.count = 0;
    struct disk *at_end = hw_alloc(sizeof(*at_end));
    memcpy(at_end, disk, sizeof(*at_end));
    for (int i = 0; i < ops_count; i++)
        run_op(at_end, &ops[i]);
    expect_disk(at_end, base);
    free(at_end);

    for (int i = 0; i < ops_count; i++) {
        set_bracket(&ops[i], steps);
        run_op(disk, &ops[i]);
        for_each_loss(disk, 1, try_disk);
        if (every || draw() % 12 == 0)
            lose_after_kill(disk);
    }
    printf("%s: %d changes of the disk, %d disks after a power loss\n", name, ops_count, disks);
    ck_assert_int_gt(disks, ops_count / 4);
    for (int i = 0; i < ops_count; i++)
        free(ops[i].data);
    tape_start("/");
    tape.on = false;
    free(disk);
    upstream_close(&up);
    hw_loop_free(offline);
    free(loss_base);
}

static const struct step steps_with_hooks[] = {
    {.revision = 1, .content = "one"},       {.revision = 2, .content = "two"},
    {.revision = 3, .content = "refused 3"}, {.revision = 4, .content = "four", .restart = true},
    {.revision = 5, .content = "unwell 5"},  {.revision = 6, .content = "two"},
    {.revision = 7, .content = "two"},       {.revision = 8, .content = "invalid 8"},
    {.revision = 9, .content = "nine"},
};

START_TEST(test_file)
{
    output = (struct agent_output){
        .file = "out/file", .mode = 0644, .owner = (uid_t)-1, .group = (gid_t)-1};
    with_hooks = true;
    play("a file", NULL, steps_with_hooks, (int)HW_COUNT(steps_with_hooks));
}
END_TEST

START_TEST(test_found_file)
{
    static const struct step steps[] = {
        {.revision = 1, .content = "refused 1"},
        {.revision = 2, .content = "unwell 2"},
        {.revision = 3, .content = "three"},
        {.revision = 4, .content = "refused 4", .restart = true},
        {.revision = 5, .content = "five"},
    };
    output = (struct agent_output){
        .file = "out/file", .mode = 0640, .owner = (uid_t)-1, .group = (gid_t)-1};
    with_hooks = true;
    play("a file that was there", "found here\n", steps, (int)HW_COUNT(steps));
}
END_TEST

START_TEST(test_generations)
{
    static const struct step steps[] = {
        {.revision = 1, .content = "one"},
        {.revision = 2, .content = "two"},
        {.revision = 3, .content = "three", .restart = true},
        {.revision = 4, .content = "two"},
        {.revision = 5, .content = "five"},
    };
    output = (struct agent_output){
        .dir = "out", .keep = 2, .mode = 0644, .owner = (uid_t)-1, .group = (gid_t)-1};
    with_hooks = false;
    play("generations", NULL, steps, (int)HW_COUNT(steps));
}
END_TEST

START_TEST(test_no_output)
{
    output = (struct agent_output){.mode = 0644, .owner = (uid_t)-1, .group = (gid_t)-1};
    with_hooks = true;
    play("no output", NULL, steps_with_hooks, (int)HW_COUNT(steps_with_hooks));
}
END_TEST

START_TEST(test_taken_back)
{
    static const struct step steps[] = {
        {.revision = 1, .content = "one"},
        {.revision = 2, .content = "two", .restart = true, .cut_off = true},
        {.revision = 3, .content = "three", .restart = true},
    };
    output = (struct agent_output){
        .file = "out/file", .mode = 0644, .owner = (uid_t)-1, .group = (gid_t)-1};
    with_hooks = true;
    play("taken back", NULL, steps, (int)HW_COUNT(steps));
}
END_TEST

/* ---- a hold ---------------------------------------------------------------------------------- */

static bool must_hold, may_hold;

static void expect_hold(const struct image *image)
{
    HW_AUTO_FREE char *state = hw_sprintf("%s/state", loss_base);
    struct agent_hold hold;
    lay(image, loss_base);
    agent_hold_read(state, &hold);
    disks++;
    if ((must_hold && !hold.set) || (hold.set && !may_hold) ||
        (hold.set && strcmp(hold.reason, "run 4711") != 0))
        complain(image, "hold %d \"%s\"", hold.set, hold.reason);
}

/* What hold and release promised when they returned, a power loss keeps. */
START_TEST(test_hold)
{
    struct disk *disk = hw_alloc(sizeof(*disk));
    HW_AUTO_FREE char *base = test_temp_dir();
    HW_AUTO_FREE char *state = hw_sprintf("%s/state", base);
    struct hw_error err;
    int count, held;
    scenario = "a hold";
    bracket = (struct bracket){.old = "", .new = ""};
    loss_base = test_temp_dir();
    begin_disk(disk, base, NULL);
    tape_start(base);
    ck_assert_int_eq(hw_file_mkdirs(state, 0755, &err), HW_OK);
    ck_assert_int_eq(agent_hold_set(state, "run 4711", &err), HW_OK);
    held = tape.count;
    ck_assert_int_eq(agent_hold_end(state, &err), HW_OK);
    count = tape.count;
    tape.on = false;
    for (int i = 0; i < count; i++) {
        run_op(disk, &tape.ops[i]);
        must_hold = i == held - 1;
        may_hold = i < count - 1;
        tried.count = 0;
        for_each_loss(disk, 16, expect_hold);
    }
    ck_assert_int_gt(disks, count);
    tape_start("/");
    tape.on = false;
    free(loss_base);
    free(disk);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {test_file,      test_found_file, test_generations,
                                  test_no_output, test_taken_back, test_hold};
    Suite *suite = suite_create("agent power");
    const char *text = getenv("HW_SEED");

    every = getenv("HW_EVERY") != NULL;
    seed = text != NULL ? strtoull(text, NULL, 10) : (unsigned long long)getpid();
    seed += seed == 0;
    printf("%s; HW_SEED=%llu\n", every ? "every disk" : "a sample of the disks", seed);
    fflush(stdout);
    test_suite_add(suite, every ? 3600 : 240, NULL, NULL, tests, HW_COUNT(tests));
    return test_suite_finish(suite);
}
