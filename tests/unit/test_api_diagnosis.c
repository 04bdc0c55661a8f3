/* What /v1/system finds wrong, in which order, and that every problem says what to do. */
#include <string.h>

#include "api/diagnosis.h"
#include "base/buf.h"
#include "base/json.h"
#include "tests/support/suite.h"

/* The codes of the problems, a blank between two. */
static void check_codes(const char *document, const char *expected)
{
    json_error_t error;
    HW_AUTO_JSON json_t *system = json_loads(document, 0, &error);
    struct hw_buf codes = {0};
    const json_t *problem;
    size_t i;

    ck_assert_msg(system != NULL, "%s: %s", document, error.text);
    HW_AUTO_JSON json_t *problems = api_diagnosis(system);
    json_array_foreach(problems, i, problem) {
        const char *code, *part, *severity, *what, *how;

        ck_assert_int_eq(json_unpack((json_t *)(uintptr_t)problem, "{s:s, s:s, s:s, s:s, s:s!}",
                                     "code", &code, "part", &part, "severity", &severity, "what",
                                     &what, "do", &how),
                         0);
        ck_assert_str_ne(what, "");
        ck_assert_str_ne(how, "");
        ck_assert(strcmp(severity, "error") == 0 || strcmp(severity, "warning") == 0);
        hw_buf_printf(&codes, "%s%s", i > 0 ? " " : "", code);
    }
    ck_assert_msg(strcmp(hw_buf_str(&codes), expected) == 0, "%s\nexpected %s, got %s", document,
                  expected, hw_buf_str(&codes));
    hw_buf_free(&codes);
}

/* Without the right to see it, without --nats, without a schema: no reason for alarm. */
START_TEST(test_unknown_is_no_problem)
{
    check_codes("{}", "");
    check_codes("{\"database\":{\"reachable\":true,\"in_recovery\":null,\"wal_level\":null,"
                "\"schema\":{\"wanted\":20,\"actual\":null}},"
                "\"replication\":{\"slot\":{\"exists\":null,\"active\":null,\"wal_status\":null,"
                "\"lag_bytes\":null,\"of_this_database\":null,\"safe_wal_bytes\":null,"
                "\"holder\":null},\"archive\":{\"exists\":null,\"ahead\":null}},"
                "\"reconcilers\":{\"connected\":null},"
                "\"leader\":{\"leads\":null,\"answer\":\"unknown\",\"said\":null},"
                "\"nats\":{\"connected\":null,\"jetstream\":null,\"streams\":null},"
                "\"fleet\":null}",
                "");
    /* Somebody leads, and what only NATS knows is not known. */
    check_codes("{\"leader\":{\"leads\":true,\"answer\":\"unknown\",\"said\":null},"
                "\"replication\":{\"archive\":{\"exists\":false}}}",
                "");
}
END_TEST

START_TEST(test_each_problem)
{
    static const struct {
        const char *document, *codes;
    } cases[] = {
        {"{\"database\":{\"reachable\":false,\"error\":\"refused\"}}", "database_unreachable"},
        {"{\"database\":{\"in_recovery\":true}}", "database_in_recovery"},
        {"{\"database\":{\"schema\":{\"wanted\":20,\"actual\":0}}}", "schema_old"},
        {"{\"database\":{\"schema\":{\"wanted\":20,\"actual\":21}}}", "schema_new"},
        {"{\"database\":{\"wal_level\":\"replica\"}}", "wal_level"},
        {"{\"nats\":{\"connected\":false}}", "nats_unreachable"},
        {"{\"nats\":{\"connected\":true,\"jetstream\":false}}", "jetstream_off"},
        {"{\"nats\":{\"streams\":[{\"name\":\"KV_a\",\"exists\":false},{\"name\":\"OBJ_a\","
         "\"exists\":false},{\"name\":\"KV_b\",\"exists\":true}]}}",
         "stream_missing"},
        {"{\"replication\":{\"slot\":{\"of_this_database\":false}}}", "slot_of_another_database"},
        {"{\"replication\":{\"slot\":{\"wal_status\":\"lost\"}}}", "slot_lost"},
        {"{\"replication\":{\"slot\":{\"wal_status\":\"unreserved\"}}}", "slot_at_risk"},
        {"{\"replication\":{\"slot\":{\"wal_status\":\"extended\",\"safe_wal_bytes\":1000000,"
         "\"retained_bytes\":900000000}}}",
         "slot_at_risk"},
        /* A small limit on a slot that holds back nothing. */
        {"{\"replication\":{\"slot\":{\"wal_status\":\"reserved\",\"safe_wal_bytes\":1000000,"
         "\"retained_bytes\":900}}}",
         ""},
        {"{\"leader\":{\"leads\":false},\"reconcilers\":{\"connected\":1}}", "no_leader"},
        {"{\"leader\":{\"leads\":false},\"replication\":{\"slot\":{\"retained_bytes\":99000000}}}",
         "no_leader slot_inactive"},
        {"{\"database\":{\"system_id\":\"1\"},\"leader\":{\"leads\":true,\"said\":"
         "{\"database\":{\"system_id\":\"2\",\"address\":\"b/c\"}}}}",
         "leader_of_another_database"},
        {"{\"database\":{\"system_id\":\"1\",\"started_at\":\"2026-01-31T12:00:00.5Z\"},"
         "\"leader\":{\"said\":{\"database\":{\"system_id\":\"1\","
         "\"started_at\":\"2026-01-31T12:00:00.600000Z\"}}}}",
         "leader_of_another_database"},
        {"{\"database\":{\"system_id\":\"1\",\"started_at\":\"2026-01-31T12:00:00.5Z\"},"
         "\"leader\":{\"said\":{\"database\":{\"system_id\":\"1\","
         "\"started_at\":\"2026-01-31T12:00:00.500000Z\"}}}}",
         ""},
        {"{\"replication\":{\"slot\":{\"name\":\"a\"}},\"leader\":{\"said\":{\"slot\":\"b\"}}}",
         "leader_of_another_slot"},
        {"{\"nats\":{\"connected\":true},\"leader\":{\"leads\":true,\"answer\":\"silent\"}}",
         "leader_silent"},
        {"{\"leader\":{\"leads\":true,\"said\":{\"state\":\"stalled\",\"last_error\":{\"text\":"
         "\"no room\"}}}}",
         "leader_stalled"},
        {"{\"leader\":{\"leads\":true,\"said\":{\"database\":{\"writable\":false}}}}",
         "leader_database_read_only"},
        {"{\"leader\":{\"said\":{\"state\":\"yielded\",\"yielded\":\"its database is gone\","
         "\"database\":{\"writable\":false}}}}",
         "leader_yielded"},
        {"{\"leader\":{\"leads\":true,\"said\":{\"state\":\"rebuilding\"}}}", "leader_busy"},
        {"{\"leader\":{\"leads\":true},\"replication\":{\"slot\":{\"lag_bytes\":99000000}}}",
         "replication_lag"},
        {"{\"leader\":{\"leads\":true},\"replication\":{\"slot\":{\"lag_seconds\":31.5}}}",
         "replication_lag"},
        {"{\"replication\":{\"archive\":{\"wal_status\":\"lost\"}}}", "archive_lost"},
        {"{\"replication\":{\"archive\":{\"exists\":false}},\"leader\":{\"said\":"
         "{\"keeps_archive\":true,\"state\":\"streaming\"}}}",
         "archive_missing"},
        {"{\"replication\":{\"archive\":{\"exists\":false}},\"leader\":{\"said\":"
         "{\"keeps_archive\":false,\"state\":\"streaming\"}}}",
         ""},
        {"{\"replication\":{\"archive\":{\"exists\":true,\"ahead\":true}}}", "archive_short"},
        {"{\"fleet\":{\"counts\":{\"in_sync\":7,\"failed\":1,\"conflict\":1,\"unknown\":2},"
         "\"worst_lag_seconds\":301}}",
         "nodes_in_conflict nodes_failed nodes_unknown nodes_pending"},
        {"{\"fleet\":{\"counts\":{\"in_sync\":7,\"pending\":2},\"worst_lag_seconds\":12.5}}", ""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_codes(cases[i].document, cases[i].codes);
}
END_TEST

/* The cause stands before what follows from it. */
START_TEST(test_the_cause_comes_first)
{
    check_codes("{\"database\":{\"reachable\":true},\"nats\":{\"connected\":true,\"streams\":"
                "[{\"name\":\"KV_a\",\"exists\":false}]},"
                "\"leader\":{\"leads\":false,\"answer\":\"nobody\"},"
                "\"fleet\":{\"counts\":{\"unknown\":3}}}",
                "no_leader stream_missing nodes_unknown");
}
END_TEST

TEST_MAIN("diagnosis", 20, test_unknown_is_no_problem, test_each_problem,
          test_the_cause_comes_first)
