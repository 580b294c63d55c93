#include "base/parse_number.h"

#include "base/cleanup.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define FRACTION_DIGITS_MAX 6  /* of the largest unit, this still fits 64 bits */
#define SHOWN_SIZE          48 /* how much of a wrong text an error repeats */

struct unit {
    const char *name;
    uint64_t factor;
};

/* Ascending; of two exact texts of one length the later row wins. */
static const struct unit byte_units[] = {
    {"B", 1},
    {"kB", UINT64_C(1000)},
    {"MB", UINT64_C(1000000)},
    {"GB", UINT64_C(1000000000)},
    {"TB", UINT64_C(1000000000000)},
    {"KiB", UINT64_C(1) << 10},
    {"MiB", UINT64_C(1) << 20},
    {"GiB", UINT64_C(1) << 30},
    {"TiB", UINT64_C(1) << 40},
    {NULL, 0},
};

/* Where both are as short, lines are spoken of in bits. */
static const struct unit rate_units[] = {
    {"B/s", 1},
    {"kB/s", UINT64_C(1000)},
    {"MB/s", UINT64_C(1000000)},
    {"GB/s", UINT64_C(1000000000)},
    {"TB/s", UINT64_C(1000000000000)},
    {"kbit/s", UINT64_C(125)},
    {"Mbit/s", UINT64_C(125000)},
    {"Gbit/s", UINT64_C(125000000)},
    {"Tbit/s", UINT64_C(125000000000)},
    {"KiB/s", UINT64_C(1) << 10},
    {"MiB/s", UINT64_C(1) << 20},
    {"GiB/s", UINT64_C(1) << 30},
    {"TiB/s", UINT64_C(1) << 40},
    {NULL, 0},
};

static const struct unit cpu_units[] = {{"m", 1}, {"", 1000}, {NULL, 0}};

static const struct unit duration_units[] = {
    {"ms", 1},
    {"s", 1000},
    {"m", UINT64_C(60) * 1000},
    {"h", UINT64_C(60) * 60 * 1000},
    {"d", UINT64_C(24) * 60 * 60 * 1000},
    {NULL, 0},
};

static const struct unit percent_units[] = {{"%", 10}, {NULL, 0}};

/* What an error says about the kind of number that was expected. */
struct number_kind {
    const struct unit *units;
    uint64_t value_max;
    const char *expected;
};

static const struct number_kind bytes_kind = {
    byte_units, UINT64_MAX,
    "a size with a unit, such as 4GiB (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)"};
static const struct number_kind rate_kind = {
    rate_units, UINT64_MAX,
    "a rate with a unit, such as 400MiB/s or 1Gbit/s (the units of sizes, and kbit, "
    "Mbit, "
    "Gbit, Tbit, with /s)"};
static const struct number_kind cpu_kind = {cpu_units, UINT32_MAX,
                                            "a number of CPUs, such as 2, 0.5 or 1500m"};
static const struct number_kind duration_kind = {
    duration_units, UINT64_MAX, "a duration with a unit, such as 30s (ms, s, m, h, d)"};
static const struct number_kind percent_kind = {percent_units, UINT32_MAX,
                                                "a percentage, such as 60% or 12.5%"};

/* The start of a foreign text, safe to show. */
static const char *shown(const char *text, char copy[SHOWN_SIZE])
{
    size_t size = 0;
    while (text[size] != '\0' && size < SHOWN_SIZE - 4) {
        bool is_printable = text[size] >= ' ' && text[size] <= '~';
        copy[size] = is_printable ? text[size] : '?';
        size++;
    }
    copy[size] = '\0';
    if (text[size] != '\0') {
        memcpy(copy + size, "...", 4);
    }
    return copy;
}

static int
refuse(struct err *err, const char *text, const char *problem, const char *expected)
{
    char copy[SHOWN_SIZE];
    return err_set(err, BERTH_EINVALID, "\"%s\" %s: expected %s", shown(text, copy),
                   problem, expected);
}

static bool is_digit(char character)
{
    return character >= '0' && character <= '9';
}

/* Reads digits from *at on; false when there is none or the number does not fit. */
static bool take_digits(const char **at, uint64_t *ret_value)
{
    if (!is_digit(**at)) {
        return false;
    }
    uint64_t value = 0;
    while (is_digit(**at)) {
        uint64_t digit = (uint64_t)(**at - '0');
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            return false;
        }
        (*at)++;
    }
    *ret_value = value;
    return true;
}

/* What follows the point, as value / scale. */
static bool take_fraction(const char **at, uint64_t *ret_value, uint64_t *ret_scale)
{
    *ret_value = 0;
    *ret_scale = 1;
    if (**at != '.') {
        return true;
    }
    (*at)++;
    const char *start = *at;
    if (!take_digits(at, ret_value) || *at - start > FRACTION_DIGITS_MAX) {
        return false;
    }
    for (const char *digit = start; digit < *at; digit++) {
        *ret_scale *= 10;
    }
    return true;
}

static const struct unit *unit_find(const struct unit *units, const char *name)
{
    for (const struct unit *unit = units; unit->name != NULL; unit++) {
        if (strcmp(unit->name, name) == 0) {
            return unit;
        }
    }
    return NULL;
}

static int parse_scaled(const char *text,
                        const struct number_kind *kind,
                        uint64_t *ret_value,
                        struct err *err)
{
    const char *at = text;
    uint64_t whole = 0;
    uint64_t fraction = 0;
    uint64_t scale = 1;
    if (!take_digits(&at, &whole)) {
        return refuse(err, text, is_digit(*text) ? "is too large" : "is not a number",
                      kind->expected);
    }
    if (!take_fraction(&at, &fraction, &scale)) {
        return refuse(err, text, "needs one to six digits after its point",
                      kind->expected);
    }
    const struct unit *unit = unit_find(kind->units, at);
    if (unit == NULL) {
        return refuse(err, text, *at == '\0' ? "has no unit" : "has an unknown unit",
                      kind->expected);
    }
    uint64_t value = 0;
    uint64_t part = fraction * unit->factor; /* fits: see FRACTION_DIGITS_MAX */
    if (part % scale != 0) {
        return refuse(err, text, "is finer than can be kept", kind->expected);
    }
    if (__builtin_mul_overflow(whole, unit->factor, &value) ||
        __builtin_add_overflow(value, part / scale, &value) || value > kind->value_max) {
        return refuse(err, text, "is too large", kind->expected);
    }
    *ret_value = value;
    return 0;
}

static int parse_scaled_u32(const char *text,
                            const struct number_kind *kind,
                            uint32_t *ret_value,
                            struct err *err)
{
    uint64_t value = 0;
    int r = parse_scaled(text, kind, &value, err);
    if (r == 0) {
        *ret_value = (uint32_t)value;
    }
    return r;
}

int parse_u64(const char *text, uint64_t *ret_value, struct err *err)
{
    const char *at = text;
    uint64_t value = 0;
    if (!take_digits(&at, &value) || *at != '\0') {
        return refuse(err, text, "is not such a number",
                      "a whole number from 0 to 18446744073709551615");
    }
    *ret_value = value;
    return 0;
}

int parse_bytes(const char *text, uint64_t *ret_bytes, struct err *err)
{
    return parse_scaled(text, &bytes_kind, ret_bytes, err);
}

int parse_rate(const char *text, uint64_t *ret_rate, struct err *err)
{
    return parse_scaled(text, &rate_kind, ret_rate, err);
}

int parse_mcpu(const char *text, uint32_t *ret_mcpu, struct err *err)
{
    return parse_scaled_u32(text, &cpu_kind, ret_mcpu, err);
}

int parse_duration_ms(const char *text, uint64_t *ret_ms, struct err *err)
{
    return parse_scaled(text, &duration_kind, ret_ms, err);
}

int parse_permille(const char *text, uint32_t *ret_permille, struct err *err)
{
    return parse_scaled_u32(text, &percent_kind, ret_permille, err);
}

/* The shortest text that is exact; zero takes the unit given. */
static void format_scaled(uint64_t value,
                          const struct unit *units,
                          const char *unit_of_zero,
                          char text[NUMBER_TEXT_SIZE])
{
    if (value == 0) {
        (void)snprintf(text, NUMBER_TEXT_SIZE, "0%s", unit_of_zero);
        return;
    }
    size_t best = SIZE_MAX;
    for (const struct unit *unit = units; unit->name != NULL; unit++) {
        char candidate[NUMBER_TEXT_SIZE];
        if (value % unit->factor != 0) {
            continue;
        }
        (void)snprintf(candidate, sizeof(candidate), "%" PRIu64 "%s",
                       value / unit->factor, unit->name);
        size_t size = strlen(candidate);
        if (size <= best) {
            best = size;
            memcpy(text, candidate, size + 1);
        }
    }
}

void format_bytes(uint64_t bytes, char text[NUMBER_TEXT_SIZE])
{
    format_scaled(bytes, byte_units, "B", text);
}

void format_rate(uint64_t rate, char text[NUMBER_TEXT_SIZE])
{
    format_scaled(rate, rate_units, "B/s", text);
}

void format_mcpu(uint32_t mcpu, char text[NUMBER_TEXT_SIZE])
{
    format_scaled(mcpu, cpu_units, "", text);
}

void format_duration_ms(uint64_t ms, char text[NUMBER_TEXT_SIZE])
{
    format_scaled(ms, duration_units, "s", text);
}

void format_permille(uint32_t permille, char text[NUMBER_TEXT_SIZE])
{
    if (permille % 10 == 0) {
        (void)snprintf(text, NUMBER_TEXT_SIZE, "%" PRIu32 "%%", permille / 10);
    } else {
        (void)snprintf(text, NUMBER_TEXT_SIZE, "%" PRIu32 ".%" PRIu32 "%%", permille / 10,
                       permille % 10);
    }
}

enum rounding { ROUND_NEAREST = 0, ROUND_DOWN, ROUND_UP };

static void
bytes_rounded(uint64_t bytes, enum rounding rounding, char text[NUMBER_TEXT_SIZE])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        (void)snprintf(text, NUMBER_TEXT_SIZE, "%" PRIu64 "B", bytes);
        return;
    }
    size_t name = 1;
    uint64_t unit = 1024;
    /* Up one unit as soon as the rounded number would read 1024.0. */
    uint64_t below = rounding == ROUND_DOWN ? 0 : rounding == ROUND_UP ? 10 : 20;
    while (name + 1 < ARRAY_COUNT(names) &&
           bytes >= unit * 1024 - (below > 0 ? unit / below : 0)) {
        unit *= 1024;
        name++;
    }
    uint64_t part = unit / 1024; /* of which 1024 are a unit: no overflow */
    uint64_t rest = bytes % unit;
    uint64_t parts = rest / part;
    bool more = rounding == ROUND_UP && rest % part != 0;
    uint64_t add = rounding == ROUND_NEAREST ? 512 : rounding == ROUND_DOWN ? 0 : 1023;
    uint64_t whole = bytes / unit;
    uint64_t tenths = (parts * 10 + (more ? 1 : 0) + add) / 1024;
    if (tenths == 10) {
        whole++;
        tenths = 0;
    }
    if (tenths == 0) {
        (void)snprintf(text, NUMBER_TEXT_SIZE, "%" PRIu64 "%s", whole, names[name]);
    } else {
        (void)snprintf(text, NUMBER_TEXT_SIZE, "%" PRIu64 ".%" PRIu64 "%s", whole, tenths,
                       names[name]);
    }
}

void format_bytes_human(uint64_t bytes, char text[NUMBER_TEXT_SIZE])
{
    bytes_rounded(bytes, ROUND_NEAREST, text);
}

void format_bytes_floor(uint64_t bytes, char text[NUMBER_TEXT_SIZE])
{
    bytes_rounded(bytes, ROUND_DOWN, text);
}

void format_bytes_ceiling(uint64_t bytes, char text[NUMBER_TEXT_SIZE])
{
    bytes_rounded(bytes, ROUND_UP, text);
}

/* One number, not above value_max, without leading zeros (some programs read
 * those as octal). */
static bool take_small(const char **at, uint32_t value_max, uint32_t *ret_value)
{
    const char *start = *at;
    uint64_t value = 0;
    if (!take_digits(at, &value) || value > value_max ||
        (*start == '0' && *at - start > 1)) {
        return false;
    }
    *ret_value = (uint32_t)value;
    return true;
}

static bool take_ipv4(const char **at, uint32_t *ret_address)
{
    uint32_t address = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t part = 0;
        if (i > 0) {
            if (**at != '.') {
                return false;
            }
            (*at)++;
        }
        if (!take_small(at, 255, &part)) {
            return false;
        }
        address = address << 8 | part;
    }
    *ret_address = address;
    return true;
}

int parse_ipv4(const char *text, uint32_t *ret_address, struct err *err)
{
    const char *at = text;
    uint32_t address = 0;
    if (!take_ipv4(&at, &address) || *at != '\0') {
        return refuse(err, text, "is not an IPv4 address",
                      "four numbers, such as 10.0.0.7");
    }
    *ret_address = address;
    return 0;
}

int parse_cidr(const char *text,
               uint32_t *ret_address,
               uint32_t *ret_prefix_bits,
               struct err *err)
{
    const char *at = text;
    uint32_t address = 0;
    uint32_t bits = 0;
    bool is_good = take_ipv4(&at, &address) && *at == '/';
    if (is_good) {
        at++;
        is_good = take_small(&at, 32, &bits) && *at == '\0';
    }
    if (!is_good) {
        return refuse(err, text, "is not a network", "address/bits, such as 10.0.0.0/24");
    }
    uint32_t mask = bits == 0 ? 0 : UINT32_MAX << (32 - bits);
    if ((address & ~mask) != 0) {
        char meant[CIDR_TEXT_SIZE];
        format_cidr(address & mask, bits, meant);
        return refuse(err, text, "is a host in a network", meant);
    }
    *ret_address = address;
    *ret_prefix_bits = bits;
    return 0;
}

int parse_mac(const char *text, uint64_t *ret_mac, struct err *err)
{
    uint64_t mac = 0;
    bool is_good = strnlen(text, MAC_TEXT_SIZE) == MAC_TEXT_SIZE - 1;
    for (size_t i = 0; is_good && i < MAC_TEXT_SIZE - 1; i++) {
        char character = text[i];
        if (i % 3 == 2) {
            is_good = character == ':';
        } else if (is_digit(character)) {
            mac = mac << 4 | (uint64_t)(character - '0');
        } else if ((character | 32) >= 'a' && (character | 32) <= 'f') {
            mac = mac << 4 | (uint64_t)((character | 32) - 'a' + 10);
        } else {
            is_good = false;
        }
    }
    if (!is_good) {
        return refuse(err, text, "is not a MAC address",
                      "six hex pairs, such as 52:54:00:12:34:56");
    }
    *ret_mac = mac;
    return 0;
}

bool ipv4_ranges_overlap(uint32_t a, uint32_t a_bits, uint32_t b, uint32_t b_bits)
{
    uint32_t bits = a_bits < b_bits ? a_bits : b_bits;
    return bits == 0 || (a ^ b) >> (32 - bits) == 0;
}

void format_ipv4(uint32_t address, char text[IPV4_TEXT_SIZE])
{
    (void)snprintf(text, IPV4_TEXT_SIZE, "%u.%u.%u.%u", address >> 24,
                   address >> 16 & 255, address >> 8 & 255, address & 255);
}

void format_cidr(uint32_t address, uint32_t prefix_bits, char text[CIDR_TEXT_SIZE])
{
    char address_text[IPV4_TEXT_SIZE];
    format_ipv4(address, address_text);
    (void)snprintf(text, CIDR_TEXT_SIZE, "%s/%u", address_text, prefix_bits % 100);
}

void format_mac(uint64_t mac, char text[MAC_TEXT_SIZE])
{
    (void)snprintf(text, MAC_TEXT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x",
                   (unsigned)(mac >> 40 & 255), (unsigned)(mac >> 32 & 255),
                   (unsigned)(mac >> 24 & 255), (unsigned)(mac >> 16 & 255),
                   (unsigned)(mac >> 8 & 255), (unsigned)(mac & 255));
}
