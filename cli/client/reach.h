/*
 * What to do about a server that was not reached: said behind libcurl's own words. Where one of
 * HTTP and HTTPS was spoken and the other one would have been understood, that is tried, with a
 * request that holds no token.
 */
#ifndef CLI_REACH_H
#define CLI_REACH_H

#include <curl/curl.h>
#include <stdbool.h>

/* base: of the URL, without the slash at its end; curl: right behind the exchange that ended with
 * code. Blocks, for some seconds at most. NULL: nothing is known. */
const char *cli_reach_advice(const char *base, CURL *curl, CURLcode code);

/* Is HTTPS spoken where an http:// URL leads? Blocks likewise. False for https://. */
bool cli_reach_is_https(const char *base);

extern const char cli_reach_https_advice[];

#endif
