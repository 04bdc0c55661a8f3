/* Node.js, where it is there, with packages of npm that one test program installs for itself. */
#ifndef TEST_NODE_H
#define TEST_NODE_H

/*
 * A new directory that holds copies of the files (their paths end with NULL) and these packages:
 * "name@1.2.3", separated by blanks. malloc'ed; the directory is removed at exit. NULL, after a
 * line that says what the test is skipped for, where Node.js, npm or its registry is missing.
 */
char *test_node_dir(const char *packages, const char *const files[]);

#endif
