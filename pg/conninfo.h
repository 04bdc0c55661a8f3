/* Where PostgreSQL is, as an operator says it: a libpq URI or connection string. */
#ifndef HW_PG_CONNINFO_H
#define HW_PG_CONNINFO_H

#include "base/status.h"

/* HW_EINVAL with the reason for one that can never work. libpq would find out when it connects,
 * and a program that connects again and again would only wait. The message quotes nothing that may
 * be a password. */
enum hw_status hw_conninfo_check(const char *conninfo, struct hw_error *err) HW_CHECKED;

#endif
