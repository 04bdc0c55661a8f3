/*
 * What NATS says: who leads there (protocol/leader.h), and how the streams stand that the fleet
 * lives of. Only where the service was told where NATS is; it depends on it for nothing else. Asked
 * on the loop, without waiting: whoever wants to know is called back, within a moment in any case,
 * and what was heard within the last second is not asked for again.
 */
#ifndef API_NATS_H
#define API_NATS_H

#include <jansson.h>
#include <stdbool.h>

#include "common/loop.h"
#include "common/status.h"
#include "nats/connection.h"

struct api_nats_config {
    struct hw_loop *loop;
    const char *url; /* NULL or "": nothing is asked, and nothing known */
    struct hw_nats_files files;
    const char *bucket;
};

struct api_nats;
enum hw_status api_nats_open(const struct api_nats_config *config, struct api_nats **nats,
                             struct hw_error *err) HW_CHECKED;
/* Whoever waits is called with what is known. */
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
