#include "consensus/message_screen.h"

#include "base/bytes.h"
#include "base/err.h"
#include "consensus/consensus.h"
#include "consensus/entry_frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum message_type {
    MESSAGE_ENTRIES = 1,
    MESSAGE_ANSWER,
    MESSAGE_VOTE_REQUEST,
    MESSAGE_VOTE,
    MESSAGE_SNAPSHOT,
    MESSAGE_TIMEOUT_NOW,
    MESSAGE_COUNT,
};

enum { ENTRY_COMMAND = 1, ENTRY_BARRIER, ENTRY_MEMBERS };

#define PREAMBLE_SIZE     16
#define ENTRIES_FIXED     40
#define ENTRY_SIZE        16
#define SNAPSHOT_FIXED    40 /* before the members; the data's size follows them */
#define UNUSED_SIZE       8  /* the library's encoder reserves a word too much */
#define ROLE_MAX          2
#define MEMBERS_FORMAT    1
#define HEADER_SIZE_LEAST 16

struct message_screen {
    enum { AT_PREAMBLE = 0, AT_HEADER, AT_ENTRIES, AT_DATA } phase;
    int error; /* sticky */
    uint64_t type;
    uint8_t preamble[PREAMBLE_SIZE];
    uint8_t *header; /* owned, header_size bytes */
    size_t header_size;
    size_t have;      /* of preamble, header, entry or members */
    uint64_t left;    /* AT_DATA: bytes to pass by */
    uint64_t entries; /* AT_ENTRIES: how many */
    uint64_t entry;   /* which one */
    uint8_t members[MESSAGE_SCREEN_MEMBERS_MAX];
};

/* What a header of a fixed size may measure; two sizes where an older form is shorter. */
static const struct {
    size_t size;
    size_t older;
} fixed_sizes[MESSAGE_COUNT] = {
    [MESSAGE_ANSWER] = {32, 24}, /* 0.18 says what it is capable of */
    [MESSAGE_VOTE_REQUEST] = {40, 32},
    [MESSAGE_VOTE] = {24, 16},
    [MESSAGE_TIMEOUT_NOW] = {24, 24},
};

static uint64_t get_number(const uint8_t *at, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

struct message_screen *message_screen_new(void)
{
    return calloc(1, sizeof(struct message_screen));
}

struct message_screen *message_screen_free(struct message_screen *screen)
{
    if (screen != NULL) {
        free(screen->header);
        free(screen);
    }
    return NULL;
}

static int check_members(const uint8_t *data, size_t size)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, size);
    uint8_t format = bytes_read_u8(&reader);
    uint64_t count = bytes_read_u64(&reader);
    if (format != MEMBERS_FORMAT || count > CONSENSUS_MEMBERS_MAX) {
        return BERTH_EPROTO;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t id = bytes_read_u64(&reader);
        size_t left = bytes_reader_left(&reader);
        const uint8_t *address = data + (size - left);
        size_t length = strnlen((const char *)address, left);
        (void)bytes_read_view(&reader, length + 1); /* a fault is seen below */
        uint8_t role = bytes_read_u8(&reader);
        if (reader.error < 0 || id == 0 || length >= CONSENSUS_ADDRESS_SIZE ||
            role > ROLE_MAX) {
            return BERTH_EPROTO;
        }
    }
    return reader.error < 0 ? BERTH_EPROTO : 0;
}

static const uint8_t *entry_of(const struct message_screen *screen)
{
    return screen->header + ENTRIES_FIXED + screen->entry * ENTRY_SIZE;
}

static uint8_t entry_type(const struct message_screen *screen)
{
    return entry_of(screen)[8];
}

static size_t entry_size(const struct message_screen *screen)
{
    return (size_t)get_number(entry_of(screen) + 12, 4);
}

static int check_entries(struct message_screen *screen)
{
    uint64_t bytes = 0;
    if (screen->header_size < ENTRIES_FIXED) {
        return BERTH_EPROTO;
    }
    screen->entries = get_number(screen->header + 32, 8);
    size_t listed = (screen->header_size - ENTRIES_FIXED) / ENTRY_SIZE;
    size_t exact = ENTRIES_FIXED + listed * ENTRY_SIZE;
    if (screen->entries != listed ||
        (screen->header_size != exact && screen->header_size != exact + UNUSED_SIZE)) {
        return BERTH_EPROTO;
    }
    for (screen->entry = 0; screen->entry < screen->entries; screen->entry++) {
        size_t size = entry_size(screen);
        uint8_t type = entry_type(screen);
        size_t size_max =
            type == ENTRY_MEMBERS ? MESSAGE_SCREEN_MEMBERS_MAX : ENTRY_FRAME_SIZE_MAX;
        bytes += size;
        if (type < ENTRY_COMMAND || type > ENTRY_MEMBERS || size == 0 || size % 8 != 0 ||
            size > size_max || bytes > MESSAGE_SCREEN_ENTRIES_MAX) {
            return BERTH_EPROTO;
        }
    }
    screen->entry = 0;
    screen->phase = screen->entries > 0 ? AT_ENTRIES : AT_PREAMBLE;
    return 0;
}

static int check_snapshot(struct message_screen *screen)
{
    if (screen->header_size < SNAPSHOT_FIXED + 8) {
        return BERTH_EPROTO;
    }
    size_t room = screen->header_size - SNAPSHOT_FIXED - 8;
    uint64_t members = get_number(screen->header + 32, 8);
    if (members > MESSAGE_SCREEN_MEMBERS_MAX ||
        (members != room && members + UNUSED_SIZE != room)) {
        return BERTH_EPROTO;
    }
    screen->left = get_number(screen->header + SNAPSHOT_FIXED + members, 8);
    if (screen->left == 0 || screen->left > MESSAGE_SCREEN_SNAPSHOT_MAX) {
        return BERTH_EPROTO;
    }
    screen->phase = AT_DATA;
    return check_members(screen->header + SNAPSHOT_FIXED, (size_t)members);
}

static int check_header(struct message_screen *screen)
{
    switch (screen->type) {
    case MESSAGE_ENTRIES:
        return check_entries(screen);
    case MESSAGE_SNAPSHOT:
        return check_snapshot(screen);
    default:
        screen->phase = AT_PREAMBLE;
        return 0; /* its size was checked, and any content is a number */
    }
}

static int check_preamble(struct message_screen *screen)
{
    uint64_t size = get_number(screen->preamble + 8, 8);
    screen->type = get_number(screen->preamble, 8);
    if (screen->type == 0 || screen->type >= MESSAGE_COUNT || size < HEADER_SIZE_LEAST ||
        size > MESSAGE_SCREEN_HEADER_MAX) {
        return BERTH_EPROTO;
    }
    size_t fixed = fixed_sizes[screen->type].size;
    if (fixed != 0 && size != fixed && size != fixed_sizes[screen->type].older) {
        return BERTH_EPROTO;
    }
    free(screen->header);
    screen->header = malloc((size_t)size);
    if (screen->header == NULL) {
        return -ENOMEM;
    }
    screen->header_size = (size_t)size;
    screen->phase = AT_HEADER;
    return 0;
}

/* Copies into `to` until it holds `wanted` bytes; how many were used. */
static size_t gather(struct message_screen *screen,
                     uint8_t *to,
                     size_t wanted,
                     const uint8_t *data,
                     size_t size)
{
    size_t missing = wanted - screen->have;
    size_t used = size < missing ? size : missing;
    memcpy(to + screen->have, data, used);
    screen->have += used;
    return used;
}

/* Entries pass by; those that list members are kept until they are whole. */
static size_t feed_entry(struct message_screen *screen, const uint8_t *data, size_t size)
{
    size_t wanted = entry_size(screen);
    size_t used = size < wanted - screen->have ? size : wanted - screen->have;
    bool members = entry_type(screen) == ENTRY_MEMBERS;
    if (members) {
        memcpy(screen->members + screen->have, data, used);
    }
    screen->have += used;
    if (screen->have == wanted) {
        screen->have = 0;
        screen->entry++;
        screen->error = members ? check_members(screen->members, wanted) : 0;
        screen->phase = screen->entry < screen->entries ? AT_ENTRIES : AT_PREAMBLE;
    }
    return used;
}

static size_t feed_some(struct message_screen *screen, const uint8_t *data, size_t size)
{
    size_t used = 0;
    switch (screen->phase) {
    case AT_PREAMBLE:
        used = gather(screen, screen->preamble, PREAMBLE_SIZE, data, size);
        if (screen->have == PREAMBLE_SIZE) {
            screen->have = 0;
            screen->error = check_preamble(screen);
        }
        return used;
    case AT_HEADER:
        used = gather(screen, screen->header, screen->header_size, data, size);
        if (screen->have == screen->header_size) {
            screen->have = 0;
            screen->error = check_header(screen);
        }
        return used;
    case AT_ENTRIES:
        return feed_entry(screen, data, size);
    default:
        used = size < screen->left ? size : (size_t)screen->left;
        screen->left -= used;
        screen->phase = screen->left > 0 ? AT_DATA : AT_PREAMBLE;
        return used;
    }
}

int message_screen_feed(struct message_screen *screen, const uint8_t *data, size_t size)
{
    while (size > 0 && screen->error == 0) {
        size_t used = feed_some(screen, data, size);
        data += used;
        size -= used;
    }
    return screen->error;
}
