/*
 * Whose bucket it is: the table of docs/architecture.md, case by case, spelled here once more on
 * purpose.
 */
#include <string.h>

#include "reconciler/ownership.h"
#include "tests/support/suite.h"

enum { LOWER = 2, EQUAL, HIGHER }; /* timelines; the checkpoint's is EQUAL */

static struct rec_checkpoint checkpoint;
static struct hw_leader_database own;
static struct hw_leader leader;
static struct rec_ownership_facts facts;

/* A checkpoint of a database with the system identifier 7, and a reconciler of the same one. */
static void setup(void)
{
    checkpoint = (struct rec_checkpoint){.fence = {.epoch = 3, .lsn = 1000},
                                         .system_id = 7,
                                         .timeline = EQUAL,
                                         .rev = 5,
                                         .nonce = "n5",
                                         .slot = "headwater",
                                         .address = "db1:5432/headwater"};
    own = (struct hw_leader_database){.name = "headwater",
                                      .system_id = 7,
                                      .timeline = EQUAL,
                                      .started_at = "2026-01-31T12:00:00.000001Z",
                                      .address = "db1:5432/headwater"};
    leader = (struct hw_leader){.bucket = "headwater", .slot = "headwater", .database = own};
    facts = (struct rec_ownership_facts){.checkpoint = &checkpoint,
                                         .checkpoint_valid = true,
                                         .known = true,
                                         .database = &own,
                                         .slot = "headwater"};
}

static void expect(enum rec_claim claim, bool waits)
{
    const struct rec_ownership found = rec_ownership_judge(&facts);

    ck_assert_int_eq(found.claim, claim);
    ck_assert_int_eq(found.waits, waits);
    /* Whoever does not simply go on is told why. */
    ck_assert_int_eq(found.why != NULL, claim != REC_GO_ON || waits);
}

static const struct {
    const char *row;
    bool known;
    uint64_t system_id;
    uint32_t timeline;
    struct {
        enum rec_claim claim;
        bool waits;
    } same_address, other_address;
} rows[] = {
    {"known, same, equal", true, 7, EQUAL, {REC_GO_ON, false}, {REC_GO_ON, true}},
    {"known, same, higher", true, 7, HIGHER, {REC_GO_ON, false}, {REC_GO_ON, false}},
    {"known, same, lower",
     true,
     7,
     LOWER,
     {REC_STAND_BACK_FOR_GOOD, false},
     {REC_STAND_BACK_FOR_GOOD, false}},
    {"known, another system", true, 8, EQUAL, {REC_NEW_EPOCH, true}, {REC_NEW_EPOCH, true}},
    {"not known, same, higher", false, 7, HIGHER, {REC_NEW_EPOCH, false}, {REC_NEW_EPOCH, false}},
    {"not known, same, equal",
     false,
     7,
     EQUAL,
     {REC_STAND_BACK_FOR_GOOD, false},
     {REC_STAND_BACK_FOR_GOOD, false}},
    {"not known, same, lower",
     false,
     7,
     LOWER,
     {REC_STAND_BACK_FOR_GOOD, false},
     {REC_STAND_BACK_FOR_GOOD, false}},
    {"not known, another system", false, 8, EQUAL, {REC_NEW_EPOCH, true}, {REC_NEW_EPOCH, true}},
    {"another system's timeline says nothing",
     false,
     8,
     LOWER,
     {REC_NEW_EPOCH, true},
     {REC_NEW_EPOCH, true}},
};

static void take_row(int i)
{
    setup();
    facts.known = rows[i].known;
    own.system_id = rows[i].system_id;
    own.timeline = rows[i].timeline;
}

START_TEST(test_nobody_answers)
{
    take_row(_i);
    expect(rows[_i].same_address.claim, rows[_i].same_address.waits);
    strcpy(own.address, "db2:5432/headwater");
    expect(rows[_i].other_address.claim, rows[_i].other_address.waits);
}
END_TEST

/* A healthy leader of another database stands, whatever the checkpoint says. */
START_TEST(test_another_database_leads)
{
    take_row(_i);
    facts.leader = &leader;
    leader.database = own;
    strcpy(leader.database.started_at, "2026-01-31T12:00:00.000002Z"); /* a copy of its files */
    expect(REC_STAND_BACK, false);
    leader.database = own;
    leader.database.system_id = 9;
    expect(REC_STAND_BACK, false);
    leader.database = own;
    strcpy(leader.database.name, "other"); /* of the same server */
    expect(REC_STAND_BACK, false);
}
END_TEST

START_TEST(test_the_same_database_leads)
{
    setup();
    facts.leader = &leader;
    expect(REC_GO_ON, false); /* with the same slot, which decides */
    facts.slot = "second";
    expect(REC_STAND_BACK, false);
    facts.leader = NULL;
    expect(REC_GO_ON, false);
    facts.slot_is_read = true; /* it leads, and cannot answer */
    expect(REC_STAND_BACK, false);
    own.system_id = 8; /* a slot of that name on another server is another slot */
    expect(REC_NEW_EPOCH, true);
}
END_TEST

START_TEST(test_no_checkpoint)
{
    setup();
    facts.checkpoint_valid = facts.known = false;
    expect(REC_GO_ON, false);
    facts.leader = &leader;
    expect(REC_GO_ON, false);
    leader.database.system_id = 9;
    expect(REC_STAND_BACK, false);
}
END_TEST

START_TEST(test_a_checkpoint_of_an_older_version)
{
    setup();
    *checkpoint.address = '\0';
    expect(REC_GO_ON, false);
}
END_TEST

/* Between take-over and the first checkpoint of the one it was for. */
START_TEST(test_taken_over)
{
    take_row(_i);
    checkpoint.taken_over = true;
    const bool ours = rows[_i].known && own.system_id == 7 && own.timeline == EQUAL;

    expect(ours ? REC_GO_ON : REC_STAND_BACK_FOR_GOOD, false);
    strcpy(own.address, "db2:5432/headwater");
    expect(ours ? REC_GO_ON : REC_STAND_BACK_FOR_GOOD, ours);
    facts.slot = "second";
    expect(REC_STAND_BACK_FOR_GOOD, false);
    facts.slot = "headwater";
    facts.leader = &leader;
    leader.database.system_id = 9; /* it has not noticed yet */
    expect(REC_STAND_BACK, false);
}
END_TEST

int main(void)
{
    const int count = sizeof(rows) / sizeof(rows[0]);
    Suite *suite = suite_create("ownership");
    TCase *tcase = tcase_create("table");

    tcase_add_loop_test(tcase, test_nobody_answers, 0, count);
    tcase_add_loop_test(tcase, test_another_database_leads, 0, count);
    tcase_add_loop_test(tcase, test_taken_over, 0, count);
    tcase_add_test(tcase, test_the_same_database_leads);
    tcase_add_test(tcase, test_no_checkpoint);
    tcase_add_test(tcase, test_a_checkpoint_of_an_older_version);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
