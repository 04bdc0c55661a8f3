/*
 * What is wrong with the system, and what to do about it, read from what /v1/system shows and from
 * nothing else. What is unknown there is no problem.
 */
#ifndef API_DIAGNOSIS_H
#define API_DIAGNOSIS_H

#include <jansson.h>

/* [{"code","part","severity","what","do"}], the cause before what follows from it; the caller's.
 * system: as docs/http.md has it, without the problems. */
json_t *api_diagnosis(const json_t *system);

#endif
