/* Whole decimal numbers in text from outside. */
#ifndef HW_NUMBER_H
#define HW_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Reads digits up to the end of the text: false for any other character (a sign and a blank
 * included), for no digit at all, for a number that needs more than 64 bits, and for NULL. *value
 * is written on success only.
 */
bool hw_number_parse(const char *text, uint64_t *value) __attribute__((warn_unused_result));

/* The same up to the first character `end`, or up to the end of the text where there is none. */
bool hw_number_parse_until(const char *text, char end, uint64_t *value)
    __attribute__((warn_unused_result));

#endif
