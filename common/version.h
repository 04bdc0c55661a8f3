#ifndef HW_VERSION_H
#define HW_VERSION_H

/* Semantic version of all programs; the Makefile reads it from here. */
#define HW_VERSION "0.1.0"

#endif
