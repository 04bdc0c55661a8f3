#include "protocol/permissions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "nats/kv.h"
#include "nats/nkey.h"
#include "nats/objstore.h"
#include "protocol/keys.h"
#include "protocol/subjects.h"

/* In the patterns below, @ stands for the bucket, and * for the node, or for ">" where all nodes
 * are meant. */
#define GET     "$JS.API.DIRECT.GET."
#define INFO    "$JS.API.STREAM.INFO."
#define REPORTS "@" HW_BUCKET_REPORTS
#define REPORT  "$KV." REPORTS "." /* with a key behind it: the subject that stores a report */

/* Nobody answers a sign of life. Where one is sent with a subject for an answer, nats-server would
 * remember for two minutes whom the answer is for: 300,000 of them took 215 MB, and 7 MB with this.
 */
#define ALIVE     "@." HW_SUBJECT_ALIVE ".*"
#define FORGOTTEN ", threshold: \"1ms\""

static const char *const services[] = {
    GET HW_KV_STREAM "@.$KV.@." HW_KEY_DESIRED "*",
    GET HW_KV_STREAM "@.$KV.@." HW_KEY_DECIDED "*",
    GET HW_KV_STREAM REPORTS "." REPORT HW_KEY_REPORTED "*",
    GET HW_KV_STREAM REPORTS "." REPORT HW_KEY_PROPOSED "*",
    REPORT HW_KEY_REPORTED "*",
    REPORT HW_KEY_PROPOSED "*",
    ALIVE,
    /* Every node may read objects: metadata by name, and chunks by the identifier in these. */
    GET HW_OBJ_STREAM "@.$O.@.M.>",
    GET HW_OBJ_STREAM "@",
};
/* What the API asks about; nodes do not. */
static const char *const looks[] = {
    "@." HW_SUBJECT_LEADER,
    INFO HW_KV_STREAM "@",
    INFO HW_KV_STREAM REPORTS,
    INFO HW_OBJ_STREAM "@",
};
static const char *const hints[] = {"@." HW_HINT_DESIRED "*", "@." HW_HINT_DECIDED "*"};

static char *subject_of(const char *pattern, const char *bucket, const char *node)
{
    struct hw_buf out = {0};

    for (; *pattern != '\0'; pattern++)
        if (*pattern == '@')
            hw_buf_puts(&out, bucket);
        else if (*pattern == '*')
            hw_buf_puts(&out, node);
        else
            hw_buf_add(&out, pattern, 1);
    return out.data;
}

/* suffix: what follows the name of the bucket in that of the account. */
static enum hw_status begin(const char *bucket, const char *suffix, const char *list,
                            const struct hw_nats_files *files, struct hw_error *err)
{
    const bool known = files->nkey != NULL && *files->nkey != '\0';
    char key[HW_NKEY_PUBLIC_MAX];

    if (!hw_kv_bucket_valid(bucket))
        return hw_fail(err, HW_EINVAL, "--bucket: \"%s\" is not a bucket name", bucket);
    if (known && hw_nkey_public_of_file(files->nkey, key, err) != HW_OK)
        return hw_fail_in(err, "--nats-nkey");
    printf("\"%s%s\": {\n", bucket, suffix);
    if (*suffix == '\0')
        printf("  jetstream: enabled\n");
    if (known)
        printf("  users: [{nkey: \"%s\"}]\n", key);
    else
        printf("  # With --nats-nkey FILE, the public key of that seed is here.\n  users: []\n");
    printf("  %s: [\n", list);
    return HW_OK;
}

/*
 * What the users of the account may publish: what it imports, and nothing else. A subject that is
 * not imported stays in the account, save some that nats-server itself listens to in every account:
 * before 2.10.27 and 2.11.1 it deletes all streams of an account for whoever asks
 * $JS.API.ACCOUNT.PURGE. Takes the names.
 */
static void print_publish(char *const *names, size_t count)
{
    printf("  ]\n  default_permissions: {publish: [\n");
    for (size_t i = 0; i < count; i++) {
        printf("    \"%s\"\n", names[i]);
        free(names[i]);
    }
    puts("  ]}\n}");
}

enum hw_status hw_permissions_reconciler(const char *bucket, const struct hw_nats_files *files,
                                         struct hw_error *err)
{
    const enum hw_status status = begin(bucket, "", "exports", files, err);

    if (status != HW_OK)
        return status;
    for (size_t i = 0; i < HW_COUNT(services); i++) {
        HW_AUTO_FREE char *subject = subject_of(services[i], bucket, ">");

        printf("    {service: \"%s\"%s}\n", subject,
               strcmp(services[i], ALIVE) == 0 ? FORGOTTEN : "");
    }
    for (size_t i = 0; i < HW_COUNT(looks); i++) {
        HW_AUTO_FREE char *subject = subject_of(looks[i], bucket, "");

        printf("    {service: \"%s\"}\n", subject);
    }
    for (size_t i = 0; i < HW_COUNT(hints); i++) {
        HW_AUTO_FREE char *subject = subject_of(hints[i], bucket, ">");

        printf("    {stream: \"%s\"}\n", subject);
    }
    puts("  ]\n}");
    return HW_OK;
}

enum hw_status hw_permissions_api(const char *bucket, const struct hw_nats_files *files,
                                  struct hw_error *err)
{
    /* No node can have an account of this name. */
    const enum hw_status status = begin(bucket, "/api", "imports", files, err);
    char *named[HW_COUNT(looks)]; /* as the API names them */

    if (status != HW_OK)
        return status;
    for (size_t i = 0; i < HW_COUNT(looks); i++) {
        HW_AUTO_FREE char *subject = subject_of(looks[i], bucket, "");

        printf("    {service: {account: \"%s\", subject: \"%s\"}", bucket, subject);
        if (*subject == '$') { /* this account has no JetStream, and would answer for itself */
            named[i] =
                hw_sprintf("%s." HW_SUBJECT_STREAMS ".%s", bucket, strrchr(subject, '.') + 1);
            printf(", to: \"%s\"", named[i]);
        } else {
            named[i] = HW_TAKE(subject);
        }
        printf("}\n");
    }
    print_publish(named, HW_COUNT(looks));
    return HW_OK;
}

enum hw_status hw_permissions_node(const char *bucket, const char *node, const char *prefix,
                                   const struct hw_nats_files *files, struct hw_error *err)
{
    static const char api[] = "$JS.API.";
    const bool mapped = prefix != NULL && *prefix != '\0';
    char *named[HW_COUNT(services)]; /* as the node names them */
    enum hw_status status;

    if (mapped && !hw_kv_key_valid(prefix))
        return hw_fail(err, HW_EINVAL, "--nats-prefix: \"%s\" is not the beginning of a subject",
                       prefix);
    HW_AUTO_FREE char *suffix = hw_sprintf(".%s", node);
    status = begin(bucket, suffix, "imports", files, err);
    if (status != HW_OK)
        return status;
    for (size_t i = 0; i < HW_COUNT(services); i++) {
        HW_AUTO_FREE char *subject = subject_of(services[i], bucket, node);

        printf("    {service: {account: \"%s\", subject: \"%s\"}", bucket, subject);
        if (mapped &&
            *subject == '$') { /* a leaf node denies these, so the agent asks by the prefix */
            named[i] =
                hw_sprintf("%s.%s", prefix,
                           subject + (strncmp(subject, api, strlen(api)) == 0 ? strlen(api) : 0));
            printf(", to: \"%s\"", named[i]);
        } else {
            named[i] = HW_TAKE(subject);
        }
        printf("}\n");
    }
    for (size_t i = 0; i < HW_COUNT(hints); i++) {
        HW_AUTO_FREE char *subject = subject_of(hints[i], bucket, node);

        printf("    {stream: {account: \"%s\", subject: \"%s\"}}\n", bucket, subject);
    }
    print_publish(named, HW_COUNT(services));
    return HW_OK;
}
