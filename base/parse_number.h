/* Numbers with units, in and out: "4GiB", "400MiB/s", "1500m", "30s", "60%".
 *
 * Units: bytes (B, kB MB GB TB, KiB MiB GiB TiB), rates in bytes a second (those and
 * kbit Mbit Gbit Tbit, with /s), CPU in millicores ("2", "0.5", "1500m"), durations in
 * milliseconds (ms s m h d), percent as tenths of a percent ("60%" is 600). A unit is
 * required on sizes, rates and durations. Overflow and trailing text are errors. Errors:
 * BERTH_EINVALID with a text that says what was expected.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

int parse_u64(const char *text, uint64_t *ret_value, struct err *err);
int parse_bytes(const char *text, uint64_t *ret_bytes, struct err *err);
/* Bytes a second. */
int parse_rate(const char *text, uint64_t *ret_rate, struct err *err);
int parse_mcpu(const char *text, uint32_t *ret_mcpu, struct err *err);
int parse_duration_ms(const char *text, uint64_t *ret_ms, struct err *err);
int parse_permille(const char *text, uint32_t *ret_permille, struct err *err);

/* The shortest exact text ("4GiB", "1500m", "90s"); capacity NUMBER_TEXT_SIZE. Parsing it
 * gives the value back. */
#define NUMBER_TEXT_SIZE 32
void format_bytes(uint64_t bytes, char text[NUMBER_TEXT_SIZE]);
void format_rate(uint64_t rate, char text[NUMBER_TEXT_SIZE]);
void format_mcpu(uint32_t mcpu, char text[NUMBER_TEXT_SIZE]);
void format_duration_ms(uint64_t ms, char text[NUMBER_TEXT_SIZE]);
void format_permille(uint32_t permille, char text[NUMBER_TEXT_SIZE]);
/* For people: at most one decimal, rounded ("3.2GiB"), in the notation of format_bytes: a
 * round size reads alike wherever it stands ("384MiB"). */
void format_bytes_human(uint64_t bytes, char text[NUMBER_TEXT_SIZE]);
/* The same, never more than there is ("free"), or never less ("needed"): of two numbers
 * side by side the smaller does not read as the larger. */
void format_bytes_floor(uint64_t bytes, char text[NUMBER_TEXT_SIZE]);
void format_bytes_ceiling(uint64_t bytes, char text[NUMBER_TEXT_SIZE]);

/* IPv4 as host-order u32, CIDR, MAC. 0 or BERTH_EINVALID with text. */
#define IPV4_TEXT_SIZE 16
#define CIDR_TEXT_SIZE 19
#define MAC_TEXT_SIZE  18
int parse_ipv4(const char *text, uint32_t *ret_address, struct err *err);
/* Host bits must be zero. */
int parse_cidr(const char *text,
               uint32_t *ret_address,
               uint32_t *ret_prefix_bits,
               struct err *err);
int parse_mac(const char *text, uint64_t *ret_mac, struct err *err);
/* Whether two ranges have an address in common; bits beyond a prefix do not count. */
bool ipv4_ranges_overlap(uint32_t a, uint32_t a_bits, uint32_t b, uint32_t b_bits);
void format_ipv4(uint32_t address, char text[IPV4_TEXT_SIZE]);
void format_cidr(uint32_t address, uint32_t prefix_bits, char text[CIDR_TEXT_SIZE]);
void format_mac(uint64_t mac, char text[MAC_TEXT_SIZE]);
