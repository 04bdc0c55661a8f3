/* Damage that the checker must notice. Without this proof, a checker that sees nothing would pass
 * every run. */
#ifndef RECOVERY_TAMPER_H
#define RECOVERY_TAMPER_H

#include "tests/recovery/checker.h"
#include "tests/support/servers.h"

/* Damages the stream in the reconciler's name, or the database, with another kind of damage for
 * each number. Returns the name of the kind, or NULL when there is none of that number. Nothing
 * else may write meanwhile. */
const char *tamper(const struct test_postgres *pg, const char *nats_url, struct checker *checker,
                   int number);

#endif
