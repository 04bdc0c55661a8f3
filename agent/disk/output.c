#include "agent/disk/output.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

#define LINK            "current"
#define NAME_MAX_LEN    48 /* of a generation */
#define GENERATIONS_MAX 4096

char *agent_output_path(const struct agent_output *output)
{
    if (output->file != NULL)
        return hw_strdup(output->file);
    return output->dir != NULL ? hw_sprintf("%s/" LINK, output->dir) : NULL;
}

/* The bytes are compared by their digest, and a file that is longer than the document is not
 * read to its end. */
static bool file_is(const char *path, const struct agent_document *document)
{
    /* Someone may have put a FIFO there; without O_NONBLOCK the open would wait for a writer. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct hw_digester *digester;
    struct hw_digest digest;
    char bytes[16384];
    size_t size = 0;
    ssize_t n;

    if (fd < 0)
        return false;
    digester = hw_digester_new();
    while (size <= document->size && (n = read(fd, bytes, sizeof(bytes))) > 0) {
        hw_digester_add(digester, bytes, (size_t)n);
        size += (size_t)n;
    }
    close(fd);
    hw_digester_finish(digester, &digest);
    hw_digester_free(digester);
    return size == document->size && hw_digest_equal(&digest, &document->digest);
}

bool agent_output_is(const struct agent_output *output, const struct agent_document *document)
{
    HW_AUTO_FREE char *path = agent_output_path(output);

    return path == NULL || file_is(path, document);
}

enum hw_status agent_output_read(const struct agent_output *output, struct agent_document *document,
                                 char **bytes, struct hw_error *err)
{
    HW_AUTO_FREE char *path = agent_output_path(output);
    enum hw_status status;
    size_t size;

    if (path == NULL)
        return hw_fail(err, HW_ENOENT, "there is no output");
    status = hw_file_read(path, AGENT_DOCUMENT_MAX, bytes, &size, err);
    if (status != HW_OK)
        return status;
    *document = (struct agent_document){.set = true, .size = size};
    hw_digest_of(*bytes, size, &document->digest);
    return HW_OK;
}

/* ---- generations ---- */

static void name_generation(const struct agent_document *document, char out[static NAME_MAX_LEN])
{
    char hex[HW_DIGEST_HEX_MAX];

    snprintf(out, NAME_MAX_LEN, "r%lld-%.12s", (long long)document->revision,
             hw_digest_hex(&document->digest, hex));
}

/* r<digits>-<12 hexadecimal digits>. Other names in the directory are not ours to remove. */
static bool is_generation(const char *name)
{
    const size_t digits = *name == 'r' ? strspn(name + 1, "0123456789") : 0;

    return digits > 0 && name[1 + digits] == '-' &&
           strspn(name + 2 + digits, "0123456789abcdef") == 12 && name[14 + digits] == '\0';
}

const char *agent_output_oddity(const struct agent_output *output)
{
    HW_AUTO_FREE char *path = agent_output_path(output);
    char target[NAME_MAX_LEN];
    struct stat st;
    ssize_t len;

    if (path == NULL || lstat(path, &st) != 0)
        return NULL;
    if (output->file != NULL)
        return !S_ISLNK(st.st_mode)
                   ? NULL
                   : "the output is a symbolic link: the first change puts a file in its place, "
                     "and "
                     "what it points to stays as it is; name that file as the output";
    len = readlink(path, target, sizeof(target) - 1);
    target[len > 0 ? len : 0] = '\0';
    return is_generation(target)
               ? NULL
               : "\"current\" in the output directory is not a link to a generation, so someone "
                 "else made it: the first change puts the agent's link in its place";
}

/* A generation is written first, and then the link is replaced. Whoever follows "current" in
 * between reads the old generation, whole. */
enum hw_status agent_output_put(const struct agent_output *output,
                                const struct agent_document *document, const void *data,
                                struct hw_error *err)
{
    HW_AUTO_FREE char *path = agent_output_path(output);
    HW_AUTO_FREE char *generation = NULL;
    char name[NAME_MAX_LEN];
    enum hw_status status = HW_OK;

    if (path == NULL)
        return HW_OK;
    if (output->file != NULL)
        return hw_file_replace_as(path, data, document->size, output->mode, output->owner,
                                  output->group, err);
    name_generation(document, name);
    generation = hw_sprintf("%s/%s", output->dir, name);
    if (!file_is(generation, document))
        status = hw_file_replace_as(generation, data, document->size, output->mode, output->owner,
                                    output->group, err);
    return status == HW_OK ? hw_file_link(path, name, err) : status;
}

enum hw_status agent_output_sync(const struct agent_output *output, struct hw_error *err)
{
    HW_AUTO_FREE char *path = agent_output_path(output);
    HW_AUTO_FREE char *dir = path != NULL ? hw_file_parent(path) : NULL;
    enum hw_status status;

    if (path == NULL)
        return HW_OK;
    status = hw_file_sync_dir(dir, err);
    return status == HW_ENOENT ? HW_OK : status;
}

enum hw_status agent_output_remove(const struct agent_output *output, struct hw_error *err)
{
    HW_AUTO_FREE char *path = agent_output_path(output);

    return path == NULL ? HW_OK : hw_file_remove(path, err);
}

struct generation {
    char name[NAME_MAX_LEN];
    long long revision;
};

/* By revision and not by time, because the clock may have jumped in between. */
static int newest_first(const void *a, const void *b)
{
    const struct generation *x = a, *y = b;

    return (x->revision < y->revision) - (x->revision > y->revision);
}

/* The current generation is left out of the list, so keep - 1 others may stay. */
void agent_output_sweep(const struct agent_output *output)
{
    HW_AUTO_FREE struct generation *all = NULL;
    char current[PATH_MAX];
    struct dirent *entry;
    size_t count = 0;
    ssize_t len;
    DIR *dir = output->dir != NULL ? opendir(output->dir) : NULL;

    if (dir == NULL)
        return;
    all = hw_alloc(GENERATIONS_MAX * sizeof(*all));
    len = readlinkat(dirfd(dir), LINK, current, sizeof(current) - 1);
    current[len > 0 ? len : 0] = '\0';
    while (count < GENERATIONS_MAX && (entry = readdir(dir)) != NULL) {
        if (!is_generation(entry->d_name) || strcmp(entry->d_name, current) == 0 ||
            strlen(entry->d_name) >= NAME_MAX_LEN)
            continue;
        memcpy(all[count].name, entry->d_name, strlen(entry->d_name) + 1);
        all[count++].revision = strtoll(entry->d_name + 1, NULL, 10);
    }
    qsort(all, count, sizeof(*all), newest_first);
    /* A file that cannot be removed now is removed at the next sweep. */
    for (size_t i = output->keep > 0 ? output->keep - 1 : 0; i < count; i++)
        (void)unlinkat(dirfd(dir), all[i].name, 0);
    closedir(dir);
}
