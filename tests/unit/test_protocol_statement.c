/* Signatures: the vector of docs/protocol.md, every member that is signed, and files of keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "protocol/statement.h"
#include "tests/support/nats_keys.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define OK(call) ck_assert_msg((call) == HW_OK, "%s", err.message)

#define DIGEST "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
/* The key is that of RFC 8032, section 7.1, test 1; the signatures are another program's. */
#define PRIVATE                                                                                    \
    "-----BEGIN PRIVATE KEY-----\n"                                                                \
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"                           \
    "-----END PRIVATE KEY-----\n"
#define PUBLIC                                                                                     \
    "-----BEGIN PUBLIC KEY-----\n"                                                                 \
    "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"                               \
    "-----END PUBLIC KEY-----\n"
#define ID "06e3fd8fda29bb60"
#define SIGNED                                                                                     \
    "ed25519:" ID                                                                                  \
    ":aPptclAJu3Z0I2yyuiwbuhUg8I+bQQAnzYYo+xnUoMK8RG5FVbVNThnP1pmMoFcfZTRMcQH6X0jkaIhQJaCyCg=="
#define DELETED                                                                                    \
    "ed25519:" ID                                                                                  \
    ":INWOHoNlxQ4W6rAODIf32CZoPFdtktKhZsBhU8GqMgTM0msD5qomaL+YZDLiaSBPxGMJOMwYeaRKm97UqJlvBw=="

static const struct hw_statement set = {.node = "daq-2",
                                        .fence = {1, 0x16B3748},
                                        .digest = DIGEST,
                                        .revision = 3,
                                        .size = 3,
                                        .media_type = "text/plain"};
static const struct hw_statement deleted = {.node = "daq-2", .fence = {1, 0x16B3748}};

static struct hw_error err;

static char *write_file(const char *name, const char *text)
{
    HW_AUTO_FREE char *dir = test_temp_dir();
    char *path = hw_sprintf("%s/%s", dir, name);
    FILE *file = fopen(path, "we");

    ck_assert(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
    ck_assert_int_eq(chmod(path, 0600), 0);
    return path;
}

START_TEST(test_the_vector)
{
    HW_AUTO_FREE char *private = write_file("key", PRIVATE);
    HW_AUTO_FREE char *public = write_file("pub", PUBLIC);
    struct hw_signer *signer;
    struct hw_trust *trust;

    OK(hw_signer_open(private, &signer, &err));
    OK(hw_trust_open(public, &trust, &err));
    ck_assert_str_eq(hw_signer_id(signer), ID);
    ck_assert_str_eq(hw_trust_ids(trust), ID);
    HW_AUTO_FREE char *text = hw_statement_text(&set);
    ck_assert_str_eq(text, "headwater-desired-v1\nnode daq-2\nepoch 1\nlsn 0/16B3748\nrevision 3\n"
                           "digest " DIGEST "\nsize 3\nmedia_type text/plain\n");
    HW_AUTO_FREE char *nothing = hw_statement_text(&deleted);
    ck_assert_str_eq(nothing,
                     "headwater-desired-v1\nnode daq-2\nepoch 1\nlsn 0/16B3748\ndeleted\n");
    HW_AUTO_FREE char *one = hw_signer_sign(signer, &set);
    HW_AUTO_FREE char *again = hw_signer_sign(signer, &set);
    HW_AUTO_FREE char *other = hw_signer_sign(signer, &deleted);
    ck_assert_str_eq(one, SIGNED);
    ck_assert_str_eq(again, SIGNED);
    ck_assert_str_eq(other, DELETED);
    OK(hw_trust_check(trust, &set, SIGNED, &err));
    OK(hw_trust_check(trust, &deleted, DELETED, &err));
    hw_trust_free(trust);
    hw_signer_free(signer);
}
END_TEST

static void refused(const struct hw_trust *trust, const struct hw_statement *statement,
                    const char *signature, const char *words)
{
    ck_assert_int_eq(hw_trust_check(trust, statement, signature, &err), HW_EINVAL);
    ck_assert_msg(strstr(err.message, words) != NULL, "%s", err.message);
}

START_TEST(test_every_member_counts)
{
    HW_AUTO_FREE char *public = write_file("pub", PUBLIC);
    struct hw_statement altered[9];
    struct hw_trust *trust;

    OK(hw_trust_open(public, &trust, &err));
    for (size_t i = 0; i < HW_COUNT(altered); i++)
        altered[i] = set;
    altered[0].node = "daq-3";
    altered[1].fence.epoch = 2;
    altered[2].fence.lsn++;
    altered[3].revision++;
    altered[4].digest = "sha256:"
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ae";
    altered[5].size++;
    altered[6].media_type = "text/html";
    altered[7].digest = NULL;
    altered[8].media_type = "text/plain\n";
    for (size_t i = 0; i < HW_COUNT(altered); i++)
        refused(trust, &altered[i], SIGNED, "not of this entry");
    refused(trust, &set, DELETED, "not of this entry");
    altered[0] = deleted;
    altered[0].fence.lsn--;
    refused(trust, &altered[0], DELETED, "not of this entry");
    hw_trust_free(trust);
}
END_TEST

START_TEST(test_what_is_no_signature)
{
    HW_AUTO_FREE char *public = write_file("pub", PUBLIC);
    struct hw_trust *trust;
    char text[sizeof(SIGNED)] = SIGNED;

    OK(hw_trust_open(public, &trust, &err));
    refused(trust, &set, NULL, "not signed");
    refused(trust, &set, "", "not a signature");
    refused(trust, &set, "ed25519:" ID ":", "not a signature");
    refused(trust, &set, SIGNED "=", "not a signature");
    refused(trust, &set, SIGNED + 1, "not a signature");
    for (size_t i = 0; i < strlen(SIGNED); i++) {
        text[i] ^= 1;
        ck_assert_int_eq(hw_trust_check(trust, &set, text, &err), HW_EINVAL);
        text[i] ^= 1;
    }
    text[strlen("ed25519:")] = '1';
    refused(trust, &set, text, "key 16e3fd8fda29bb60, which is not trusted (but " ID " is)");
    hw_trust_free(trust);
}
END_TEST

START_TEST(test_two_keys_are_trusted)
{
    HW_AUTO_FREE char *dir = test_temp_dir();
    HW_AUTO_FREE char *private = hw_sprintf("%s/new.key", dir);
    HW_AUTO_FREE char *public = hw_sprintf("%s/new.pub", dir);
    HW_AUTO_FREE char *old = write_file("pub", PUBLIC);
    struct hw_signer *signer;
    struct hw_trust *trust;

    test_sign_keys(dir, "new");
    HW_AUTO_FREE char *text = test_read_file(public);
    HW_AUTO_FREE char *both = hw_sprintf("A comment\n%s\n%s", text, PUBLIC);
    const char *const paths[] = {hw_sprintf("%s:%s", old, public), write_file("both", both)};

    OK(hw_signer_open(private, &signer, &err));
    HW_AUTO_FREE char *signature = hw_signer_sign(signer, &set);
    for (size_t i = 0; i < HW_COUNT(paths); i++) {
        OK(hw_trust_open(paths[i], &trust, &err));
        OK(hw_trust_check(trust, &set, signature, &err));
        OK(hw_trust_check(trust, &set, SIGNED, &err));
        hw_trust_free(trust);
        free((char *)(uintptr_t)paths[i]);
    }
    OK(hw_trust_open(public, &trust, &err));
    refused(trust, &set, SIGNED, "key " ID ", which is not trusted");
    hw_trust_free(trust);
    hw_signer_free(signer);
}
END_TEST

static char *make(const char *options, const char *name)
{
    HW_AUTO_FREE char *dir = test_temp_dir();
    char *path = hw_sprintf("%s/%s", dir, name);
    HW_AUTO_FREE char *command = hw_sprintf("umask 077; openssl %s > %s", options, path);
    char *said;

    ck_assert_msg(test_program_run((const char *const[]){"/bin/sh", "-c", command, NULL}, NULL,
                                   NULL, &said) == 0,
                  "%s", said);
    free(said);
    return path;
}

START_TEST(test_files_that_cannot_be_used)
{
    HW_AUTO_FREE char *private = write_file("key", PRIVATE);
    HW_AUTO_FREE char *public = write_file("pub", PUBLIC);
    HW_AUTO_FREE char *shown = write_file("shown", PRIVATE);
    HW_AUTO_FREE char *junk = write_file("junk", "neither\n");
    HW_AUTO_FREE char *damaged = write_file("damaged", PUBLIC "-----BEGIN PUBLIC KEY-----\nMCow\n");
    HW_AUTO_FREE char *encrypted =
        make("genpkey -algorithm ed25519 -aes256 -pass pass:secret", "encrypted");
    HW_AUTO_FREE char *curve =
        make("genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-256", "curve");
    HW_AUTO_FREE char *of_curve = hw_sprintf("pkey -pubout -in %s", curve);
    HW_AUTO_FREE char *curve_public = make(of_curve, "curve.pub");
    HW_AUTO_FREE char *two = hw_sprintf("%s:/nowhere/key", public);
    const struct {
        const char *path, *words;
    } privates[] = {{"/nowhere/key", "No such file"},
                    {junk, "no PEM private key"},
                    {public, "no PEM private key"},
                    {encrypted, "not encrypted"},
                    {curve, "not an Ed25519 key"},
                    {shown, "every user of this machine"},
                    {"", "No such file"}};
    const struct {
        const char *path, *words;
    } publics[] = {{"/nowhere/key", "No such file"},
                   {junk, "no PEM public key"},
                   {private, "no PEM public key"},
                   {curve_public, "not an Ed25519 key"},
                   {damaged, "damaged"},
                   {two, "/nowhere/key"},
                   {"", "No such file"}};
    struct hw_signer *signer;
    struct hw_trust *trust;

    ck_assert_int_eq(chmod(shown, 0604), 0);
    for (size_t i = 0; i < HW_COUNT(privates); i++) {
        ck_assert_int_ne(hw_signer_open(privates[i].path, &signer, &err), HW_OK);
        ck_assert_msg(strstr(err.message, privates[i].words) != NULL, "%zu: %s", i, err.message);
        ck_assert_ptr_null(strstr(err.message, "MC4C"));
    }
    for (size_t i = 0; i < HW_COUNT(publics); i++) {
        ck_assert_int_ne(hw_trust_open(publics[i].path, &trust, &err), HW_OK);
        ck_assert_msg(strstr(err.message, publics[i].words) != NULL, "%zu: %s", i, err.message);
    }
    ck_assert_int_eq(chmod(shown, 0640), 0); /* a group may have been made for it */
    OK(hw_signer_open(shown, &signer, &err));
    hw_signer_free(signer);
}
END_TEST

TEST_MAIN("signature", 60, test_the_vector, test_every_member_counts, test_what_is_no_signature,
          test_two_keys_are_trusted, test_files_that_cannot_be_used)
