/* Why PostgreSQL does not let us in: what to do about what libpq and the server say. */
#ifndef HW_PG_ADVICE_H
#define HW_PG_ADVICE_H

/* message: libpq's, of a connection that was not made, with the SQLSTATE where the server gave one
 * (PQERRORS_VERBOSE): a server may speak another language than English. NULL: nothing is known. */
const char *hw_db_advice(const char *message);

#endif
