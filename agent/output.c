#include "agent/output.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/file.h"

bool agent_output_is(const char *path, const struct agent_document *document)
{
    /* O_NONBLOCK: whatever someone has put there, a FIFO say, must not hold us up. */
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

enum hw_status agent_output_read(const char *path, struct agent_document *document, char **bytes,
                                 struct hw_error *err)
{
    size_t size;
    const enum hw_status status = hw_file_read(path, AGENT_DOCUMENT_MAX, bytes, &size, err);

    if (status != HW_OK)
        return status;
    *document = (struct agent_document){.set = true, .size = size};
    hw_digest_of(*bytes, size, &document->digest);
    return HW_OK;
}
