/* Damage that the checker must notice: without it, a checker that sees nothing would pass all runs.
 */
#ifndef RECOVERY_TAMPER_H
#define RECOVERY_TAMPER_H

/* Does one more kind of damage to the stream at each call, in the reconciler's name; says which, or
 * returns NULL when there are no more kinds. Nothing else writes meanwhile. */
const char *tamper(const char *nats_url, int number);

#endif
