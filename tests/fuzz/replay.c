/*
 * Drives a fuzz target with files, and with every file of the directories that it is given: each
 * alone, in a block of memory that is exactly as large.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/status.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_MAX ((size_t)16 << 20)

static int failures;
static int inputs;

static void replay_file(const char *path)
{
    HW_AUTO_FREE char *text = NULL;
    struct hw_error err;
    uint8_t *exact;
    size_t size;

    if (hw_file_read(path, INPUT_MAX, &text, &size, &err) != HW_OK) {
        fprintf(stderr, "%s\n", err.message);
        failures++;
        return;
    }
    exact = hw_alloc(size > 0 ? size : 1);
    memcpy(exact, text, size);
    fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    inputs++;
}

static void replay(const char *path)
{
    struct stat status;
    struct dirent *entry;
    DIR *dir;

    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode) || (dir = opendir(path)) == NULL) {
        replay_file(path);
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        HW_AUTO_FREE char *below = hw_sprintf("%s/%s", path, entry->d_name);

        if (entry->d_name[0] != '.')
            replay_file(below);
    }
    closedir(dir);
}

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize != NULL)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    if (inputs == 0) {
        fprintf(stderr, "usage: %s FILE|DIRECTORY...: and there must be a file\n", argv[0]);
        return EXIT_FAILURE;
    }
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
