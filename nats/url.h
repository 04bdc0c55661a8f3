/*
 * The servers of NATS as an operator names them: "nats://user:password@host:4222", with commas or
 * blanks between the servers of a cluster. libnats takes nearly anything for a server, and then
 * tries for ever to reach it.
 */
#ifndef HW_NATS_URL_H
#define HW_NATS_URL_H

#include "base/status.h"

#define HW_NATS_SERVERS_MAX 16

/* HW_EINVAL with the reason for one that can never work. The message holds no password. */
enum hw_status hw_nats_url_check(const char *url, struct hw_error *err) HW_CHECKED;

#endif
