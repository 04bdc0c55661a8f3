#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "http/address.h"
#include "tests/support/suite.h"

START_TEST(test_address)
{
    static const struct {
        const char *text;
        bool loopback;
    } good[] = {{"127.0.0.1:8080", true}, {"127.9.9.9:0", true},  {"localhost:80", true},
                {"[::1]:8080", true},     {"0.0.0.0:1", false},   {"[::]:1", false},
                {"10.0.0.1:80", false},   {"[fe80::1]:80", false}};
    static const char *const bad[] = {"",
                                      "8080",
                                      ":8080",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "example.org:80",
                                      "::1:8080",
                                      "127.0.0.1:99999",
                                      "[::1]",
                                      "[127.0.0.1]:1",
                                      "127.0.0.1:http",
                                      "127.1:80",
                                      "010.0.0.1:80"};
    struct hw_address address;
    struct hw_error err;

    for (size_t i = 0; i < HW_COUNT(good); i++) {
        ck_assert_msg(hw_address_parse(good[i].text, &address, &err) == HW_OK, "%s", good[i].text);
        ck_assert_int_eq(hw_address_is_loopback(&address), good[i].loopback);
    }
    for (size_t i = 0; i < HW_COUNT(bad); i++)
        ck_assert_msg(hw_address_parse(bad[i], &address, &err) != HW_OK, "%s was taken", bad[i]);
}
END_TEST

START_TEST(test_listen)
{
    static const char *const texts[] = {"127.0.0.1:0", "[::1]:0"};
    char first[HW_ADDRESS_MAX], again[HW_ADDRESS_MAX];
    struct hw_address address;
    struct hw_error err;
    int fd, other;

    for (size_t i = 0; i < HW_COUNT(texts); i++) {
        ck_assert_int_eq(hw_address_parse(texts[i], &address, &err), HW_OK);
        if (hw_address_listen(&address, &fd, &err) != HW_OK) {
            ck_assert_msg(i == 1, "%s", err.message); /* a machine without IPv6 */
            continue;
        }
        hw_address_format_bound(fd, first);
        ck_assert_msg(strncmp(first, texts[i], strlen(texts[i]) - 1) == 0, "%s", first);
        ck_assert_int_eq(hw_address_parse(first, &address, &err), HW_OK);
        ck_assert_int_ne(hw_address_listen(&address, &other, &err), HW_OK);
        ck_assert_msg(strstr(err.message, first) != NULL, "%s", err.message);
        close(fd);
        ck_assert_int_eq(hw_address_listen(&address, &fd, &err), HW_OK);
        hw_address_format_bound(fd, again);
        ck_assert_str_eq(again, first);
        close(fd);
    }
    hw_address_format_bound(-1, first);
    ck_assert_str_eq(first, "");
}
END_TEST

START_TEST(test_host)
{
    static const char *const ours[] = {"a",         "localhost:80",   "127.0.0.1", "10.0.0.1:8080",
                                       "[::1]:808", "a.localhost:80", ""};
    static const char *const foreign[] = {"example.org", "127.0.0.1.example.org:80", ".localhost",
                                          "localhost.", "127.0.0.1."};

    for (size_t i = 0; i < HW_COUNT(ours); i++)
        ck_assert_msg(hw_address_is_local_host(ours[i]), "%s", ours[i]);
    for (size_t i = 0; i < HW_COUNT(foreign); i++)
        ck_assert_msg(!hw_address_is_local_host(foreign[i]), "%s", foreign[i]);
}
END_TEST

TEST_MAIN("address", 10, test_address, test_listen, test_host)
