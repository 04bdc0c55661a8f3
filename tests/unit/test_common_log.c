#include <ctype.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "common/log.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

/* Sends stderr to a file while a test writes to the log. */
static char path[128];
static int saved;

static void capture(void)
{
    test_new_path(path, sizeof(path), "log");
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    saved = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    close(fd);
}

static char *captured(void)
{
    dup2(saved, STDERR_FILENO);
    close(saved);
    return test_read_file(path);
}

/* Takes "ts=<24 characters> " off; that they are a time is looked at here. */
static const char *behind_time(const char *line)
{
    static const char shape[] = "ts=dddd-dd-ddTdd:dd:dd.dddZ ";
    for (size_t i = 0; shape[i] != '\0'; i++)
        ck_assert_msg(shape[i] == 'd' ? isdigit((unsigned char)line[i]) : line[i] == shape[i],
                      "not a time: %.40s", line);
    return line + strlen(shape);
}

START_TEST(test_logfmt)
{
    hw_log_setup(HW_LOG_INFO, HW_LOG_LOGFMT);
    capture();
    hw_log_info("published", HW_S("node", "n1"), HW_L("lsn", 0x16B3748), HW_I("bytes", -42));
    HW_AUTO_FREE char *text = captured();
    ck_assert_str_eq(behind_time(text),
                     "level=info node=n1 lsn=0/16B3748 bytes=-42 msg=published\n");
}
END_TEST

START_TEST(test_logfmt_quotes_what_is_no_plain_word)
{
    static const char *const cases[][2] = {{"plain-word_1.2:/", "plain-word_1.2:/"},
                                           {"", "\"\""},
                                           {"two words", "\"two words\""},
                                           {"a=b", "\"a=b\""},
                                           {"say \"x\"", "\"say \\\"x\\\"\""},
                                           {"back\\slash", "\"back\\\\slash\""},
                                           {"one\ntwo", "\"one\\ntwo\""},
                                           {"\x1b[31m", "\"\\u001b[31m\""},
                                           {"caf\xC3\xA9", "\"caf\xC3\xA9\""},
                                           {"\xff", "\"\xEF\xBF\xBD\""}};
    hw_log_setup(HW_LOG_INFO, HW_LOG_LOGFMT);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_FREE char *expected =
            hw_sprintf("level=warn v=%s msg=%s\n", cases[i][1], cases[i][1]);
        capture();
        hw_log_warn(cases[i][0], HW_S("v", cases[i][0]));
        HW_AUTO_FREE char *text = captured();
        ck_assert_str_eq(behind_time(text), expected);
    }
    capture();
    hw_log_warn("m", HW_S("v", NULL));
    HW_AUTO_FREE char *text = captured();
    ck_assert_str_eq(behind_time(text), "level=warn v=\"\" msg=m\n");
}
END_TEST

START_TEST(test_json)
{
    static const char awkward[] = "a \"b\"\\\n\t\x01 caf\xC3\xA9";
    const struct hw_error err = {.status = HW_ECONFLICT, .message = "slot taken"};
    hw_log_setup(HW_LOG_INFO, HW_LOG_JSON);
    capture();
    hw_log_error(awkward, HW_S("node", awkward), HW_I("n", INT64_MIN), HW_L("lsn", UINT64_MAX),
                 HW_E(&err));
    hw_log_info("no fields");
    HW_AUTO_FREE char *text = captured();
    char *second = strchr(text, '\n');
    ck_assert_ptr_nonnull(second);
    *second++ = '\0';
    json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_ptr_nonnull(line);
    const char *ts, *level, *node, *lsn, *message, *error, *status;
    json_int_t n;
    ck_assert_int_eq(json_unpack(line, "{s:s s:s s:s s:I s:s s:s s:s s:s!}", "ts", &ts, "level",
                                 &level, "node", &node, "n", &n, "lsn", &lsn, "error", &error,
                                 "status", &status, "msg", &message),
                     0);
    ck_assert_uint_eq(strlen(ts), strlen("2026-01-31T12:00:00.123Z"));
    ck_assert_str_eq(level, "error");
    ck_assert_str_eq(node, awkward);
    ck_assert_str_eq(message, awkward);
    ck_assert_int_eq(n, INT64_MIN);
    ck_assert_str_eq(lsn, "FFFFFFFF/FFFFFFFF");
    ck_assert_str_eq(error, "slot taken");
    ck_assert_str_eq(status, "conflict");
    json_decref(line);
    line = json_loads(second, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_ptr_nonnull(line);
    ck_assert_uint_eq(json_object_size(line), 3);
    json_decref(line);
}
END_TEST

static int evaluated(void)
{
    static int times;
    return ++times;
}

START_TEST(test_levels)
{
    hw_log_setup(HW_LOG_WARN, HW_LOG_LOGFMT);
    capture();
    hw_log_error("e");
    hw_log_warn("w");
    hw_log_info("i", HW_I("n", evaluated()));
    hw_log_debug("d");
    HW_AUTO_FREE char *text = captured();
    ck_assert_ptr_nonnull(strstr(text, "level=error msg=e\n"));
    ck_assert_ptr_nonnull(strstr(text, "level=warn msg=w\n"));
    ck_assert_ptr_null(strstr(text, "msg=i"));
    ck_assert_ptr_null(strstr(text, "msg=d"));
    ck_assert_int_eq(evaluated(), 1); /* what is not logged is not worked out */
}
END_TEST

enum { THREADS = 4, LINES = 500, ALL_LINES = THREADS * LINES };

static void *write_lines(void *arg)
{
    for (int i = 0; i < LINES; i++)
        hw_log_info("line", HW_S("thread", arg), HW_I("i", i));
    return NULL;
}

START_TEST(test_lines_of_threads_stay_whole)
{
    static char names[THREADS][2] = {"a", "b", "c", "d"};
    pthread_t threads[THREADS];
    hw_log_setup(HW_LOG_INFO, HW_LOG_JSON);
    capture();
    for (int t = 0; t < THREADS; t++)
        ck_assert_int_eq(pthread_create(&threads[t], NULL, write_lines, names[t]), 0);
    for (int t = 0; t < THREADS; t++)
        ck_assert_int_eq(pthread_join(threads[t], NULL), 0);
    HW_AUTO_FREE char *text = captured();
    int next[THREADS] = {0}, lines = 0;
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL && *line != '\0'; lines++) {
        json_t *object = json_loads(line, 0, NULL);
        const char *thread;
        json_int_t i;
        ck_assert_msg(object != NULL, "torn: %s", line);
        ck_assert_int_eq(json_unpack(object, "{s:s s:I}", "thread", &thread, "i", &i), 0);
        ck_assert_int_eq(i, next[thread[0] - 'a']++);
        json_decref(object);
    }
    ck_assert_int_eq(lines, ALL_LINES);
}
END_TEST

TEST_MAIN("log", 20, test_logfmt, test_logfmt_quotes_what_is_no_plain_word, test_json, test_levels,
          test_lines_of_threads_stay_whole)
