/* Rows of a guest with more RAM than there is below the hole under 4 GiB: the map that it
 * is given, both parts of RAM, the hole between them, and what devices do there; before
 * the machine is moved and after it. And the time that the host takes from a CPU, which
 * goes on being told. Only a few pages are touched. */
#include "guest_cpu.h"
#include "guest_rows.h"
#include "guest_say.h"
#include "guest_virtio.h"

#define LOW_END    UINT64_C(0xc0000000)
#define HIGH_AT    UINT64_C(0x100000000)
#define HIGH_END   UINT64_C(0x180000000) /* 5 GiB in all */
#define PAGE       UINT64_C(0x1000)
#define TYPE_READ  0u
#define TYPE_WRITE 1u

extern uint64_t guest_start_info;

/* To another process of the host, which is as large as it is. */
static void move(void)
{
    (void)ask("move");
    (void)ask("measure");
}

/* ---- the map ---- */

#define MAP_AT       40u /* in PVH's start info: where it is, and how many entries */
#define MAP_COUNT_AT 48u
#define ENTRY_BYTES  24u
#define TYPE_RAM     1u

static const char *the_map_has_a_hole(void)
{
    const uint64_t map = memory_get(guest_start_info + MAP_AT, 8);
    const uint64_t count = memory_get(guest_start_info + MAP_COUNT_AT, 4);
    uint64_t ends[2] = {0, 0}; /* of RAM below 4 GiB, and above */
    uint64_t total = 0;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t at = memory_get(map + i * ENTRY_BYTES, 8);
        const uint64_t size = memory_get(map + i * ENTRY_BYTES + 8, 8);
        if (memory_get(map + i * ENTRY_BYTES + 16, 4) != TYPE_RAM) {
            continue;
        }
        if (at < HIGH_AT && at + size > LOW_END) {
            return wrong("RAM is said to be in the hole, from", at);
        }
        uint64_t *end = &ends[at >= HIGH_AT];
        *end = at + size > *end ? at + size : *end;
        total += size;
    }
    if (ends[0] != LOW_END || ends[1] != HIGH_END) {
        return wrong("RAM is said to end at", ends[ends[0] == LOW_END]);
    }
    /* Less what lies below 1 MiB for the loader. */
    return total <= UINT64_C(5) << 30 && total >= (UINT64_C(5) << 30) - 0x100000
               ? NULL
               : wrong("RAM in all is said to be", total);
}

/* ---- both parts of RAM ---- */

static const uint64_t places[] = {
    0x2000000,   0x7ffffff8,  0x80000000,      LOW_END - PAGE,
    LOW_END - 8, HIGH_AT,     HIGH_AT + 8,     HIGH_AT + 0x2000,
    0x13ffffff8, 0x140000000, HIGH_END - PAGE, HIGH_END - 8,
};

static uint64_t mark_of(unsigned place)
{
    return UINT64_C(0x1a46e00000000000) ^ places[place];
}

/* Each place has what was written there: none is another's. */
static const char *marks_are_there(void)
{
    for (unsigned i = 0; i < ARRAY_COUNT(places); i++) {
        if (memory_get(places[i], 8) != mark_of(i)) {
            say_number(places[i]);
            say("\n");
            return wrong("there is", memory_get(places[i], 8));
        }
    }
    return NULL;
}

static const char *ram_is_where_it_is_said_to_be(void)
{
    for (unsigned i = 0; i < ARRAY_COUNT(places); i++) {
        if (memory_get(places[i], 8) != 0) {
            return wrong("fresh RAM is not zero at", places[i]);
        }
        memory_set(places[i], 8, mark_of(i));
    }
    return marks_are_there();
}

static const char *the_hole_is_no_ram(void)
{
    static const uint64_t holes[] = {LOW_END + 0x8000000, 0xdffffff8, 0xf0000000};
    for (unsigned i = 0; i < ARRAY_COUNT(holes); i++) {
        memory_set(holes[i], 8, 0);
        if (memory_get(holes[i], 8) != UINT64_MAX) {
            return wrong("something is at", holes[i]);
        }
    }
    return marks_are_there(); /* nor is it seen elsewhere */
}

/* ---- devices ---- */

static const char *a_disk_reaches_both_parts(void)
{
    static const uint64_t from[] = {LOW_END - PAGE, HIGH_AT, HIGH_END - PAGE};
    virtio_drive(virtio_find(VIRTIO_BLOCK), 0);
    for (unsigned i = 0; i < ARRAY_COUNT(from); i++) {
        const uint64_t to = HIGH_AT + 0x10000 + i * PAGE;
        const char *why = virtio_disk_page(TYPE_WRITE, 8 * i, from[i]);
        why = why != NULL ? why : virtio_disk_page(TYPE_READ, 8 * i, to);
        if (why != NULL) {
            return why;
        }
        for (uint64_t at = 0; at < PAGE; at += 8) {
            if (memory_get(to + at, 8) != memory_get(from[i] + at, 8)) {
                return wrong("a disk gave back something else of", from[i] + at);
            }
        }
    }
    return NULL;
}

/* A page that begins in RAM and ends in the hole, or begins there. */
static const char *a_disk_does_not_reach_the_hole(void)
{
    static const uint64_t wrongs[] = {LOW_END - PAGE / 2, LOW_END, HIGH_AT - PAGE / 2,
                                      HIGH_END - PAGE / 2, HIGH_END};
    for (unsigned i = 0; i < ARRAY_COUNT(wrongs); i++) {
        virtio_drive(virtio_find(VIRTIO_BLOCK), 0);
        if (virtio_disk_page(TYPE_READ, 0, wrongs[i]) == NULL) {
            return wrong("a disk has read a page to", wrongs[i]);
        }
    }
    return marks_are_there();
}

static const char *it_is_moved_with_both_parts(void)
{
    move();
    const char *why = marks_are_there();
    why = why != NULL ? why : the_hole_is_no_ram();
    return why != NULL ? why : a_disk_reaches_both_parts();
}

const struct row_group rows_large = {
    "large",
    {{"map-has-a-hole", the_map_has_a_hole},
     {"ram-is-there", ram_is_where_it_is_said_to_be},
     {"hole-is-no-ram", the_hole_is_no_ram},
     {"disk-reaches-both", a_disk_reaches_both_parts},
     {"disk-not-the-hole", a_disk_does_not_reach_the_hole},
     {"moved-with-both", it_is_moved_with_both_parts}},
};

/* ---- time that the host takes ---- */

#define KVM_FEATURES   0x40000001u
#define HAS_STEAL_TIME (1u << 5)
#define MSR_STEAL_TIME 0x4b564d03u
#define STEAL_AT       UINT64_C(0x1000000)
#define STEAL_VERSION  8u /* behind the time, in nanoseconds */

/* What is told now; the version is even when it is whole, and another after each time. */
static uint64_t stolen(uint32_t *ret_version)
{
    uint64_t time;
    uint32_t before;
    do {
        before = (uint32_t)memory_get(STEAL_AT + STEAL_VERSION, 4);
        time = memory_get(STEAL_AT, 8);
        *ret_version = (uint32_t)memory_get(STEAL_AT + STEAL_VERSION, 4);
    } while (before != *ret_version || (before & 1) != 0);
    return time;
}

static const char *stolen_time_is_told_on(void)
{
    uint32_t registers[4];
    uint32_t version;
    uint32_t later;
    cpu_id(KVM_FEATURES, 0, registers);
    if ((registers[0] & HAS_STEAL_TIME) == 0) {
        say("skip stolen-time: this KVM does not tell it\n");
        return NULL;
    }
    msr_set(MSR_STEAL_TIME, STEAL_AT | 1);
    (void)ask("query"); /* it leaves the CPU, and comes back */
    const uint64_t first = stolen(&version);
    if (version == 0) {
        return wrong("nothing was told; the register has", msr_get(MSR_STEAL_TIME));
    }
    move();
    if (msr_get(MSR_STEAL_TIME) != (STEAL_AT | 1)) {
        return wrong("behind a move the register has", msr_get(MSR_STEAL_TIME));
    }
    const uint64_t second = stolen(&later);
    if (later == version || second < first) {
        return wrong("behind a move the time is", second);
    }
    return NULL;
}

const struct row_group rows_steal = {"steal", {{"stolen-time", stolen_time_is_told_on}}};
