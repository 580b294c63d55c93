#include "base/clock.h"

#include "base/require.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define WALL_MS_MAX                                                    \
    UINT64_C(253402300799999) /* the last millisecond of the year 9999 \
                               */

static struct timespec read_clock(clockid_t id)
{
    struct timespec now;
    REQUIRE(clock_gettime(id, &now) == 0);
    return now;
}

static uint64_t system_now_ns(void *context)
{
    (void)context;
    struct timespec now = read_clock(CLOCK_BOOTTIME);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t system_wall_ms(void *context)
{
    (void)context;
    struct timespec now = read_clock(CLOCK_REALTIME);
    return (uint64_t)now.tv_sec * MS_PER_S + (uint64_t)now.tv_nsec / NS_PER_MS;
}

const struct clock *clock_system(void)
{
    static const struct clock system_clock = {.now_ns = system_now_ns,
                                              .wall_ms = system_wall_ms};
    return &system_clock;
}

uint64_t clock_now_ns(const struct clock *clock)
{
    return clock->now_ns(clock->context);
}

uint64_t clock_now_ms(const struct clock *clock)
{
    return clock_now_ns(clock) / NS_PER_MS;
}

uint64_t clock_wall_ms(const struct clock *clock)
{
    return clock->wall_ms(clock->context);
}

static char *put_digits(char *at, unsigned value, unsigned digits)
{
    for (unsigned i = digits; i > 0; i--, value /= 10) {
        at[i - 1] = (char)('0' + value % 10);
    }
    return at + digits;
}

void clock_format(uint64_t wall_ms, char text[CLOCK_TEXT_SIZE])
{
    if (wall_ms > WALL_MS_MAX) {
        wall_ms = WALL_MS_MAX;
    }
    time_t seconds = (time_t)(wall_ms / MS_PER_S);
    struct tm parts;
    REQUIRE(gmtime_r(&seconds, &parts) != NULL);
    const struct {
        unsigned value, digits;
        char after;
    } items[] = {
        {(unsigned)parts.tm_year + 1900, 4, '-'}, {(unsigned)parts.tm_mon + 1, 2, '-'},
        {(unsigned)parts.tm_mday, 2, 'T'},        {(unsigned)parts.tm_hour, 2, ':'},
        {(unsigned)parts.tm_min, 2, ':'},         {(unsigned)parts.tm_sec, 2, '.'},
        {(unsigned)(wall_ms % MS_PER_S), 3, 'Z'}};
    char *at = text; /* by hand: each instant of each document that is shown */
    for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
        at = put_digits(at, items[i].value, items[i].digits);
        *at++ = items[i].after;
    }
    *at = '\0';
    REQUIRE(at == text + CLOCK_TEXT_SIZE - 1);
}

void clock_stamp(uint64_t wall_ms, char text[CLOCK_STAMP_SIZE])
{
    char whole[CLOCK_TEXT_SIZE];
    size_t length = 0;
    clock_format(wall_ms, whole);
    for (const char *at = whole; *at != '.'; at++) {
        if (*at != '-' && *at != ':') {
            text[length++] = *at;
        }
    }
    memcpy(text + length, "Z", 2);
}
