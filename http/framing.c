#include "http/framing.h"

#include <dlfcn.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/json_text.h"
#include "base/memory.h"
#include "http/answer.h"

static void fail(struct http_fault *fault, const struct http_problem *problem, const char *detail)
{
    fault->problem = problem;
    snprintf(fault->detail, sizeof(fault->detail), "%s", detail);
}

static const char line_detail[] =
    "The request line cannot be read: it is METHOD, TARGET and HTTP/1.1, with one blank in between";

/* ---- what the library lets pass ---- */

/*
 * Two readers of the same bytes, such as a proxy and this service, must see the same requests in
 * them; otherwise the body of one becomes a request that nobody has let through (RFC 9112 section
 * 11.2). So a head has CR LF at the end of each line, names without blanks, values on one line and
 * without control characters, and no NUL. From version 1.0 on the library sees to this itself where
 * MHD_OPTION_CLIENT_DISCIPLINE_LVL is 1. Version 0.9.75 ends a line at a bare CR or LF, and a value
 * at a NUL; it glues a folded line (obs-fold) to the name in front of it, of which a condition, or
 * a field of framing, then becomes another field.
 *
 * What it has done can be seen. It parses the head in place: it ends each part with a NUL where the
 * separator was, and passes pointers to the parts. So each part must begin where the one before
 * ended, behind as many NULs as the separator between them has bytes.
 */
struct strict_reading {
    const struct http_line *line;
    const char *next; /* where the next name must begin */
    const char *end;  /* of the head */
    bool in_place;    /* the version does it so */
    const char *fault;
};

static bool is_token(const char *name)
{
    static const char marks[] = "!#$%&'*+-.^_`|~"; /* RFC 9110 section 5.6.2 */

    for (const char *p = name; *p != '\0'; p++)
        if (!((*p >= '0' && *p <= '9') || ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z') ||
              strchr(marks, *p) != NULL))
            return false;
    return *name != '\0';
}

static bool has_control(const char *value)
{
    for (const unsigned char *p = (const unsigned char *)value; *p != '\0'; p++)
        if ((*p < 0x20 && *p != '\t') || *p == 0x7f)
            return true;
    return false;
}

static enum MHD_Result note_strictly(void *arg, enum MHD_ValueKind kind, const char *name,
                                     const char *value)
{
    struct strict_reading *reading = arg;

    (void)kind;
    if (value == NULL)
        value = "";
    if (*value == '\0' && strcasecmp(name, MHD_HTTP_HEADER_COOKIE) == 0 &&
        !(name >= reading->line->method && name < reading->end))
        return MHD_YES; /* the server's own (spare_library) */
    if (!is_token(name))
        reading->fault = "A header field has a name with a blank or another character that no name "
                         "has, or goes on in a second line";
    else if (has_control(value))
        reading->fault = "A header field has a control character in its value";
    else if (reading->in_place && name != reading->next)
        reading->fault = "A header field goes on in a second line, holds a NUL, or ends with a CR "
                         "or LF alone";
    if (reading->fault != NULL)
        return MHD_NO;
    reading->next = value + strlen(value) + 2;
    return MHD_YES;
}

bool http_framing_is_strict(struct MHD_Connection *connection, const struct http_line *line,
                            struct http_fault *fault)
{
    const size_t size =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)->header_size;
    struct strict_reading reading = {.line = line,
                                     .end = line->method + size,
                                     .next = line->version + strlen(line->version) + 2,
                                     .in_place = *MHD_get_version() == '0'};

    if (strchr(line->target, ' ') != NULL || has_control(line->target) ||
        (reading.in_place && (line->url != line->method + strlen(line->method) + 1 ||
                              line->version != line->url + strlen(line->target) + 1)))
        reading.fault = line_detail;
    else
        MHD_get_connection_values(connection, MHD_HEADER_KIND, note_strictly, &reading);
    /* The empty line that ends the head. */
    if (reading.fault == NULL && reading.in_place && reading.next + 2 != reading.end)
        reading.fault = "The header fields hold a NUL, or a line ends with a CR or LF alone";
    if (reading.fault != NULL)
        fail(fault, &http_malformed_request, reading.fault);
    return reading.fault == NULL;
}

/* ---- what we find ---- */

struct reading {
    struct MHD_Connection *connection;
    struct http_head *head;
};

static enum MHD_Result note_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    const struct reading *reading = arg;
    struct http_head *head = reading->head;
    const char *if_match = NULL, *if_none_match = NULL, *idempotency_key = NULL;
    const struct {
        const char *name;
        const char **place;
    } single[] = {
        {MHD_HTTP_HEADER_CONTENT_LENGTH, &head->content_length},
        {MHD_HTTP_HEADER_TRANSFER_ENCODING, &head->transfer_encoding},
        {MHD_HTTP_HEADER_CONTENT_TYPE, &head->content_type},
        {MHD_HTTP_HEADER_CONTENT_RANGE, &head->content_range},
        {MHD_HTTP_HEADER_HOST, &head->host},
        {MHD_HTTP_HEADER_AUTHORIZATION, &head->authorization},
        {MHD_HTTP_HEADER_IF_MATCH, &if_match},
        {MHD_HTTP_HEADER_IF_NONE_MATCH, &if_none_match},
        {HTTP_IDEMPOTENCY_KEY, &idempotency_key},
    };

    (void)kind;
    if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_ENCODING) == 0 &&
        strcasecmp(value != NULL ? value : "", "identity") != 0)
        head->content_coding = value != NULL ? value : "";
    for (size_t i = 0; i < HW_COUNT(single); i++) {
        if (strcasecmp(name, single[i].name) != 0)
            continue;
        /* A look-up by name finds the first field of that name: this one must be it. */
        if (*single[i].place != NULL ||
            MHD_lookup_connection_value(reading->connection, MHD_HEADER_KIND, name) != value)
            head->twice = single[i].name;
        *single[i].place = value;
    }
    return MHD_YES;
}

void http_head_read(struct MHD_Connection *connection, struct http_head *head)
{
    struct reading reading = {.connection = connection, .head = head};

    *head = (struct http_head){0};
    MHD_get_connection_values(connection, MHD_HEADER_KIND, note_header, &reading);
}

size_t http_head_length(const struct http_head *head)
{
    return head->content_length != NULL ? strtoull(head->content_length, NULL, 10) : 0;
}

bool http_head_has_body(const struct http_head *head)
{
    return head->transfer_encoding != NULL || http_head_length(head) > 0;
}

static bool names_no_coding(const struct http_head *head)
{
    return head->transfer_encoding == NULL || strcasecmp(head->transfer_encoding, "chunked") == 0;
}

static void fail_coding(struct http_fault *fault)
{
    fail(fault, &http_not_implemented, "Transfer-Encoding: only chunked is known");
}

bool http_framing_judge(const struct http_head *head, const char *version, struct http_fault *fault)
{
    if (head->twice != NULL) {
        fault->problem = &http_malformed_request;
        snprintf(fault->detail, sizeof(fault->detail), "%s: is given twice", head->twice);
    } else if (head->transfer_encoding != NULL && head->content_length != NULL) {
        fail(fault, &http_malformed_request,
             "Content-Length and Transfer-Encoding exclude each other");
    } else if (!names_no_coding(head)) {
        fail_coding(fault);
    } else if (head->host == NULL && strcmp(version, "HTTP/1.1") == 0) {
        fail(fault, &http_malformed_request, "Host: is missing");
    } else {
        return true;
    }
    return false;
}

/* ---- what the library finds ---- */

static const char head_detail[] =
    "The header fields cannot be read: each is NAME: VALUE on a line of its own, Content-Length is "
    "a number that is given once, and HTTP/1.1 asks for Host";
static const char chunk_detail[] = "The chunks of the body cannot be read";

/* The library tells no more than a status, and which one depends on its version. So the problem is
 * found by the status and by how far the request had come. */
static void judge_refusal(struct MHD_Connection *connection, unsigned status, enum http_stage stage,
                          struct http_fault *fault)
{
    struct http_head head;

    switch (status) {
    case MHD_HTTP_CONTENT_TOO_LARGE:
        fail(fault, &http_too_large,
             stage == HTTP_IN_BODY ? "A chunk is larger than any body may be"
                                   : "The body is larger than any may be");
        return;
    case MHD_HTTP_URI_TOO_LONG:
        fail(fault, &http_target_too_long,
             "Request line and header fields may have 16 KiB together");
        return;
    case MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE:
        fail(fault, &http_headers_too_large,
             "Request line and header fields may have 16 KiB together");
        return;
    case MHD_HTTP_HTTP_VERSION_NOT_SUPPORTED:
        fail(fault, &http_version_not_supported, "HTTP/1.1 and HTTP/1.0 are known");
        return;
    case MHD_HTTP_INTERNAL_SERVER_ERROR:
    case MHD_HTTP_SERVICE_UNAVAILABLE:
        fail(fault, &http_overloaded, "There is no memory to read the request into");
        return;
    default:
        break;
    }
    if (stage != HTTP_IN_HEAD) {
        fail(fault, &http_malformed_request, stage == HTTP_IN_BODY ? chunk_detail : line_detail);
        return;
    }
    http_head_read(connection, &head);
    if (names_no_coding(&head))
        fail(fault, &http_malformed_request, head_detail);
    else
        fail_coding(fault);
}

/*
 * Must the problem be sent past the library? Version 0.9.75, when it refuses a head whose fields it
 * has all read, goes on with the request as if nothing had happened, and sends the head of its
 * answer twice. When it is told instead that the answer could not be queued, it sends nothing and
 * closes the connection; send_problem then sends the answer.
 */
static bool must_be_sent(unsigned status, enum http_stage stage)
{
    return stage == HTTP_IN_HEAD && *MHD_get_version() == '0' &&
           (status == MHD_HTTP_BAD_REQUEST || status == MHD_HTTP_CONTENT_TOO_LARGE);
}

/* Nothing else is on its way to the client then. The body is sent also after HEAD, because the
 * method cannot be known; the connection ends with it, so it does no harm. */
static void send_problem(struct MHD_Connection *connection, const struct http_fault *fault)
{
    const union MHD_ConnectionInfo *tls =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    const int fd =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    const int status = fault->problem->status;
    json_t *document = http_problem_document(fault->problem, fault->detail, NULL);
    HW_AUTO_FREE char *body = hw_json_text(document, false);
    HW_AUTO_FREE char *text =
        hw_sprintf("HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %zu\r\n"
                   "Content-Type: application/problem+json\r\nCache-Control: no-cache\r\n"
                   "X-Content-Type-Options: nosniff\r\n\r\n%s\n",
                   status, MHD_get_reason_phrase_for((unsigned)status), strlen(body) + 1, body);

    json_decref(document);
    if (tls != NULL)
        (void)gnutls_record_send(tls->tls_session, text, strlen(text));
    else
        (void)send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/*
 * The library asks nobody before it refuses a request, and answers with a page of HTML. But it
 * queues this answer by calling MHD_queue_response, as a program does. The program defines a
 * function of that name; the dynamic linker finds the program's definition first, also for calls
 * from within the library, so every answer passes here. This needs the library to be a shared one
 * that is not linked with -Bsymbolic; otherwise test_api_server finds HTML.
 */
static const struct http_refusals *taken;

enum MHD_Result http_framing_queue(struct MHD_Connection *connection, int status,
                                   struct MHD_Response *response)
{
    static __typeof__(MHD_queue_response) *queue;

    if (queue == NULL)
        *(void **)&queue = dlsym(RTLD_NEXT, "MHD_queue_response");
    if (queue == NULL)
        abort(); /* linked in a way that cannot work */
    return queue(connection, (unsigned)status, response);
}

enum MHD_Result MHD_queue_response(struct MHD_Connection *connection, unsigned int status,
                                   struct MHD_Response *response)
{
    struct MHD_Response *ours;
    struct http_fault fault;
    enum http_stage stage;
    enum MHD_Result result;
    int our_status;

    if (taken == NULL ||
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_DAEMON)->daemon != taken->daemon)
        return http_framing_queue(connection, (int)status, response);
    stage = taken->stage(taken->arg, connection);
    judge_refusal(connection, status, stage, &fault);
    our_status = fault.problem->status;
    taken->refused(taken->arg, connection, our_status);
    if (must_be_sent(status, stage)) {
        send_problem(connection, &fault);
        return MHD_NO;
    }
    ours = http_answer_response(fault.problem, fault.detail);
    result = http_framing_queue(connection, our_status, ours);
    MHD_destroy_response(ours);
    return result;
}

void http_framing_take_refusals(const struct http_refusals *refusals)
{
    taken = refusals;
}
