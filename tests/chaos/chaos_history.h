/* What clients did and saw under faults, as lines of text: written while it happens, read
 * by the checks.
 *
 * Shapes: a record is one line of nine fields, in the order of struct chaos_record; "-"
 * stands for an empty text. A file is only appended to, so a client that is killed loses
 * its last line at most. Units: nanoseconds of the client's monotonic clock. Threads:
 * history_note from any; the rest one. Errors: REQUIRE; a test without its notes is worth
 * nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define HISTORY_TEXT_SIZE 96

enum record_type {
    RECORD_WRITE = 1, /* key was to become value; revision: where it did */
    RECORD_READ,      /* key was value since revision, in the state of `at` */
    RECORD_LISTING,   /* a watch begins with what there is: what it saw before is over */
    RECORD_LISTED,    /* within that: key is value since revision */
    RECORD_PLACE,     /* the listing is told: the watch stands behind revision */
    RECORD_RESUMED,   /* another connection, behind revision */
    RECORD_SEEN, /* key became value at revision; OK: the last one of it, at: its id */
    RECORD_COUNT
};

enum record_outcome {
    RECORD_OK = 1,
    RECORD_UNKNOWN, /* no answer that says: done, not done or done later */
    RECORD_REFUSED, /* surely not done */
    RECORD_MORE,    /* SEEN: more of that revision follows */
    RECORD_OUTCOME_COUNT
};

struct chaos_record {
    enum record_type type;
    unsigned actor;
    uint64_t begin_ns;
    uint64_t end_ns;
    enum record_outcome outcome;
    uint64_t revision;
    uint64_t at;
    char key[HISTORY_TEXT_SIZE];
    char value[HISTORY_TEXT_SIZE];
};

/* Appends to the file as one write. */
void history_note(FILE *file, const struct chaos_record *record);
/* False at a line that is none: cut short, or not of ours. */
bool history_parse(const char *line, struct chaos_record *ret_record);

struct history {
    struct chaos_record *records;
    size_t count;
    size_t broken; /* lines that are none, though others follow */
};

/* Adds the records of a file. */
void history_read(struct history *history, const char *path);
void history_add(struct history *history, const struct chaos_record *record);
void history_fini(struct history *history);
