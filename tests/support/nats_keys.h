/* What a nats-server with TLS and nkeys needs: made anew by each test, below its own directory. */
#ifndef TEST_NATS_KEYS_H
#define TEST_NATS_KEYS_H

/* ca.pem, other.pem (an authority that vouches for nobody), server.pem, client.pem and their .key
 * files. The server's certificate names localhost only. */
void test_nats_certificates(const char *dir);
/* Writes the seed of a new user into a file that only we may read. */
void test_nats_seed(const char *path);
/* The pair of keys that desired state is signed and trusted with: <name>.key and <name>.pub. */
void test_sign_keys(const char *dir, const char *name);
/* The configuration of a server that trusts one operator, as text; malloc'ed. Writes user.creds,
 * and stranger.creds, which has the user's token with another seed. */
char *test_nats_operator(const char *dir);

#endif
