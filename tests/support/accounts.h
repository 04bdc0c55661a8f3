/* Accounts of nats-server, as the programs print them. */
#ifndef TEST_ACCOUNTS_H
#define TEST_ACCOUNTS_H

/*
 * One entry of "accounts" in the server's configuration, malloc'ed: what "program permissions"
 * prints, with one user, whose password is his name. node: NULL for the reconciler's account;
 * prefix: of a node behind a leaf node, "" for any other.
 */
char *test_account(const char *program, const char *node, const char *prefix, const char *user);

#endif
