/* Every text form of a number: what is accepted prints, and its print gives the same
 * value. */
#include "base/parse_number.h"
#include "base/require.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_scaled(const char *text)
{
    char print[NUMBER_TEXT_SIZE];
    uint64_t value = 0;
    uint64_t again = 0;
    if (parse_bytes(text, &value, NULL) == 0) {
        format_bytes(value, print);
        REQUIRE(parse_bytes(print, &again, NULL) == 0 && again == value);
        format_bytes_human(value, print);
    }
    if (parse_rate(text, &value, NULL) == 0) {
        format_rate(value, print);
        REQUIRE(parse_rate(print, &again, NULL) == 0 && again == value);
    }
    if (parse_duration_ms(text, &value, NULL) == 0) {
        format_duration_ms(value, print);
        REQUIRE(parse_duration_ms(print, &again, NULL) == 0 && again == value);
    }
}

static void check_small(const char *text)
{
    char print[NUMBER_TEXT_SIZE];
    uint32_t value = 0;
    uint32_t again = 0;
    if (parse_mcpu(text, &value, NULL) == 0) {
        format_mcpu(value, print);
        REQUIRE(parse_mcpu(print, &again, NULL) == 0 && again == value);
    }
    if (parse_permille(text, &value, NULL) == 0) {
        format_permille(value, print);
        REQUIRE(parse_permille(print, &again, NULL) == 0 && again == value);
    }
}

static void check_addresses(const char *text)
{
    char print[NUMBER_TEXT_SIZE];
    uint32_t address = 0;
    uint32_t bits = 0;
    uint64_t mac = 0;
    if (parse_ipv4(text, &address, NULL) == 0) {
        format_ipv4(address, print);
        REQUIRE(strcmp(print, text) == 0);
    }
    if (parse_cidr(text, &address, &bits, NULL) == 0) {
        format_cidr(address, bits, print);
        REQUIRE(strcmp(print, text) == 0);
    }
    if (parse_mac(text, &mac, NULL) == 0) {
        format_mac(mac, print);
        REQUIRE(strcasecmp(print, text) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size);
    REQUIRE(text != NULL);
    struct err err = {0};
    uint64_t value = 0;
    if (parse_u64(text, &value, &err) < 0) {
        REQUIRE(err.text[0] != '\0');
    }
    check_scaled(text);
    check_small(text);
    check_addresses(text);
    free(text);
    return 0;
}
