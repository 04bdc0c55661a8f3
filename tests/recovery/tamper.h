/* Damage that the checker must notice. Without this proof, a checker that sees nothing would pass
 * every run. */
#ifndef RECOVERY_TAMPER_H
#define RECOVERY_TAMPER_H

#include "tests/recovery/checker.h"

/* Damages the stream in the reconciler's name, with another kind of damage for each number. Returns
 * the name of the kind, or NULL when there is none of that number. Nothing else may write
 * meanwhile. */
const char *tamper(const char *nats_url, struct checker *checker, int number);

#endif
