#include "cli/client/reach.h"

#include <errno.h>
#include <string.h>

#include "base/memory.h"

enum { CONNECT_MS = 2000, ANSWER_MS = 3000 };

const char cli_reach_https_advice[] =
    "the server speaks HTTPS there: write https:// in --server (HEADWATER_SERVER)";

static size_t pass_over(char *bytes, size_t size, size_t count, void *arg)
{
    (void)bytes;
    (void)arg;
    return size * count;
}

/* Does the server there understand this protocol? */
static bool is_spoken(const char *url, bool tls)
{
    CURL *curl = curl_easy_init();
    bool spoken;

    if (curl == NULL)
        return false;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)ANSWER_MS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, pass_over);
    if (tls) {
        /* The certificate does not matter, because nothing is sent. */
        curl_easy_setopt(curl, CURLOPT_CONNECT_ONLY, 1L);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    spoken = curl_easy_perform(curl) == CURLE_OK;
    curl_easy_cleanup(curl);
    return spoken;
}

static const char *after_scheme(const char *base, const char *scheme)
{
    const size_t len = strlen(scheme);

    return strncasecmp(base, scheme, len) == 0 ? base + len : NULL;
}

bool cli_reach_is_https(const char *base)
{
    const char *rest = after_scheme(base, "http://");

    if (rest == NULL)
        return false;
    HW_AUTO_FREE char *url = hw_sprintf("https://%s", rest);
    return is_spoken(url, true);
}

static bool is_plain_http(const char *base)
{
    const char *rest = after_scheme(base, "https://");

    if (rest == NULL)
        return false;
    HW_AUTO_FREE char *url = hw_sprintf("http://%s/healthz", rest);
    return is_spoken(url, false);
}

static const char *connect_advice(CURL *curl)
{
    long number = 0;

    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &number);
    return number == ECONNREFUSED
               ? "connection refused: is headwater-api running there? --server or HEADWATER_SERVER "
                 "says where it is"
               : "--server or HEADWATER_SERVER says where headwater-api is; does a firewall let "
                 "the "
                 "connection through?";
}

const char *cli_reach_advice(const char *base, CURL *curl, CURLcode code)
{
    curl_off_t connected = 0;

    switch (code) {
    case CURLE_COULDNT_CONNECT:
        return connect_advice(curl);
    case CURLE_COULDNT_RESOLVE_HOST:
        return "correct the host in --server or HEADWATER_SERVER, or look at DNS";
    case CURLE_OPERATION_TIMEDOUT:
        curl_easy_getinfo(curl, CURLINFO_CONNECT_TIME_T, &connected);
        return connected == 0 ? connect_advice(curl) : NULL;
    case CURLE_SSL_CACERT_BADFILE: /* also that of the system, where it has none */
    case CURLE_PEER_FAILED_VERIFICATION:
        return "--ca-file (HEADWATER_CA_FILE) names the authority of its certificate, which must "
               "name the host of --server";
    case CURLE_SSL_CONNECT_ERROR:
        return is_plain_http(base)
                   ? "the server speaks plain HTTP there: write http:// in --server "
                     "(HEADWATER_SERVER), or have headwater-api serve HTTPS "
                     "(--tls-cert)"
                   : NULL;
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
        /* A server that refuses a client's certificate sends an alert, or nothing. For the client
         * the handshake is over by then, and it sees its connection break. */
        if (after_scheme(base, "https://") != NULL)
            return code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_UNSUPPORTED_PROTOCOL
                       ? NULL
                       : "does the server ask for a certificate of this client? --cert and --key "
                         "name it";
        return cli_reach_is_https(base) ? cli_reach_https_advice : NULL;
    default:
        return NULL;
    }
}
