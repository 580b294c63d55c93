/* Goal: the pin of a certificate is what curl compares, and no text overruns the parser.
 */
#include "cli/certificate_pin.h"
#include "cli_fixture.h"

/* openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256
 * -binary | base64 */
static const char certificate[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBcTCCARegAwIBAgIUMYPB5jSZtFFcwO7wNTW4fnScHmMwCgYIKoZIzj0EAwIw\n"
    "DTELMAkGA1UEAwwCaDEwIBcNMjYxMTI2MTkwODQ0WhgPMjEyNjExMDIxOTA4NDRa\n"
    "MA0xCzAJBgNVBAMMAmgxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaFldLqQK\n"
    "ytc6xndK80dJzzWR7OPpdul1Ab5bIO/L7aK52SCCxBsikmNM0W6lVsWDfT2FZZU+\n"
    "RzhQ5fU4JW/oCqNTMFEwHQYDVR0OBBYEFAIYybl7Oa99Y3smUg/97tN8YFv7MB8G\n"
    "A1UdIwQYMBaAFAIYybl7Oa99Y3smUg/97tN8YFv7MA8GA1UdEwEB/wQFMAMBAf8w\n"
    "CgYIKoZIzj0EAwIDSAAwRQIhAMIc23pefxnxDDebqsrU8J4KNIBSciftQRiAQSKs\n"
    "/EmnAiBnFRVI2IFbhomVlltRzqM+0KXSkfMmSqd8mdZpo34twA==\n"
    "-----END CERTIFICATE-----\n";
#define PIN "sha256//5D2ZRabgvJbN9CRjITkwJSW/cvACIm3XB35PFAnAtDo="

START_TEST(a_certificate_has_the_pin_that_openssl_gives)
{
    char pin[PIN_TEXT_SIZE];
    ck_assert_int_eq(certificate_pin(certificate, pin), 0);
    ck_assert_str_eq(pin, PIN);
}
END_TEST

START_TEST(the_first_certificate_of_a_text_counts_whatever_stands_before)
{
    char text[8192];
    char pin[PIN_TEXT_SIZE];
    snprintf(text, sizeof(text), "subject: h1\n%s%s", certificate, certificate);
    ck_assert_int_eq(certificate_pin(text, pin), 0);
    ck_assert_str_eq(pin, PIN);
}
END_TEST

START_TEST(no_cut_or_bent_certificate_is_read_beyond_its_end)
{
    size_t size = strlen(certificate);
    char pin[PIN_TEXT_SIZE];
    for (size_t cut = 0; cut < size; cut++) {
        char *text = strndup(certificate, cut); /* so that ASan sees a read beyond */
        int r = certificate_pin(text, pin);
        ck_assert(r == 0 || r == BERTH_EINVALID);
        free(text);
        text = strdup(certificate);
        text[cut] = (char)(text[cut] == 'A' ? '/' : 'A');
        r = certificate_pin(text, pin);
        ck_assert(r == 0 || r == BERTH_EINVALID);
        free(text);
    }
}
END_TEST

static const char *const others[] = {
    "",
    "hello",
    "-----BEGIN CERTIFICATE-----",
    "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
    "-----BEGIN CERTIFICATE-----\nMIA=\n-----END CERTIFICATE-----\n",
    "-----BEGIN CERTIFICATE-----\nMIT/////\n-----END CERTIFICATE-----\n",
    "-----BEGIN PRIVATE KEY-----\nMIA=\n-----END PRIVATE KEY-----\n",
};

START_TEST(a_text_without_a_certificate_has_no_pin)
{
    char pin[PIN_TEXT_SIZE];
    ck_assert_int_eq(certificate_pin(others[_i], pin), BERTH_EINVALID);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("certificate_pin", &tests);
    tcase_add_test(tests, a_certificate_has_the_pin_that_openssl_gives);
    tcase_add_test(tests, the_first_certificate_of_a_text_counts_whatever_stands_before);
    tcase_add_test(tests, no_cut_or_bent_certificate_is_read_beyond_its_end);
    tcase_add_loop_test(tests, a_text_without_a_certificate_has_no_pin, 0,
                        sizeof(others) / sizeof(others[0]));
    return test_main_run(suite);
}
