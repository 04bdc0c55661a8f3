/* What a nats-server with TLS and nkeys needs: made anew by each test, below its own directory. */
#ifndef TEST_NATS_KEYS_H
#define TEST_NATS_KEYS_H

/* ca.pem, other.pem (an authority that vouches for nobody), server.pem, client.pem and their .key
 * files. The server's certificate names localhost only. */
void test_nats_certificates(const char *dir);
/* <name>.pem: a certificate of the authority in ca.pem for key, a file there, and for localhost,
 * which is valid from so many seconds from now until so many seconds from now. */
void test_nats_certificate(const char *dir, const char *name, const char *key, long from_s,
                           long until_s);
/* Writes the seed of a new user into a file that only we may read. */
void test_nats_seed(const char *path);
/* The pair of keys that desired state is signed and trusted with: <name>.key and <name>.pub. */
void test_sign_keys(const char *dir, const char *name);
/* The configuration of a server that trusts one operator, as text; malloc'ed. Writes user.creds,
 * and stranger.creds, which has the user's token with another seed. */
char *test_nats_operator(const char *dir);

#endif
