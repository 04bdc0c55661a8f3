#include "pg/advice.h"

#include <string.h>

#include "base/memory.h"

#define URL "--database (HEADWATER_DATABASE_URL)"

/* The first match counts. SQLSTATEs: PostgreSQL manual, appendix A; the words are libpq's, or those
 * of a server that speaks English. */
static const struct {
    const char *sqlstate; /* or NULL */
    const char *words;    /* or NULL */
    const char *advice;
} rules[] = {
    {"3D000", "FATAL:  database \"",
     "there is no such database on this server: correct the name in " URL ", or make it (CREATE "
     "DATABASE) and run headwater-api migrate"},
    {"28P01", "password authentication failed",
     "the password is wrong: correct it in " URL " or in the password file, or give the role "
     "another one (\\password in psql)"},
    {NULL, "no password supplied",
     "the server asks for a password: put it into " URL " or into a password file (PGPASSFILE)"},
    {NULL, "pg_hba.conf",
     "the server's pg_hba.conf has no line that lets this role into this database from here: add "
     "one, and reload the server"},
    {"28000", "FATAL:  role \"",
     "the server does not let this role in: correct the user in " URL "; headwater-api migrate "
     "makes the roles that the programs need, and pg_hba.conf says how each proves who it is"},
    {"42501", "permission denied for database",
     "the role may not connect to this database: GRANT CONNECT ON DATABASE … TO it"},
    {"53300", "too many connections",
     "the server has no connection free: end some (pg_stat_activity), use fewer (--pool), or raise "
     "max_connections or the role's CONNECTION LIMIT"},
    {NULL, "remaining connection slots",
     "the server has no connection free: end some (pg_stat_activity), use fewer (--pool), or raise "
     "max_connections"},
    {NULL, "too many clients",
     "the server has no connection free: end some (pg_stat_activity), use fewer (--pool), or raise "
     "max_connections"},
    {"57P03", "the database system is",
     "the server is starting or shutting down: it goes on by itself when the server is ready"},
    {"55000", "not currently accepting connections",
     "ALTER DATABASE … ALLOW_CONNECTIONS true lets clients in again"},
    {NULL, "could not translate host name",
     "DNS does not know the host: correct its name in " URL ", or look at the resolver"},
    {NULL, "Connection refused",
     "nothing listens there: is PostgreSQL running, does it listen on that address "
     "(listen_addresses), and are host and port in " URL " right?"},
    {NULL, "No such file or directory",
     "there is no such socket: is PostgreSQL running on this machine, and is its directory in " URL
     " right?"},
    {NULL, "imeout expired",
     "no answer came: is the host up, and does a firewall let the connection through?"},
    {NULL, "no answer within",
     "is the host up, does a firewall let the connection through, and is it PostgreSQL that "
     "listens there?"},
    {NULL, "received invalid response",
     "what listens there is not PostgreSQL: correct host and port in " URL},
    {NULL, "expected authentication request",
     "what listens there is not PostgreSQL: correct host and port in " URL},
    {NULL, "unsupported startup parameter",
     "a pooler stands in between, and does not pass on what streaming needs: name PostgreSQL "
     "itself in " URL},
    {NULL, "does not support SSL",
     "the server has no TLS, and sslmode asks for it: switch it on there (ssl = on), or take "
     "sslmode out of " URL},
    {NULL, "root certificate file",
     "sslrootcert must name a file with the authority (PEM) that signed the server's certificate"},
    {NULL, "does not match host name",
     "the server's certificate names other hosts: use one of its names in " URL ", or give the "
     "server a certificate that has this one"},
    {NULL, "certificate verify failed",
     "the server's certificate is not of the authority in sslrootcert, or has expired: name the "
     "right one, or renew it"},
    {NULL, "SSL error", "look at sslmode, sslrootcert, sslcert and sslkey in " URL},
    {NULL, "is not the one that is wanted",
     "none of the hosts in " URL " takes writes now: promote one, or take "
     "default_transaction_read_only back"},
    {NULL, "not in hot standby mode",
     "none of the hosts in " URL " is what target_session_attrs asks for"},
    {NULL, "session is",
     "none of the hosts in " URL " is what target_session_attrs asks for: is there a primary?"},
    {NULL, "server is in hot standby",
     "none of the hosts in " URL " is what target_session_attrs asks for: is there a primary?"},
    {NULL, "server closed the connection unexpectedly",
     "is it PostgreSQL that listens there, and what does its log say?"},
};

/* ":  3D000: ", as libpq writes it behind the severity. */
static int has_sqlstate(const char *message, const char *sqlstate)
{
    char word[16] = ":  ";

    strncat(word, sqlstate, 5);
    strncat(word, ": ", 3);
    return strstr(message, word) != NULL;
}

const char *hw_db_advice(const char *message)
{
    for (size_t i = 0; i < HW_COUNT(rules); i++)
        if ((rules[i].sqlstate != NULL && has_sqlstate(message, rules[i].sqlstate)) ||
            (rules[i].words != NULL && strstr(message, rules[i].words) != NULL))
            return rules[i].advice;
    return NULL;
}
