/* The micro guest: a program for the bare machine that does to berth-vmm what no driver
 * would, and says how that went (guest_say.h). */
#include "guest_cpu.h"
#include "guest_rows.h"
#include "guest_say.h"
#include "guest_virtio.h"

#define START_CMDLINE_AT 24u /* in PVH's start info */
#define GATES            32u
#define GATE_BYTES       16u
#define STUB_BYTES       16u

extern uint64_t guest_start_info;
extern const uint8_t fault_stubs[];
void guest_main(void);
void guest_lost(unsigned vector, const uint64_t *stack);

static const struct row_group *const groups[] = {
    &rows_bus,    &rows_queue,   &rows_disk,  &rows_image,  &rows_image_after,
    &rows_net,    &rows_console, &rows_vsock, &rows_memory, &rows_cpu,
    &rows_rounds, &rows_resets,  &rows_pair,  &rows_full,   &rows_large,
    &rows_steal,  &rows_plug,
};

/* What the compiler wants to be there. */
void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size);

void *memset(void *to, int value, size_t size)
{
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t size)
{
    void *at = to;
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
    return to;
}

/* Each exception has its stub. */
static void faults_setup(void)
{
    static uint64_t gates[GATES][2];
    static struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) place;
    for (unsigned i = 0; i < GATES; i++) {
        const uint64_t at = (uint64_t)(uintptr_t)fault_stubs + i * STUB_BYTES;
        gates[i][0] = (at & 0xffff) | UINT64_C(0x08) << 16 | UINT64_C(0x8e00) << 32 |
                      (at & 0xffff0000) << 32;
        gates[i][1] = at >> 32;
    }
    place.limit = sizeof(gates) - 1;
    place.base = (uint64_t)(uintptr_t)gates;
    __asm__ volatile("lidt %0" : : "m"(place));
}

/* An exception that nobody was ready for. */
void guest_lost(unsigned vector, const uint64_t *stack)
{
    say("bad guest: exception ");
    say_number(vector);
    for (unsigned i = 0; i < 3; i++) {
        say(" ");
        say_number(stack[i]);
    }
    say("\n");
    guest_off();
}

/* How large the monitor is when all its devices have worked, and then in the end. */
static const char *begin(void)
{
    const char *why = virtio_all_serve();
    (void)ask("measure");
    return why;
}

static const char *end(void)
{
    const char *why = virtio_all_serve();
    (void)ask("compare");
    return why;
}

static void row_run(const struct row *row)
{
    say("begin ");
    say(row->name);
    say("\n");
    const char *why = row->run();
    say(why == NULL ? "ok " : "bad ");
    say(row->name);
    if (why != NULL) {
        say(": ");
        say(why);
    }
    say("\n");
}

static const struct row_group *group_find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_COUNT(groups); i++) {
        if (text_same(groups[i]->name, name)) {
            return groups[i];
        }
    }
    for (unsigned i = 0; rows_ends[i].name != NULL; i++) {
        if (text_same(rows_ends[i].name, name)) {
            return &rows_ends[i];
        }
    }
    return NULL;
}

static void group_run(const struct row_group *group)
{
    row_run(&(struct row){"all-serve", begin});
    for (unsigned at = 0; at < GROUP_ROWS_MAX && group->rows[at].name != NULL; at++) {
        row_run(&group->rows[at]);
    }
    row_run(&(struct row){"all-serve-still", end});
    say("done ");
    say(group->name);
    say("\n");
}

/* Before it an agent may have put words of its own. */
static const char *last_word(const char *line)
{
    const char *word = line;
    for (; *line != '\0'; line++) {
        word = *line == ' ' ? line + 1 : word;
    }
    return word;
}

void guest_main(void)
{
    const char *wanted = last_word(
        (const char *)(uintptr_t)memory_get(guest_start_info + START_CMDLINE_AT, 8));
    const struct row_group *group = group_find(wanted);
    faults_setup();
    virtio_scan();
    if (group != NULL) {
        group_run(group);
    }
    guest_off();
}
