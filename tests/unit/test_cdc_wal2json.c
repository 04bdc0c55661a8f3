#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "cdc/assembler.h"
#include "cdc/wal2json.h"
#include "tests/support/suite.h"

#define TIME  "\"timestamp\":\"2026-01-31 12:00:00.5+00\""
#define BEGIN "{\"action\":\"B\",\"xid\":7," TIME ",\"lsn\":\"0/100\",\"nextlsn\":\"0/130\"}"
#define END   "{\"action\":\"C\",\"xid\":7," TIME ",\"lsn\":\"0/100\",\"nextlsn\":\"0/130\"}"
#define ROW(action, rest)                                                                          \
    "{\"action\":\"" action "\",\"xid\":7," TIME                                                   \
    ",\"lsn\":\"0/F0\",\"schema\":\"s\",\"table\":\"t\"" rest "}"
#define COLUMN(value) ROW("I", ",\"columns\":[{\"name\":\"a\",\"value\":" value "}]")
#define TEN_DEEP      "[[[[[[[[[["
#define NESTED        TEN_DEEP TEN_DEEP TEN_DEEP TEN_DEEP
#define MESSAGE                                                                                    \
    "{\"action\":\"M\",\"xid\":7," TIME ",\"lsn\":\"0/F0\",\"transactional\":true,"                \
    "\"prefix\":\"headwater\",\"content\":\"resync\"}"
#define LOOSE_MESSAGE                                                                              \
    "{\"action\":\"M\",\"xid\":null,\"timestamp\":null,\"lsn\":\"0/F0\",\"transactional\":false,"  \
    "\"prefix\":\"headwater\",\"content\":\"x\"}"

/* Its pointers hold until the next one. */
static const struct cdc_record *decode(const char *text)
{
    static struct cdc_record record;
    static char *copy;
    struct hw_error err;
    cdc_record_free(&record);
    free(copy);
    copy = hw_strdup(text);
    if (cdc_record_decode(copy, strlen(copy), 0x130, &record, &err) != HW_OK)
        ck_abort_msg("%s: %s", text, err.message);
    return &record;
}

static void check_row(const struct cdc_row *row, const char *expected)
{
    HW_AUTO_JSON json_t *object = cdc_row_json(row);
    HW_AUTO_FREE char *text = hw_json_dump(object);
    ck_assert_str_eq(text, expected);
}

START_TEST(test_boundaries)
{
    const struct cdc_record *r = decode(BEGIN);
    ck_assert_int_eq(r->action, 'B');
    ck_assert_uint_eq(r->xid, 7);
    ck_assert_uint_eq(r->lsn, 0x100);
    ck_assert_uint_eq(r->next_lsn, 0x130);
    ck_assert_str_eq(r->committed_at, "2026-01-31T12:00:00.500000Z");

    r = decode("{\"action\":\"C\",\"xid\":4294967295,\"timestamp\":\"2026-01-31 12:00:00+00\","
               "\"lsn\":\"FFFFFFFF/100\",\"nextlsn\":\"FFFFFFFF/130\"}");
    ck_assert_int_eq(r->action, 'C');
    ck_assert_uint_eq(r->xid, UINT32_MAX);
    ck_assert_uint_eq(r->next_lsn, 0xFFFFFFFF00000130);
    ck_assert_str_eq(r->committed_at, "2026-01-31T12:00:00.000000Z");
}
END_TEST

START_TEST(test_rows)
{
    const struct cdc_record *r = decode(ROW("U", ",\"columns\":[{\"name\":\"b\",\"value\":\"x\"},"
                                                 "{\"name\":\"a\",\"value\":2}],"
                                                 "\"identity\":[{\"name\":\"a\",\"value\":1}]"));
    ck_assert_int_eq(r->change.action, CDC_UPDATE);
    ck_assert_str_eq(r->change.schema, "s");
    ck_assert_str_eq(r->change.table, "t");
    check_row(r->change.columns, "{\"b\":\"x\",\"a\":2}");
    check_row(r->change.identity, "{\"a\":1}");
    ck_assert_ptr_null(r->change.prefix);

    r = decode(ROW("I", ",\"columns\":[]"));
    ck_assert_int_eq(r->change.action, CDC_INSERT);
    check_row(r->change.columns, "{}");
    ck_assert_ptr_null(r->change.identity);

    r = decode(ROW("D", ",\"identity\":[{\"name\":\"a\",\"value\":null}]"));
    ck_assert_int_eq(r->change.action, CDC_DELETE);
    ck_assert_ptr_null(r->change.columns);
    check_row(r->change.identity, "{\"a\":null}");

    r = decode(ROW("T", ",\"other\":{\"a\":[1,-2.5,\"x\",null,{}],\"b\":[]} , \"more\": true"));
    ck_assert_int_eq(r->change.action, CDC_TRUNCATE);
    ck_assert_str_eq(r->change.table, "t");
    ck_assert_ptr_null(r->change.columns);
}
END_TEST

START_TEST(test_messages)
{
    const struct cdc_record *r = decode(MESSAGE);
    ck_assert_int_eq(r->change.action, CDC_MESSAGE);
    ck_assert_uint_eq(r->xid, 7);
    ck_assert_str_eq(r->change.prefix, "headwater");
    ck_assert_uint_eq(r->change.content_len, 6);
    ck_assert_mem_eq(r->change.content, "resync", 6);
    ck_assert_ptr_null(r->change.schema);

    r = decode(LOOSE_MESSAGE);
    ck_assert_uint_eq(r->xid, 0);
}
END_TEST

/* What the server prints, and what a consumer gets to see. */
START_TEST(test_values_keep_every_digit)
{
    static const struct {
        const char *printed, *seen;
    } values[] = {
        {"0", "0"},
        {"-1", "-1"},
        {"9007199254740993", "9007199254740993"}, /* 2^53 + 1: a double would round it */
        {"9223372036854775807", "9223372036854775807"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"9223372036854775808", "\"9223372036854775808\""},
        {"-9223372036854775809", "\"-9223372036854775809\""},
        {"12345678901234567890.123456789", "\"12345678901234567890.123456789\""},
        {"1.10", "\"1.10\""},
        {"0.1", "\"0.1\""},
        {"1.1e+300", "\"1.1e+300\""},
        {"-1E-10", "\"-1E-10\""},
        {"1e999", "\"1e999\""},
        {"null", "null"},
        {"true", "true"},
        {"false", "false"},
        {"\"1.5\"", "\"1.5\""},
        {"\"a\\\"1.5,-2e9\"", "\"a\\\"1.5,-2e9\""},
        {"\"\\\\\"", "\"\\\\\""},
        {"\"h\xc3\xa9 \xf0\x9f\x98\x80\"", "\"h\xc3\xa9 \xf0\x9f\x98\x80\""},
        {"\"\\n\\t\\u0001\"", "\"\\n\\t\\u0001\""},
    };
    for (size_t i = 0; i < HW_COUNT(values); i++) {
        HW_AUTO_FREE char *line = hw_sprintf(COLUMN("%s"), values[i].printed);
        HW_AUTO_FREE char *row = hw_sprintf("{\"a\":%s}", values[i].seen);
        const struct cdc_record *r = decode(line);
        check_row(r->change.columns, row);
    }
}
END_TEST

START_TEST(test_malformed)
{
    static const struct {
        const char *line, *complaint;
    } lines[] = {
        {"", "the end where an object"},
        {" ", "the end where an object"},
        {"null", ""},
        {"[]", "an object belongs"},
        {"\"B\"", ""},
        {"{}", "\"action\" is missing"},
        {"{\"action\":7}", "\"action\" is an integer where a string"},
        {"{\"action\":\"\",\"lsn\":\"0/1\"}", "action \"\" is unknown"},
        {"{\"action\":\"Q\",\"lsn\":\"0/1\"}", "action \"Q\" is unknown"},
        {"{\"action\":\"BC\",\"lsn\":\"0/1\"}", "action \"BC\" is unknown"},
        {"{\"action\":\"B\"}", "\"lsn\" is missing"},
        {"{\"action\":\"B\",\"lsn\":\"0/1\"}", "\"xid\" is missing"},
        {"{\"action\":\"B\",\"lsn\":\"0/1\",\"xid\":\"7\"}", "\"xid\" is a string"},
        {"{\"action\":\"B\",\"lsn\":\"0/1\",\"xid\":null}", "\"xid\" is null"},
        {"{\"action\":\"B\",\"lsn\":\"0/1\",\"xid\":0}", "\"xid\" is out of range"},
        {"{\"action\":\"B\",\"lsn\":\"0/1\",\"xid\":4294967296}", "\"xid\" is out of range"},
        {"{\"action\":\"B\",\"lsn\":\"0/1\",\"xid\":7}", "\"nextlsn\" is missing"},
        {"{\"action\":\"B\",\"lsn\":\"1\",\"xid\":7}", "\"lsn\" is no LSN"},
        {"{\"action\":\"B\",\"lsn\":\"0/1\",\"nextlsn\":\"0/xyz\",\"xid\":7}",
         "\"nextlsn\" is no LSN"},
        {"{\"action\":\"B\",\"lsn\":\"0/1\",\"nextlsn\":\"0/2\",\"xid\":7}",
         "\"timestamp\" is missing"},
        {"{\"action\":\"B\",\"lsn\":\"0/1\",\"nextlsn\":\"0/2\",\"xid\":7,"
         "\"timestamp\":\"2026-01-31 12:00:00+02\"}",
         "not in ISO form and UTC"},
        {"{\"action\":\"B\",\"lsn\":\"0/1\",\"nextlsn\":\"0/2\",\"xid\":7,"
         "\"timestamp\":\"2026-01-31 12:00:00.1234567+00\"}",
         "not in ISO form and UTC"},
        {"{\"action\":\"B\",\"lsn\":\"0/1\",\"nextlsn\":\"0/2\",\"xid\":7,"
         "\"timestamp\":\"31/01/2026 12:00:00\"}",
         "not in ISO form and UTC"},
        {"{\"action\":\"B\",\"lsn\":\"0/1\",\"nextlsn\":\"0/2\",\"xid\":7,\"timestamp\":\"\"}",
         "not in ISO form and UTC"},
        {BEGIN BEGIN, "behind the record"},
        {"{\"action\":\"B\",\"action\":\"B\"}", "\"action\" appears twice"},
        {"{\"action\":\"I\",\"xid\":7,\"lsn\":\"0/1\",\"table\":\"t\",\"columns\":[]}",
         "\"schema\" is missing"},
        {"{\"action\":\"I\",\"xid\":7,\"lsn\":\"0/1\",\"schema\":\"s\",\"columns\":[]}",
         "\"table\" is missing"},
        {"{\"action\":\"I\",\"xid\":7,\"lsn\":\"0/1\",\"schema\":\"s\",\"table\":1.5e3}",
         "\"table\" is a number where a string belongs"},
        {"{\"action\":\"I\",\"xid\":7,\"lsn\":\"0/1\",\"schema\":null,\"table\":\"t\"}",
         "\"schema\" is null"},
        {ROW("I", ""), "\"columns\" is missing"},
        {ROW("I", ",\"columns\":{}"), "\"columns\" is an object where an array"},
        {ROW("I", ",\"columns\":[1]"), "\"columns\" holds an integer"},
        {ROW("I", ",\"columns\":[{\"value\":1}]"), "\"name\" is missing"},
        {ROW("I", ",\"columns\":[{\"name\":1,\"value\":1}]"), "\"name\" is an integer"},
        {ROW("I", ",\"columns\":[{\"name\":\"a\"}]"), "column \"a\" in \"columns\" has no value"},
        {ROW("I", ",\"columns\":[{\"name\":\"a\",\"value\":1},{\"name\":\"a\",\"value\":1}]"),
         "column \"a\" appears twice"},
        {ROW("U", ",\"identity\":[]"), "\"columns\" is missing"},
        {ROW("U", ",\"columns\":[],\"identity\":7"), "\"identity\" is an integer"},
        {ROW("D", ""), "\"identity\" is missing"},
        {COLUMN("{\"b\":1}"), "column \"a\" in \"columns\" is an object"},
        {COLUMN("[1]"), "column \"a\" in \"columns\" is an array"},
        {COLUMN("1.2.3"), ""},
        {COLUMN("1."), ""},
        {COLUMN("-"), ""},
        {COLUMN("01"), ""},
        {COLUMN("1e"), ""},
        {COLUMN("NaN"), ""},
        {COLUMN("\"\xff\""), "not UTF-8"},
        {COLUMN("\"\\u0000\""), ""},
        {COLUMN("\"\\ud800\""), "invalid escape"},
        {COLUMN("\"\\q\""), "invalid escape"},
        {BEGIN "\xff", "behind the record"},
        {"{\"action\":\"B\" \"xid\":7}", "a comma or }"},
        {"{\"action\" \"B\"}", "a colon"},
        {"{action:\"B\"}", "a string"},
        {"{\"other\":" NESTED "}", "values within values"},
        {COLUMN("\"\n\""), ""},
        {"{\"action\":\"M\",\"xid\":7,\"lsn\":\"0/1\",\"prefix\":\"p\",\"content\":\"\"}",
         "\"transactional\" is missing"},
        {"{\"action\":\"M\",\"xid\":null,\"lsn\":\"0/1\",\"transactional\":true,\"prefix\":\"p\","
         "\"content\":\"\"}",
         "\"xid\" is null"},
        {"{\"action\":\"M\",\"xid\":7,\"lsn\":\"0/1\",\"transactional\":true,\"content\":\"\"}",
         "\"prefix\" is missing"},
        {"{\"action\":\"M\",\"xid\":7,\"lsn\":\"0/1\",\"transactional\":true,\"prefix\":\"p\"}",
         "\"content\" is missing"},
    };
    for (size_t i = 0; i < HW_COUNT(lines); i++) {
        struct cdc_record record = {.action = 'x'};
        struct hw_error err = {0};
        HW_AUTO_FREE char *line = hw_strdup(lines[i].line);
        const enum hw_status st = cdc_record_decode(line, strlen(line), 0x130, &record, &err);
        ck_assert_msg(st == HW_EPROTO, "accepted: %s", lines[i].line);
        ck_assert_msg(strstr(err.message, lines[i].complaint) != NULL, "%s: %s", lines[i].line,
                      err.message);
        ck_assert_msg(strstr(err.message, "0/130") != NULL, "no position: %s", err.message);
        ck_assert_int_eq(record.action, 'x');
    }
}
END_TEST

/* Each beginning of a record, and each with one byte gone or changed: refused or decoded, never
 * anything else. The beginnings are all refused. */
START_TEST(test_truncated_and_garbled)
{
    static const char *const lines[] = {
        BEGIN,
        MESSAGE,
        LOOSE_MESSAGE,
        COLUMN("-12.5e3"),
        ROW("U", ",\"columns\":[{\"name\":\"a\",\"value\":\"x\\\"y\"}],"
                 "\"identity\":[{\"name\":\"a\",\"value\":12345678901234567890}]"),
    };
    for (size_t i = 0; i < HW_COUNT(lines); i++) {
        const size_t len = strlen(lines[i]);
        struct cdc_record record;
        struct hw_error err;
        for (size_t n = 0; n < len; n++) {
            HW_AUTO_FREE char *part = hw_strndup(lines[i], n);
            ck_assert_int_eq(cdc_record_decode(part, n, 0x130, &record, &err), HW_EPROTO);

            HW_AUTO_FREE char *whole = hw_strdup(lines[i]);
            memmove(whole + n, whole + n + 1, len - n);
            if (cdc_record_decode(whole, len - 1, 0x130, &record, &err) == HW_OK)
                cdc_record_free(&record);
        }
        for (size_t n = 0; n < len * 256; n++) {
            HW_AUTO_FREE char *whole = hw_strdup(lines[i]);
            whole[n / 256] = (char)(n % 256);
            if (cdc_record_decode(whole, len, 0x130, &record, &err) == HW_OK)
                cdc_record_free(&record);
        }
    }
}
END_TEST

START_TEST(test_error_shows_an_excerpt_only)
{
    HW_AUTO_FREE char *secret = hw_alloc(100001);
    memset(secret, 's', 100000);
    HW_AUTO_FREE char *line = hw_sprintf(COLUMN("\"%s\""), secret);
    struct cdc_record record;
    struct hw_error err;
    line[strlen(line) - 1] = ']';
    ck_assert_int_eq(cdc_record_decode(line, strlen(line), 0x130, &record, &err), HW_EPROTO);
    size_t longest = 0;
    for (const char *p = err.message; (p = strchr(p, 's')) != NULL;) {
        const size_t run = strspn(p, "s");
        longest = run > longest ? run : longest;
        p += run;
    }
    ck_assert_uint_gt(longest, 4);
    ck_assert_uint_le(longest, 64);
}
END_TEST

/* ---- transactions ---- */

struct seen {
    int begins, changes, commits;
    hw_lsn last;
    enum hw_status answer;
};

static enum hw_status answer(const struct seen *s, struct hw_error *err)
{
    return s->answer == HW_OK ? HW_OK : hw_fail(err, s->answer, "refused");
}

static enum hw_status on_begin(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    struct seen *s = arg;
    ck_assert_uint_eq(tx->lsn, 0x130);
    s->begins++;
    return answer(s, err);
}

static enum hw_status on_change(void *arg, const struct cdc_transaction *tx,
                                const struct cdc_change *change, struct hw_error *err)
{
    struct seen *s = arg;
    ck_assert_uint_eq(tx->xid, 7);
    ck_assert_ptr_nonnull(cdc_action_name(change->action));
    s->changes++;
    return answer(s, err);
}

static enum hw_status on_commit(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    struct seen *s = arg;
    s->commits++;
    s->last = tx->lsn;
    return answer(s, err);
}

static struct cdc_assembler assembler(struct seen *seen, hw_lsn start)
{
    *seen = (struct seen){0};
    return (struct cdc_assembler){
        .start = start,
        .handler = {.begin = on_begin, .change = on_change, .commit = on_commit, .arg = seen},
    };
}

static enum hw_status take(struct cdc_assembler *a, const char *line, struct hw_error *err)
{
    HW_AUTO_FREE char *copy = hw_strdup(line);
    return cdc_assembler_take(a, 0x130, copy, strlen(copy), err);
}

static void accept(struct cdc_assembler *a, const char *line)
{
    struct hw_error err;
    if (take(a, line, &err) != HW_OK)
        ck_abort_msg("%s", err.message);
}

static void refuse(struct cdc_assembler *a, const char *line, const char *complaint)
{
    struct hw_error err;
    ck_assert_int_eq(take(a, line, &err), HW_EPROTO);
    ck_assert_msg(strstr(err.message, complaint) != NULL, "%s", err.message);
}

START_TEST(test_a_transaction)
{
    struct seen seen;
    struct cdc_assembler a = assembler(&seen, 0x12f);
    accept(&a, LOOSE_MESSAGE);
    accept(&a, BEGIN);
    ck_assert_int_eq(seen.begins, 1);
    ck_assert_uint_eq(a.received, HW_LSN_NONE);
    accept(&a, COLUMN("1"));
    accept(&a, LOOSE_MESSAGE);
    accept(&a, MESSAGE);
    ck_assert_int_eq(seen.changes, 2);
    ck_assert(a.open);
    accept(&a, END);
    ck_assert(!a.open);
    ck_assert_int_eq(seen.commits, 1);
    ck_assert_uint_eq(seen.last, 0x130);
    ck_assert_uint_eq(a.received, 0x130);
    /* The same once more does not lie behind it. */
    refuse(&a, BEGIN, "not behind the one before it");
}
END_TEST

START_TEST(test_passes_over_what_is_stored)
{
    struct seen seen;
    struct cdc_assembler a = assembler(&seen, 0x130);
    accept(&a, BEGIN);
    accept(&a, COLUMN("1"));
    accept(&a, END);
    ck_assert_int_eq(seen.begins + seen.changes + seen.commits, 0);
    ck_assert_uint_eq(a.received, 0x130);
    /* It is checked all the same. */
    refuse(&a, END, "has no begin");
}
END_TEST

START_TEST(test_grammar)
{
    struct seen seen;
    struct cdc_assembler a = assembler(&seen, HW_LSN_NONE);
    refuse(&a, END, "C of transaction 7 at 0/130 has no begin");
    refuse(&a, COLUMN("1"), "has no begin");
    refuse(&a, MESSAGE, "has no begin");
    ck_assert_int_eq(seen.changes + seen.commits, 0);

    accept(&a, BEGIN);
    refuse(&a, BEGIN, "begins before 7 has ended");
    refuse(&a, "{\"action\":\"T\",\"xid\":8,\"lsn\":\"0/F0\",\"schema\":\"s\",\"table\":\"t\"}",
           "transaction 8 at 0/130 came within transaction 7");
    refuse(&a, "{\"action\":\"C\",\"xid\":8," TIME ",\"lsn\":\"0/100\",\"nextlsn\":\"0/130\"}",
           "within transaction 7");
    refuse(&a, "{\"action\":\"C\",\"xid\":7," TIME ",\"lsn\":\"0/100\",\"nextlsn\":\"0/131\"}",
           "was to end at 0/130, but its commit says 0/131");
    refuse(&a, ROW("I", ""), "in transaction 7 that ends at 0/130: wal2json record at 0/130");
    struct hw_error err;
    char end[] = END;
    ck_assert_int_eq(cdc_assembler_take(&a, 0x129, end, strlen(end), &err), HW_EPROTO);
    ck_assert_int_eq(seen.commits, 0);
    ck_assert_uint_eq(a.received, HW_LSN_NONE);
}
END_TEST

START_TEST(test_consumers_refusal_is_passed_on)
{
    struct seen seen;
    struct cdc_assembler a = assembler(&seen, HW_LSN_NONE);
    struct hw_error err;
    seen.answer = HW_ELIMIT;
    ck_assert_int_eq(take(&a, BEGIN, &err), HW_ELIMIT);
    ck_assert_int_eq(take(&a, COLUMN("1"), &err), HW_ELIMIT);
    ck_assert_int_eq(take(&a, END, &err), HW_ELIMIT);
    ck_assert_str_eq(err.message, "refused");
}
END_TEST

TEST_MAIN("wal2json", 30, test_boundaries, test_rows, test_messages, test_values_keep_every_digit,
          test_malformed, test_truncated_and_garbled, test_error_shows_an_excerpt_only,
          test_a_transaction, test_passes_over_what_is_stored, test_grammar,
          test_consumers_refusal_is_passed_on)
