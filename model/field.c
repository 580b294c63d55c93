#include "model/field.h"

#include "base/clock.h"
#include "base/parse_number.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define UNLIMITED_TEXT "unlimited"
/* The last millisecond of the year 9999; later ones have no RFC 3339 text. */
#define INSTANT_MAX_MS UINT64_C(253402300799999)
#define MCPU_PER_CPU   1000

/* ---- instants ---- */

/* Exactly `count` digits at *at, which steps over them; -1 when there are fewer. */
static int read_digits(const char **at, int count)
{
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (**at < '0' || **at > '9') {
            return -1;
        }
        value = 10 * value + (**at - '0');
        (*at)++;
    }
    return value;
}

static bool read_char(const char **at, char wanted)
{
    if (**at != wanted) {
        return false;
    }
    (*at)++;
    return true;
}

/* Up to nine digits of a second as milliseconds, the rest cut off; -1 for none. */
static int read_fraction_ms(const char **at)
{
    int value_ms = 0;
    int digits = 0;
    for (; **at >= '0' && **at <= '9' && digits < 9; (*at)++, digits++) {
        if (digits < 3) {
            value_ms = 10 * value_ms + (**at - '0');
        }
    }
    for (int i = digits; i < 3; i++) {
        value_ms *= 10;
    }
    return digits > 0 ? value_ms : -1;
}

/* "Z", "+02:00" or "-05:30" in seconds. */
static bool read_zone(const char **at, int *ret_offset_s)
{
    *ret_offset_s = 0;
    if (read_char(at, 'Z') || read_char(at, 'z')) {
        return true;
    }
    int sign = **at == '+' ? 1 : **at == '-' ? -1 : 0;
    if (sign == 0) {
        return false;
    }
    (*at)++;
    int hours = read_digits(at, 2);
    bool colon = read_char(at, ':');
    int minutes = read_digits(at, 2);
    *ret_offset_s = sign * (hours * 3600 + minutes * 60);
    return colon && hours >= 0 && hours <= 23 && minutes >= 0 && minutes <= 59;
}

/* Date and time up to the seconds. timegm puts the 30th of February right; then the
 * calendar differs from what was written. */
static bool read_calendar(const char **at, time_t *ret_seconds)
{
    struct tm tm = {0};
    tm.tm_year = read_digits(at, 4) - 1900;
    bool ok = read_char(at, '-');
    tm.tm_mon = read_digits(at, 2) - 1;
    ok = read_char(at, '-') && ok;
    tm.tm_mday = read_digits(at, 2);
    ok = (read_char(at, 'T') || read_char(at, 't') || read_char(at, ' ')) && ok;
    tm.tm_hour = read_digits(at, 2);
    ok = read_char(at, ':') && ok;
    tm.tm_min = read_digits(at, 2);
    ok = read_char(at, ':') && ok;
    tm.tm_sec = read_digits(at, 2);
    if (!ok || tm.tm_year < 70 || tm.tm_mon < 0 || tm.tm_mday < 1 || tm.tm_hour < 0 ||
        tm.tm_min < 0 || tm.tm_sec < 0) {
        return false;
    }
    struct tm written = tm;
    *ret_seconds = timegm(&tm);
    return tm.tm_mon == written.tm_mon && tm.tm_mday == written.tm_mday &&
           tm.tm_hour == written.tm_hour && tm.tm_min == written.tm_min &&
           tm.tm_sec == written.tm_sec;
}

static int parse_instant(const char *text, uint64_t *ret_ms, struct err *err)
{
    const char *at = text;
    time_t seconds = 0;
    int offset_s = 0;
    bool ok = read_calendar(&at, &seconds);
    int fraction_ms = ok && read_char(&at, '.') ? read_fraction_ms(&at) : 0;
    ok = ok && fraction_ms >= 0 && read_zone(&at, &offset_s) && *at == '\0';
    int64_t wall_ms = ((int64_t)seconds - offset_s) * 1000 + fraction_ms;
    if (!ok || wall_ms < 0) {
        return err_set(err, BERTH_EINVALID,
                       "\"%.40s\" is no time such as \"2026-11-23T09:15:04Z\"", text);
    }
    *ret_ms = (uint64_t)wall_ms;
    return 0;
}

/* ---- numbers ---- */

static int parse_cidr_u64(const char *text, uint64_t *ret_cidr, struct err *err)
{
    uint32_t address = 0;
    uint32_t prefix_bits = 0;
    int r = parse_cidr(text, &address, &prefix_bits, err);
    *ret_cidr = (uint64_t)address << 8 | prefix_bits;
    return r;
}

/* A fault names the field's own range, not that of all numbers there are. */
static int parse_plain(const struct field *field,
                       const char *text,
                       uint64_t *ret_value,
                       struct err *err)
{
    uint64_t top = field->type == FIELD_U64 ? UINT64_MAX : UINT32_MAX;
    int r = parse_u64(text, ret_value, err);
    if (r < 0 && field->max < top && err != NULL) {
        return err_set(err, r,
                       "\"%.40s\" is not such a number: expected a whole number from "
                       "%" PRIu64 " to %" PRIu64,
                       text, field->min, field->max);
    }
    return r;
}

static int parse_unit(const struct field *field,
                      const char *text,
                      uint64_t *ret_value,
                      struct err *err)
{
    uint32_t narrow = 0;
    int r = 0;
    switch (field->unit) {
    case UNIT_BYTES:
        return parse_bytes(text, ret_value, err);
    case UNIT_RATE:
        return parse_rate(text, ret_value, err);
    case UNIT_DURATION:
        return parse_duration_ms(text, ret_value, err);
    case UNIT_INSTANT:
        return parse_instant(text, ret_value, err);
    case UNIT_CIDR:
        return parse_cidr_u64(text, ret_value, err);
    case UNIT_MAC:
        return parse_mac(text, ret_value, err);
    case UNIT_MCPU:
        r = parse_mcpu(text, &narrow, err);
        break;
    case UNIT_PERMILLE:
        r = parse_permille(text, &narrow, err);
        break;
    case UNIT_IPV4:
        r = parse_ipv4(text, &narrow, err);
        break;
    default:
        return parse_plain(field, text, ret_value, err);
    }
    *ret_value = narrow;
    return r;
}

bool field_is_unlimited(const struct field *field, uint64_t value)
{
    uint64_t unlimited = field->type == FIELD_U64 ? UINT64_MAX : UINT32_MAX;
    return (field->type == FIELD_U64 || field->type == FIELD_U32) &&
           field->fallback == unlimited && value == unlimited;
}

static void write_instant(uint64_t wall_ms, struct bytes_writer *writer)
{
    char text[CLOCK_TEXT_SIZE];
    if (wall_ms > INSTANT_MAX_MS) { /* no such year: show what is there */
        bytes_write_format(writer, "%" PRIu64, wall_ms);
        return;
    }
    clock_format(wall_ms, text);
    bytes_write_format(writer, "%s", text);
}

/* The number as the field writes it, without "unlimited". */
static void
write_unit(const struct field *field, uint64_t value, struct bytes_writer *writer)
{
    char text[NUMBER_TEXT_SIZE] = "";
    switch (field->unit) {
    case UNIT_BYTES:
        format_bytes(value, text);
        break;
    case UNIT_RATE:
        format_rate(value, text);
        break;
    case UNIT_MCPU: /* may be a sum over the cluster, beyond what format_mcpu takes */
        bytes_write_format(writer,
                           value % MCPU_PER_CPU == 0 ? "%" PRIu64 : "%" PRIu64 "m",
                           value % MCPU_PER_CPU == 0 ? value / MCPU_PER_CPU : value);
        return;
    case UNIT_DURATION:
        format_duration_ms(value, text);
        break;
    case UNIT_PERMILLE:
        format_permille((uint32_t)value, text);
        break;
    case UNIT_IPV4:
        format_ipv4((uint32_t)value, text);
        break;
    case UNIT_CIDR:
        format_cidr((uint32_t)(value >> 8), (uint32_t)(value & 0xff), text);
        break;
    case UNIT_MAC:
        format_mac(value & UINT64_C(0xffffffffffff), text);
        break;
    case UNIT_INSTANT:
        write_instant(value, writer);
        return;
    default:
        bytes_write_format(writer, "%" PRIu64, value);
        return;
    }
    bytes_write_format(writer, "%s", text);
}

static int parse_number(const struct field *field,
                        const char *text,
                        void *ret_member,
                        struct err *err)
{
    uint64_t value = 0;
    uint64_t unlimited = field->type == FIELD_U64 ? UINT64_MAX : UINT32_MAX;
    if (strcmp(text, UNLIMITED_TEXT) == 0 && field_is_unlimited(field, unlimited)) {
        field_set_number(field, ret_member, unlimited);
        return 0;
    }
    int r = parse_unit(field, text, &value, err);
    if (r == 0) {
        r = field_check_range(field, value, err);
    }
    if (r == 0) {
        field_set_number(field, ret_member, value);
    }
    return r;
}

/* ---- words ---- */

static int
parse_bool(const struct field *field, const char *text, void *ret_member, struct err *err)
{
    bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0) {
        return err_set(err, BERTH_EINVALID, "\"%.40s\" is neither true nor false", text);
    }
    field_set_number(field, ret_member, yes ? 1 : 0);
    return 0;
}

static int
parse_enum(const struct field *field, const char *text, void *ret_member, struct err *err)
{
    char known[ERR_TEXT_SIZE / 2] = "";
    size_t size = 0;
    for (uint32_t i = 0; field->names[i] != NULL && i <= field->max; i++) {
        const char *name = field->names[i];
        if (name[0] == '\0' || i < field->min) {
            continue;
        }
        if (strcmp(name, text) == 0) {
            field_set_number(field, ret_member, i);
            return 0;
        }
        int length = snprintf(known + size, sizeof(known) - size, "%s%s",
                              size > 0 ? ", " : "", name);
        if (length > 0 && (size_t)length < sizeof(known) - size) {
            size += (size_t)length;
        }
    }
    known[size] = '\0';
    return err_set(err, BERTH_EINVALID, "\"%.40s\" is none of: %s", text, known);
}

static int
parse_name(const struct field *field, const char *text, void *ret_member, struct err *err)
{
    size_t size = strlen(text);
    if (size > field_count_max(field)) {
        return err_set(err, BERTH_EINVALID, "a name has at most %zu characters",
                       field_count_max(field));
    }
    if (size < field->min) {
        return err_set(err, BERTH_EINVALID, "must not be empty");
    }
    memset(ret_member, 0, NAME_SIZE);
    memcpy(ret_member, text, size);
    return 0;
}

static int
parse_text(const struct field *field, const char *text, void *ret_member, struct err *err)
{
    int r = field_check_range(field, strlen(text), err);
    return r == 0 ? record_set_text(ret_member, text) : r;
}

static int parse_digest(const char *text, void *ret_member, struct err *err)
{
    struct digest digest;
    if (digest_parse(text, &digest) < 0) {
        return err_set(err, BERTH_EINVALID, "not a SHA-256: expected 64 hex digits");
    }
    memcpy(ret_member, &digest, sizeof(digest));
    return 0;
}

static int parse_scalar(const struct field *field,
                        const char *text,
                        void *ret_member,
                        struct err *err)
{
    switch (field->type) {
    case FIELD_BOOL:
        return parse_bool(field, text, ret_member, err);
    case FIELD_U32:
    case FIELD_U64:
        return parse_number(field, text, ret_member, err);
    case FIELD_ENUM:
        return parse_enum(field, text, ret_member, err);
    case FIELD_NAME:
        return parse_name(field, text, ret_member, err);
    case FIELD_TEXT:
        return parse_text(field, text, ret_member, err);
    case FIELD_DIGEST:
        return parse_digest(text, ret_member, err);
    default:
        return err_set(err, BERTH_EINVALID, "expected more than one word");
    }
}

/* Errors quote what the user wrote, and end in a terminal or a log. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f) {
            *text = '?';
        }
    }
}

/* ---- public ---- */

static int check_count(const struct field *field, uint64_t count, struct err *err)
{
    if (count > field_count_max(field)) {
        return err_set(err, BERTH_EINVALID,
                       "is too long: %" PRIu64 " characters, at most %zu", count,
                       field_count_max(field));
    }
    return count < field->min ? err_set(err, BERTH_EINVALID, "must not be empty") : 0;
}

/* The bound as the user would write it. */
static void bound_text(const struct field *field, uint64_t value, char *text, size_t size)
{
    struct bytes_writer writer;
    char *bound = NULL;
    bytes_writer_init(&writer, size - 1);
    write_unit(field, value, &writer);
    if (bytes_writer_take_text(&writer, &bound) < 0) {
        bound = NULL;
    }
    (void)snprintf(text, size, "%s", bound != NULL ? bound : "?"); /* fits: see init */
    free(bound);
}

int field_check_range(const struct field *field, uint64_t value, struct err *err)
{
    if (field->type > FIELD_ENUM) {
        return check_count(field, value, err);
    }
    if (value >= field->min && value <= field->max) {
        return 0;
    }
    char least[64];
    char most[64];
    bool below = value < field->min;
    uint64_t top = field->type == FIELD_U64 ? UINT64_MAX : UINT32_MAX;
    bound_text(field, field->min, least, sizeof(least));
    bound_text(field, field->max, most, sizeof(most));
    if (field->max >= top) { /* no range: what the type holds is no news */
        return err_set(err, BERTH_EINVALID, "must be at %s %s", below ? "least" : "most",
                       below ? least : most);
    }
    return err_set(err, BERTH_EINVALID, "must be at %s %s (allowed: %s to %s)",
                   below ? "least" : "most", below ? least : most, least, most);
}

int field_parse(const struct field *field,
                const char *text,
                void *ret_member,
                struct err *err)
{
    int r = parse_scalar(field, text, ret_member, err);
    if (r < 0 && err != NULL) {
        make_printable(err->text);
    }
    return r;
}

void field_write(const struct field *field,
                 const void *member,
                 struct bytes_writer *writer)
{
    char hex[DIGEST_HEX_SIZE];
    uint64_t value = 0;
    switch (field->type) {
    case FIELD_BOOL:
        bytes_write_format(writer, "%s", field_number(field, member) ? "true" : "false");
        break;
    case FIELD_ENUM:
        value = field_number(field, member);
        bytes_write_format(writer, "%s", value <= field->max ? field->names[value] : "?");
        break;
    case FIELD_NAME:
        bytes_write_raw(writer, member, strnlen(member, NAME_SIZE));
        break;
    case FIELD_TEXT:
        if (*(char *const *)member != NULL) {
            bytes_write_format(writer, "%s", *(char *const *)member);
        }
        break;
    case FIELD_DIGEST:
        digest_format(member, hex);
        bytes_write_format(writer, "%s", hex);
        break;
    default:
        value = field_number(field, member);
        if (field_is_unlimited(field, value)) {
            bytes_write_format(writer, UNLIMITED_TEXT);
        } else {
            write_unit(field, value, writer);
        }
        break;
    }
}

char *field_format(const struct field *field, const void *member)
{
    struct bytes_writer writer;
    char *text = NULL;
    bytes_writer_init(&writer, RECORD_TEXT_MAX + 1);
    field_write(field, member, &writer);
    return bytes_writer_take_text(&writer, &text) == 0 ? text : NULL;
}
