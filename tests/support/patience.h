/*
 * How long this machine deserves to be waited for. Every time limit of a test is written in the
 * seconds of a machine with two idle cores, and is multiplied by how much slower this one is: that
 * is measured once, by tests/run, which hands it on in HW_PATIENCE; a program that is started alone
 * measures for itself. A limit never gets shorter.
 */
#ifndef TEST_PATIENCE_H
#define TEST_PATIENCE_H

#include <stdint.h>

/* The factor, 1 or more. With HW_PATIENCE=measure a test program only prints it and ends. */
double test_patience(void);

/* test_now() at the end of so many seconds of patience: when to give up. Not for a time that must
 * pass, or that the program under test measures. */
double test_deadline(double seconds);

/* The same for what wants a number of milliseconds: hw_loop_run_until, poll, a --timeout. */
int test_patient_ms(int ms);

#endif
