/* An address is taken when it is a number and a port, and refused in words when it is
 * not. */
#include "consensus/channel_address.h"
#include "support/test_main.h"

#include <string.h>

static const struct {
    const char *text;
    bool good;
} ADDRESSES[] = {
    {"1.2.3.4:5", true},      {"[::1]:80", true},
    {"1.2.3.4:65535", true},  {"1.2.3.4:0", false},
    {"1.2.3.4:65536", false}, {"1.2.3.4", false},
    {":80", false},           {"", false},
    {"[]:80", false},         {"[::1:80", false},
    {"1.2.3.4:", false},      {"1.2.3.4:8x", false},
    {"1.2.3.4:+8", false},    {"host:80", false},
    {"1.2.3.4: 8", false},
};

START_TEST(addresses_are_ip_and_port)
{
    struct sockaddr_storage address;
    struct err err = {0};
    int r = channel_parse_address(ADDRESSES[_i].text, &address, &err);
    ck_assert_msg((r == 0) == ADDRESSES[_i].good, "%s", ADDRESSES[_i].text);
    ck_assert(ADDRESSES[_i].good || strstr(err.text, "expected ip:port") != NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("channel_address");
    TCase *tcase = tcase_create("channel_address");
    tcase_add_loop_test(tcase, addresses_are_ip_and_port, 0,
                        (int)(sizeof(ADDRESSES) / sizeof(ADDRESSES[0])));
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
