/* What libpq says, and what is advised: by the SQLSTATE where there is one, in any language. */
#include "pg/advice.h"

#include <string.h>

#include "base/memory.h"
#include "tests/support/suite.h"

static void advises(const char *message, const char *words)
{
    const char *advice = hw_db_advice(message);

    ck_assert_msg(advice != NULL && strstr(advice, words) != NULL, "%s: %s", message,
                  advice != NULL ? advice : "nothing");
}

START_TEST(test_by_sqlstate)
{
    advises("connection to server at \"db\", port 5432 failed: FATAL:  3D000: Datenbank »nope« "
            "existiert nicht",
            "no such database");
    advises("FATAL:  28P01: authentification par mot de passe échouée", "the password is wrong");
    advises("FATAL:  57P03: das Datenbanksystem startet", "goes on by itself");
    advises("ВАЖНО:  53300: извините, уже слишком много клиентов", "max_connections");
    ck_assert_ptr_null(hw_db_advice("database \"x57P03\" is well"));
    ck_assert_ptr_null(hw_db_advice(""));
}
END_TEST

START_TEST(test_by_words)
{
    advises("FATAL:  database \"nope\" does not exist", "no such database");
    advises("FATAL:  sorry, too many clients already", "max_connections");
    advises("FATAL:  the database system is starting up", "goes on by itself");
    advises("connection to server on socket \"/run/postgresql/.s.PGSQL.5432\" failed: No such file "
            "or directory",
            "no such socket");
    advises("session is read-only", "target_session_attrs");
    advises("server is in hot standby mode", "target_session_attrs");
    advises("connecting to the database: no answer within 10 s", "firewall");
}
END_TEST

TEST_MAIN("advice about PostgreSQL", 10, test_by_sqlstate, test_by_words)
