#include "nats/probe.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"

#define URL "--nats (HEADWATER_NATS_URL)"

enum {
    SERVERS_MOST = 4,
    STEP_S = 2,     /* to wait for each answer of a server */
    ALERT_MS = 300, /* to wait for an alert after a handshake of TLS 1.3 */
    GREETING_MOST = 65536,
    SHOWN_MOST = 24, /* bytes that are shown of something that is no greeting */
};

struct server {
    char *shown; /* as the URL has it, without user and password */
    char *host, *port;
};

/* The owner and the thread each hold the probe, and the last one to let go frees it. */
struct hw_nats_probe {
    pthread_mutex_t lock;
    pthread_cond_t left;
    int holders;
    bool ended; /* the owner has let go: no step is begun, and nothing is told any more */
    bool away;  /* the thread looks a name up, which nobody can interrupt, or has ended */
    int fd;     /* the socket that the thread waits on, or -1 */
    void (*done)(void *arg);
    void *arg;

    /* Until done is called, these are the thread's own. */
    char *url;
    struct hw_nats_files files; /* copies */
    bool tls;
    char why[HW_NATS_WHY_MAX];
};

/* ---- URLs ---- */

/* One server of a list: "nats://user:password@host:4222". */
static struct server parse_server(const char *text)
{
    const char *const scheme_end = strstr(text, "://");
    const char *const authority = scheme_end != NULL ? scheme_end + 3 : text;
    const char *const at = strrchr(authority, '@');
    const char *const host = at != NULL ? at + 1 : authority;
    const size_t len = strcspn(host, "/?#");
    HW_AUTO_FREE char *place = hw_strndup(host, len);
    char *port = strrchr(place, ':');
    struct server s = {0};

    if (port != NULL && strchr(port, ']') != NULL)
        port = NULL; /* a colon of an IPv6 address */
    s.shown =
        hw_sprintf("%.*s%s%s", (int)(authority - text), text, place, port == NULL ? ":4222" : "");
    s.port = hw_strdup(port != NULL ? port + 1 : "4222");
    if (port != NULL)
        *port = '\0';
    s.host = place[0] == '[' ? hw_strndup(place + 1, strcspn(place + 1, "]")) : hw_strdup(place);
    return s;
}

static void clear_server(struct server *s)
{
    free(s->shown);
    free(s->host);
    free(s->port);
}

static size_t parse_servers(const char *url, struct server servers[static SERVERS_MOST])
{
    HW_AUTO_FREE char *copy = hw_strdup(url);
    char *save = NULL;
    size_t count = 0;

    for (char *s = strtok_r(copy, ", ", &save); s != NULL && count < SERVERS_MOST;
         s = strtok_r(NULL, ", ", &save))
        servers[count++] = parse_server(s);
    return count;
}

char *hw_nats_url_shown(const char *url)
{
    struct server servers[SERVERS_MOST];
    const size_t count = parse_servers(url, servers);
    char *shown = hw_strdup("");

    for (size_t i = 0; i < count; i++) {
        char *longer = hw_sprintf("%s%s%s", shown, i > 0 ? "," : "", servers[i].shown);

        free(shown);
        shown = longer;
        clear_server(&servers[i]);
    }
    return shown;
}

/* ---- what owner and thread tell each other ---- */

static bool is_ended(struct hw_nats_probe *probe)
{
    pthread_mutex_lock(&probe->lock);
    const bool ended = probe->ended;
    pthread_mutex_unlock(&probe->lock);
    return ended;
}

/* False: the owner has let go meanwhile. */
static bool set_away(struct hw_nats_probe *probe, bool away)
{
    pthread_mutex_lock(&probe->lock);
    const bool ended = probe->ended;
    probe->away = away || ended;
    pthread_cond_signal(&probe->left);
    pthread_mutex_unlock(&probe->lock);
    return !ended;
}

/* The owner shuts this socket down in order to end a wait. False: the owner has let go already. */
static bool set_fd(struct hw_nats_probe *probe, int fd)
{
    pthread_mutex_lock(&probe->lock);
    const bool ended = probe->ended;
    probe->fd = fd;
    pthread_mutex_unlock(&probe->lock);
    return !ended;
}

/* ---- the steps: each returns true when all is well, and writes why otherwise ---- */

static bool bad(char why[static HW_NATS_WHY_MAX], const char *fmt, ...) HW_PRINTF(2, 3);
static bool bad(char why[static HW_NATS_WHY_MAX], const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(why, HW_NATS_WHY_MAX, fmt, args);
    va_end(args);
    return false;
}

static bool resolve(struct hw_nats_probe *probe, const struct server *s, struct addrinfo **found,
                    char why[static HW_NATS_WHY_MAX])
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};

    if (!set_away(probe, true))
        return bad(why, "ended");
    const int code = getaddrinfo(s->host, s->port, &hints, found);
    if (!set_away(probe, false)) {
        if (code == 0)
            freeaddrinfo(*found);
        return bad(why, "ended");
    }
    if (code != 0)
        return bad(
            why, "the name %s cannot be resolved (%s): correct the host in " URL ", or look at DNS",
            s->host, gai_strerror(code));
    return true;
}

static void connect_failed(const struct server *s, int code, char why[static HW_NATS_WHY_MAX])
{
    if (code == ECONNREFUSED)
        (void)bad(why,
                  "connection refused: nothing listens at %s port %s; is nats-server running "
                  "there, and is this its port? See " URL,
                  s->host, s->port);
    else if (code == EINPROGRESS || code == ETIMEDOUT || code == EAGAIN)
        (void)bad(why,
                  "%s port %s does not answer: is the host up, and does a firewall let the "
                  "connection through?",
                  s->host, s->port);
    else
        (void)bad(why, "connecting to %s port %s: %s", s->host, s->port, strerror(code));
}

/* Connects to the first address that accepts. Returns the socket, or -1. */
static int dial(struct hw_nats_probe *probe, const struct server *s, const struct addrinfo *found,
                char why[static HW_NATS_WHY_MAX])
{
    const struct timeval step = {.tv_sec = STEP_S};

    for (const struct addrinfo *a = found; a != NULL; a = a->ai_next) {
        const int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);

        /* The time limit for sending limits connect(2) as well. */
        if (fd >= 0 && set_fd(probe, fd) &&
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &step, sizeof(step)) == 0 &&
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &step, sizeof(step)) == 0 &&
            connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            return fd;
        connect_failed(s, errno, why);
        (void)set_fd(probe, -1);
        if (fd >= 0)
            close(fd);
    }
    return -1;
}

/* Makes bytes from a stranger fit for a log. */
static void show(const char *bytes, size_t len, char out[static SHOWN_MOST + 1])
{
    size_t i;

    for (i = 0; i < len && i < SHOWN_MOST && bytes[i] != '\r' && bytes[i] != '\n'; i++)
        out[i] = (char)(bytes[i] >= ' ' && bytes[i] <= '~' && bytes[i] != '"' ? bytes[i] : '?');
    out[i] = '\0';
}

/* A NATS server speaks first: "INFO {…}". */
static bool hear_greeting(const struct server *s, int fd, bool tls, json_t **info,
                          char why[static HW_NATS_WHY_MAX])
{
    HW_AUTO_FREE char *text = hw_alloc(GREETING_MOST);
    char shown[SHOWN_MOST + 1];
    size_t len = 0;
    ssize_t got;

    while ((got = recv(fd, text + len, GREETING_MOST - 1 - len, 0)) > 0) {
        len += (size_t)got;
        if (memchr(text, '\n', len) != NULL || len == GREETING_MOST - 1)
            break;
    }
    text[len] = '\0';
    if (len == 0 && got == 0)
        return bad(why,
                   "what listens at %s port %s ends the connection without a word: is it a NATS "
                   "server? See " URL ", and that server's log",
                   s->host, s->port);
    if (len == 0)
        return bad(why,
                   "what listens at %s port %s says nothing: it is not a NATS server, or one that "
                   "hangs%s. Correct host and port in " URL,
                   s->host, s->port,
                   tls ? ", or one that wants TLS before its greeting (handshake_first)" : "");
    show(text, len, shown);
    if (strncmp(text, "INFO ", 5) != 0)
        return bad(why,
                   "what listens at %s port %s is not a NATS server: it says \"%s\". Correct host "
                   "and port in " URL,
                   s->host, s->port, shown);
    if (hw_json_parse_object(text + 5, strcspn(text + 5, "\r\n"), info, NULL) != HW_OK)
        return bad(why, "the greeting of %s port %s cannot be read: \"%s\"", s->host, s->port,
                   shown);
    return true;
}

static void certificate_failed(const struct server *s, long verdict, bool own_authorities,
                               char why[static HW_NATS_WHY_MAX])
{
    const char *const words = X509_verify_cert_error_string(verdict);

    switch (verdict) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        (void)bad(why, "the certificate of %s has expired: renew it at the server", s->host);
        return;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        (void)bad(why, "the certificate of %s is not valid yet: is this machine's clock right?",
                  s->host);
        return;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        (void)bad(why,
                  "the server's certificate does not name %s: it must name the URL's host; use one "
                  "of its names in " URL ", or give the server another certificate",
                  s->host);
        return;
    default:
        (void)bad(why, "the certificate of %s is not of an authority that is trusted (%s): %s",
                  s->host, words,
                  own_authorities
                      ? "--nats-ca must name the file with the authority that signed it"
                      : "name the file with the authority that signed it with --nats-ca");
    }
}

static void handshake_failed(const struct server *s, const SSL *ssl,
                             const struct hw_nats_files *files, char why[static HW_NATS_WHY_MAX])
{
    char ageing[HW_NATS_WHY_MAX / 2];
    const long verdict = SSL_get_verify_result(ssl);
    const unsigned long code = ERR_peek_last_error();
    const char *const words = ERR_reason_error_string(code);

    if (verdict != X509_V_OK)
        certificate_failed(s, verdict, files->ca != NULL, why);
    else if (hw_nats_files_ageing(files, true, ageing, sizeof(ageing)))
        (void)bad(why, "%s refuses this client's certificate: %s; renew it, it is read again then",
                  s->host, ageing);
    else if (ERR_GET_REASON(code) == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED ||
             ERR_GET_REASON(code) == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE)
        (void)bad(why,
                  "%s asks for a certificate of this client (%s): --nats-cert and --nats-key name "
                  "it",
                  s->host, words);
    else if (ERR_GET_REASON(code) > SSL_AD_REASON_OFFSET)
        (void)bad(why,
                  "%s refuses this client's certificate (%s): look at --nats-cert and --nats-key, "
                  "and at the authorities in the server's configuration",
                  s->host, words);
    else
        (void)bad(why, "TLS with %s fails: %s", s->host,
                  words != NULL ? words : "the connection ended, or no answer came in time");
}

static SSL_CTX *make_context(const struct hw_nats_probe *probe, char why[static HW_NATS_WHY_MAX])
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    if (context == NULL) {
        (void)bad(why, "TLS cannot be set up");
        return NULL;
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if ((probe->files.ca != NULL ? SSL_CTX_load_verify_locations(context, probe->files.ca, NULL)
                                 : SSL_CTX_set_default_verify_paths(context)) != 1)
        (void)bad(why, "the authorities%s%s cannot be read",
                  probe->files.ca != NULL ? " in --nats-ca " : "",
                  probe->files.ca != NULL ? probe->files.ca : "");
    else if (probe->files.cert != NULL && probe->files.key != NULL &&
             (SSL_CTX_use_certificate_chain_file(context, probe->files.cert) != 1 ||
              SSL_CTX_use_PrivateKey_file(context, probe->files.key, SSL_FILETYPE_PEM) != 1))
        (void)bad(why, "--nats-cert %s and --nats-key cannot be used", probe->files.cert);
    else
        return context;
    SSL_CTX_free(context);
    return NULL;
}

static bool shake_hands(const struct hw_nats_probe *probe, const struct server *s, int fd,
                        char why[static HW_NATS_WHY_MAX])
{
    const struct timeval alert = {.tv_usec = ALERT_MS * 1000L};
    SSL_CTX *const context = make_context(probe, why);
    SSL *const ssl = context != NULL ? SSL_new(context) : NULL;
    X509_VERIFY_PARAM *const expected = ssl != NULL ? SSL_get0_param(ssl) : NULL;
    bool well = false;
    char byte;

    if (ssl == NULL)
        goto out;
    ERR_clear_error();
    if (X509_VERIFY_PARAM_set1_ip_asc(expected, s->host) != 1)
        (void)X509_VERIFY_PARAM_set1_host(expected, s->host, 0);
    (void)SSL_set_tlsext_host_name(ssl, s->host);
    ERR_clear_error();
    if (SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1) {
        handshake_failed(s, ssl, &probe->files, why);
        goto out;
    }
    /* In TLS 1.3 the server judges the client's certificate after the client's handshake has
     * succeeded, and says so by an alert, which only a read shows. */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &alert, sizeof(alert));
    const int got = SSL_read(ssl, &byte, 1);
    well = got > 0 || SSL_get_error(ssl, got) != SSL_ERROR_SSL;
    if (!well)
        handshake_failed(s, ssl, &probe->files, why);
out:
    SSL_free(ssl);
    SSL_CTX_free(context);
    return well;
}

static bool talk(struct hw_nats_probe *probe, const struct server *s, int fd,
                 char why[static HW_NATS_WHY_MAX])
{
    const bool tls = probe->tls || strncmp(s->shown, "tls://", 6) == 0;
    HW_AUTO_JSON json_t *info = NULL;

    if (!hear_greeting(s, fd, tls, &info, why))
        return false;
    const bool required = json_is_true(json_object_get(info, "tls_required"));
    const bool offered = required || json_is_true(json_object_get(info, "tls_available"));
    if (required && !tls)
        return bad(why,
                   "%s port %s requires TLS: write tls:// in " URL
                   ", or name its authority with --nats-ca",
                   s->host, s->port);
    if (tls && !offered)
        return bad(why,
                   "%s port %s has no TLS, which --nats-ca, --nats-cert or tls:// asks for: switch "
                   "it on at the server, or write nats:// and leave those out",
                   s->host, s->port);
    return !tls || is_ended(probe) || shake_hands(probe, s, fd, why);
}

static bool try_server(struct hw_nats_probe *probe, const struct server *s,
                       char why[static HW_NATS_WHY_MAX])
{
    struct addrinfo *found = NULL;
    bool well = false;

    if (!resolve(probe, s, &found, why))
        return false;
    const int fd = dial(probe, s, found, why);
    freeaddrinfo(found);
    if (fd < 0)
        return false;
    well = talk(probe, s, fd, why);
    (void)set_fd(probe, -1);
    close(fd);
    return well;
}

/* ---- the thread ---- */

static void let_go(struct hw_nats_probe *probe)
{
    pthread_mutex_lock(&probe->lock);
    const int holders = --probe->holders;
    pthread_mutex_unlock(&probe->lock);
    if (holders > 0)
        return;
    pthread_cond_destroy(&probe->left);
    pthread_mutex_destroy(&probe->lock);
    free(probe->url);
    hw_nats_files_free(&probe->files);
    free(probe);
}

static void *run(void *arg)
{
    struct hw_nats_probe *probe = arg;
    struct server servers[SERVERS_MOST];
    const size_t count = parse_servers(probe->url, servers);
    char why[HW_NATS_WHY_MAX] = "";
    bool well = false;
    size_t len = 0;

    for (size_t i = 0; i < count && !well && !is_ended(probe); i++) {
        well = try_server(probe, &servers[i], why);
        if (!well && len < sizeof(probe->why))
            len += (size_t)snprintf(probe->why + len, sizeof(probe->why) - len, "%s%s",
                                    i > 0 ? "; " : "", why);
    }
    if (well)
        probe->why[0] = '\0';
    for (size_t i = 0; i < count; i++)
        clear_server(&servers[i]);
    OPENSSL_thread_stop(); /* frees what OpenSSL keeps for each thread */
    pthread_mutex_lock(&probe->lock);
    if (!probe->ended)
        probe->done(probe->arg);
    probe->away = true;
    pthread_cond_signal(&probe->left);
    pthread_mutex_unlock(&probe->lock);
    let_go(probe);
    return NULL;
}

struct hw_nats_probe *hw_nats_probe_start(const char *url, const struct hw_nats_files *files,
                                          void (*done)(void *arg), void *arg)
{
    struct hw_nats_probe *probe = hw_alloc(sizeof(*probe));
    pthread_attr_t attr;
    pthread_t thread;

    pthread_mutex_init(&probe->lock, NULL);
    pthread_cond_init(&probe->left, NULL);
    probe->holders = 2;
    probe->fd = -1;
    probe->done = done;
    probe->arg = arg;
    probe->url = hw_strdup(url);
    hw_nats_files_copy(&probe->files, files);
    probe->tls =
        probe->files.ca != NULL || probe->files.cert != NULL || strstr(url, "tls://") != NULL;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, run, probe) != 0) {
        snprintf(probe->why, sizeof(probe->why), "there is no thread to find out why");
        probe->away = true;
        probe->holders = 1;
        done(arg);
    }
    pthread_attr_destroy(&attr);
    return probe;
}

const char *hw_nats_probe_why(const struct hw_nats_probe *probe)
{
    return probe->why;
}

void hw_nats_probe_free(struct hw_nats_probe *probe)
{
    if (probe == NULL)
        return;
    pthread_mutex_lock(&probe->lock);
    probe->ended = true;
    if (probe->fd >= 0)
        (void)shutdown(probe->fd, SHUT_RDWR);
    /* When the program ends, OpenSSL cleans up, and no thread may be at work in it then. */
    while (!probe->away)
        pthread_cond_wait(&probe->left, &probe->lock);
    pthread_mutex_unlock(&probe->lock);
    let_go(probe);
}
