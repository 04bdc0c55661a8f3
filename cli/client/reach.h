/*
 * Advice for a server that was not reached, to be put behind libcurl's own words. If one of HTTP
 * and HTTPS was spoken and the server may understand the other one, that is tried with a request
 * that holds no token.
 */
#ifndef CLI_REACH_H
#define CLI_REACH_H

#include <curl/curl.h>
#include <stdbool.h>

/* base: the URL without the slash at its end. curl: as it is right behind the exchange that ended
 * with code. Blocks for some seconds at most. NULL: there is no advice. */
const char *cli_reach_advice(const char *base, CURL *curl, CURLcode code);

/* Does a server speak HTTPS where an http:// URL leads? Blocks likewise. False for https://. */
bool cli_reach_is_https(const char *base);

extern const char cli_reach_https_advice[];

#endif
