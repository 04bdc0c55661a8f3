/*
 * The diagnosis: what is wrong with the system, and what to do about it. It is read from the
 * members of /v1/system and from nothing else. A member that is unknown is no problem.
 */
#ifndef API_DIAGNOSIS_H
#define API_DIAGNOSIS_H

#include <jansson.h>

/* [{"code","part","severity","what","do"}], the cause before what follows from it; the caller's.
 * system: as docs/http.md has it, without the problems. */
json_t *api_diagnosis(const json_t *system);

#endif
