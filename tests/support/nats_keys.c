#include "tests/support/nats_keys.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/memory.h"
#include "common/nkey.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"

void test_nats_certificates(const char *dir)
{
    static const char script[] =
        "set -e; cd \"$0\"; for ca in ca other; do "
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key "
        "-out $ca.pem -subj /CN=$ca -days 2; done; printf 'subjectAltName=DNS:localhost\\n' > ext; "
        "for name in server client; do "
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key "
        "-out csr -subj /CN=$name; "
        "openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile ext "
        "-out $name.pem -days 2; done";
    char *output;

    if (test_program_run((const char *const[]){"/bin/sh", "-c", script, dir, NULL}, NULL, NULL,
                         &output) != 0)
        test_fail("openssl: %s", output);
    free(output);
}

void test_nats_seed(const char *path)
{
    unsigned char secret[HW_NKEY_BYTES];
    char seed[HW_NKEY_SEED_MAX];
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || RAND_bytes(secret, sizeof(secret)) != 1 ||
        write(fd, hw_nkey_seed(secret, seed), sizeof(seed) - 1) != (ssize_t)sizeof(seed) - 1)
        test_fail("cannot write %s", path);
    close(fd);
}
