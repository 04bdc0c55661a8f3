/*
 * Questions to NATS for /v1/system: who leads (protocol/subjects.h), and how the streams stand.
 * They are asked only where the service was told where NATS is; it needs NATS for nothing else. The
 * loop never waits: an asker is called back, soon in any case, and answers of the last second are
 * used again.
 */
#ifndef API_NATS_H
#define API_NATS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/status.h"
#include "common/loop.h"
#include "nats/connection.h"

struct api_nats_config {
    struct hw_loop *loop;
    const char *url; /* NULL or "": nothing is asked, and nothing is known */
    struct hw_nats_files files;
    const char *bucket;
};

struct api_nats;
enum hw_status api_nats_open(const struct api_nats_config *config, struct api_nats **nats,
                             struct hw_error *err) HW_CHECKED;
/* Those that wait are called with the answers that have come. */
/* Reads the files for NATS again; true: some have changed, and NATS is connected to with them. */
bool api_nats_reload(struct api_nats *nats);
void api_nats_stop(struct api_nats *nats);
void api_nats_free(struct api_nats *nats); /* NULL is fine */

/*
 * Both are borrowed until done returns; the members of the two objects "nats" and "leader" of
 * /v1/system, as docs/http.md has them.
 */
typedef void api_nats_done_fn(void *arg, json_t *nats, json_t *leader);

/* done is called once, perhaps at once. */
void api_nats_ask(struct api_nats *nats, api_nats_done_fn *done, void *arg);

#endif
