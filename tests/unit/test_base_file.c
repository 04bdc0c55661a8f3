#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static char *dir;

static const char *in_dir(const char *name)
{
    static char path[512];
    if (dir == NULL)
        dir = test_temp_dir();
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void expect(const char *path, const void *bytes, size_t size)
{
    char *data = NULL;
    size_t len = 0;
    struct hw_error err = {0};
    ck_assert_msg(hw_file_read(path, size, &data, &len, &err) == HW_OK, "%s", err.message);
    ck_assert_uint_eq(len, size);
    ck_assert_mem_eq(data, bytes, size);
    ck_assert_int_eq(data[size], '\0');
    free(data);
}

START_TEST(test_replace_and_read)
{
    const char *path = in_dir("f");
    HW_AUTO_FREE char *big = hw_alloc(5 << 20);
    memset(big, 'x', 5 << 20);
    ck_assert_int_eq(hw_file_replace(path, "one", 3, 0644, NULL), HW_OK);
    expect(path, "one", 3);
    ck_assert_int_eq(hw_file_replace(path, big, 5 << 20, 0600, NULL), HW_OK);
    expect(path, big, 5 << 20);
    ck_assert_int_eq(hw_file_replace(path, "a\0b", 3, 0600, NULL), HW_OK);
    expect(path, "a\0b", 3);
    ck_assert_int_eq(hw_file_replace(path, "", 0, 0600, NULL), HW_OK);
    expect(path, "", 0);
}
END_TEST

START_TEST(test_mode_is_exact_whatever_the_umask)
{
    const char *path = in_dir("mode");
    struct stat st;
    umask(077);
    ck_assert_int_eq(hw_file_replace(path, "x", 1, 0664, NULL), HW_OK);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0664);
    umask(0);
    ck_assert_int_eq(hw_file_replace(path, "x", 1, 0600, NULL), HW_OK);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
}
END_TEST

/* Whoever holds the old file open goes on reading the old bytes; a new one has taken its name. */
START_TEST(test_replace_never_writes_into_the_old_file)
{
    const char *path = in_dir("old");
    char text[8] = "";
    ck_assert_int_eq(hw_file_replace(path, "old", 3, 0600, NULL), HW_OK);
    const int fd = open(path, O_RDONLY);
    ck_assert_int_eq(hw_file_replace(path, "new!", 4, 0600, NULL), HW_OK);
    ck_assert_int_eq(read(fd, text, sizeof(text)), 3);
    ck_assert_str_eq(text, "old");
    close(fd);
    expect(path, "new!", 4);
}
END_TEST

/* What a crash left behind neither harms nor stays. */
START_TEST(test_replace_takes_over_a_leftover)
{
    const char *path = in_dir("g");
    HW_AUTO_FREE char *leftover = hw_sprintf("%s.new", path);
    ck_assert_int_eq(hw_file_replace(leftover, "half of a longer file", 21, 0600, NULL), HW_OK);
    ck_assert_int_eq(hw_file_replace(path, "whole", 5, 0600, NULL), HW_OK);
    expect(path, "whole", 5);
    ck_assert_int_ne(access(leftover, F_OK), 0);
}
END_TEST

START_TEST(test_failed_replace_leaves_the_old_file)
{
    struct hw_error err = {0};
    ck_assert_int_eq(hw_file_replace(in_dir("absent/f"), "x", 1, 0600, &err), HW_ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "absent/f"));

    const char *path = in_dir("is-dir");
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_ne(hw_file_replace(path, "x", 1, 0600, &err), HW_OK);
    HW_AUTO_FREE char *temp = hw_sprintf("%s.new", path);
    ck_assert_int_ne(access(temp, F_OK), 0);

    /* A symbolic link in the place of the temporary file must not lead elsewhere. */
    HW_AUTO_FREE char *target = hw_strdup(in_dir("target"));
    HW_AUTO_FREE char *link_path = hw_strdup(in_dir("h.new"));
    path = in_dir("h");
    ck_assert_int_eq(symlink(target, link_path), 0);
    ck_assert_int_ne(hw_file_replace(path, "x", 1, 0600, &err), HW_OK);
    ck_assert_int_ne(access(target, F_OK), 0);
}
END_TEST

START_TEST(test_disk_full)
{
    struct hw_error err = {0};
    if (access("/dev/full", W_OK) != 0)
        return;
    /* The name of the temporary file leads to a device on which every write fails. */
    HW_AUTO_FREE char *path = hw_strdup(in_dir("full"));
    HW_AUTO_FREE char *temp = hw_sprintf("%s.new", path);
    ck_assert_int_eq(hw_file_replace(path, "old", 3, 0600, NULL), HW_OK);
    if (mknod(temp, S_IFCHR | 0666, (1 << 8) | 7) != 0)
        return; /* only root makes devices */
    ck_assert_int_eq(hw_file_replace(path, "new", 3, 0600, &err), HW_EIO);
    ck_assert_ptr_nonnull(strstr(err.message, strerror(ENOSPC)));
    expect(path, "old", 3);
}
END_TEST

START_TEST(test_read_refuses)
{
    char *data = NULL;
    size_t len;
    struct hw_error err = {0};
    ck_assert_int_eq(hw_file_read(in_dir("none"), 10, &data, &len, &err), HW_ENOENT);
    ck_assert_int_eq(hw_file_read(dir, 1 << 20, &data, &len, &err), HW_EINVAL);
    const char *path = in_dir("eleven");
    ck_assert_int_eq(hw_file_replace(path, "12345678901", 11, 0600, NULL), HW_OK);
    ck_assert_int_eq(hw_file_read(path, 10, &data, &len, &err), HW_ELIMIT);
    ck_assert_ptr_nonnull(strstr(err.message, "eleven"));
    ck_assert_ptr_null(data);
    expect(path, "12345678901", 11);
    path = in_dir("fifo"); /* must not wait for a writer */
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(hw_file_read(path, 10, &data, &len, &err), HW_EINVAL);
    ck_assert_ptr_null(data);
}
END_TEST

/* What a person names may be a pipe, and is bounded as files are. */
START_TEST(test_read_any)
{
    char *data = NULL, path[32];
    size_t len;
    struct hw_error err = {0};
    int ends[2];

    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pipe(ends), 0);
        ck_assert_int_eq(write(ends[1], "12345678901", 11), 11);
        close(ends[1]);
        snprintf(path, sizeof(path), "/dev/fd/%d", ends[0]);
        if (i == 0)
            ck_assert_int_eq(hw_file_read_any(path, 10, &data, &len, &err), HW_ELIMIT);
        else
            ck_assert_int_eq(hw_file_read_any(path, 11, &data, &len, &err), HW_OK);
        close(ends[0]);
    }
    ck_assert_uint_eq(len, 11);
    ck_assert_str_eq(data, "12345678901");
    free(data);
    data = NULL;
    ck_assert_int_eq(hw_file_replace(in_dir("any"), "x", 1, 0600, NULL), HW_OK);
    ck_assert_int_eq(hw_file_read_any(in_dir("any"), 1, &data, &len, &err), HW_OK);
    ck_assert_str_eq(data, "x");
    free(data);
    ck_assert_int_ne(hw_file_read_any(dir, 10, &data, &len, &err), HW_OK);
    ck_assert_int_eq(hw_file_read_any(in_dir("none"), 10, &data, &len, &err), HW_ENOENT);
}
END_TEST

START_TEST(test_mkdirs)
{
    struct stat st;
    ck_assert_int_eq(hw_file_mkdirs(in_dir("a/b/c"), 0750, NULL), HW_OK);
    ck_assert_int_eq(stat(in_dir("a/b/c"), &st), 0);
    ck_assert(S_ISDIR(st.st_mode));
    ck_assert_int_eq(hw_file_mkdirs(in_dir("a/b/c"), 0750, NULL), HW_OK);
    ck_assert_int_eq(hw_file_mkdirs(in_dir("a//d/"), 0750, NULL), HW_OK);
    ck_assert_int_eq(access(in_dir("a/d"), F_OK), 0);
    ck_assert_int_eq(hw_file_replace(in_dir("file"), "", 0, 0600, NULL), HW_OK);
    ck_assert_int_ne(hw_file_mkdirs(in_dir("file"), 0700, NULL), HW_OK);
    ck_assert_int_ne(hw_file_mkdirs(in_dir("file/below"), 0700, NULL), HW_OK);
}
END_TEST

START_TEST(test_remove)
{
    const char *path = in_dir("r");
    ck_assert_int_eq(hw_file_replace(path, "x", 1, 0600, NULL), HW_OK);
    ck_assert_int_eq(hw_file_remove(path, NULL), HW_OK);
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(hw_file_remove(path, NULL), HW_OK);
    ck_assert_int_ne(hw_file_remove(dir, NULL), HW_OK);
}
END_TEST

START_TEST(test_owner)
{
    const char *path = in_dir("owner");
    struct hw_error err = {0};
    struct stat st;
    if (geteuid() == 0) {
        ck_assert_int_eq(hw_file_replace_as(path, "x", 1, 04750, 65534, 12345, &err), HW_OK);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_uid, 65534);
        ck_assert_uint_eq(st.st_gid, 12345);
        ck_assert_uint_eq(st.st_mode & 07777, 04750);
    } else {
        ck_assert_int_eq(hw_file_replace_as(path, "x", 1, 0644, 0, (gid_t)-1, &err), HW_EDENIED);
        ck_assert_ptr_nonnull(strstr(err.message, path));
        ck_assert_int_ne(access(path, F_OK), 0);
    }
}
END_TEST

START_TEST(test_link)
{
    const char *path = in_dir("link");
    HW_AUTO_FREE char *leftover = hw_sprintf("%s.new", path);
    struct hw_error err = {0};
    char target[64];
    ck_assert_int_eq(symlink("nowhere", leftover), 0);
    ck_assert_int_eq(hw_file_link(path, "one", &err), HW_OK);
    ck_assert_int_eq(hw_file_link(path, "another", &err), HW_OK);
    ck_assert_int_eq(readlink(path, target, sizeof(target)), 7);
    ck_assert_mem_eq(target, "another", 7);
    ck_assert_int_ne(access(leftover, F_OK), 0);
    ck_assert_int_eq(hw_file_link(in_dir("not/there"), "x", &err), HW_ENOENT);
}
END_TEST

TEST_MAIN("file", 20, test_owner, test_link, test_replace_and_read,
          test_mode_is_exact_whatever_the_umask, test_replace_never_writes_into_the_old_file,
          test_replace_takes_over_a_leftover, test_failed_replace_leaves_the_old_file,
          test_disk_full, test_read_refuses, test_read_any, test_mkdirs, test_remove)
