/* Rows that may end their guest, and nothing but that: instructions that no monitor
 * emulates, where registers are. Each is a group of its own. Those that live say so. */
#include "guest_cpu.h"
#include "guest_pci.h"
#include "guest_rows.h"
#include "guest_say.h"
#include "guest_virtio.h"

#define REGISTERS UINT64_C(0xc0002000) /* a device's own configuration */

static void act_execute(void *context)
{
    ((void (*)(void))(uintptr_t)context)();
}

/* Code in a device's registers. */
static const char *executes_registers(void)
{
    (void)guest_try(act_execute, (void *)REGISTERS);
    return NULL;
}

static void act_exchange16(void *context)
{
    __asm__ volatile("lock cmpxchg16b (%0)"
                     :
                     : "r"(context), "a"(0), "d"(0), "b"(0), "c"(0)
                     : "memory", "cc");
}

static const char *exchanges_16_bytes(void)
{
    (void)guest_try(act_exchange16, (void *)REGISTERS);
    return NULL;
}

static void act_vectors(void *context)
{
    __asm__ volatile("mov %%cr4, %%rax\n\t"
                     "or $0x600, %%rax\n\t"
                     "mov %%rax, %%cr4\n\t"
                     "fxsave (%0)\n\t"
                     "movups %%xmm0, (%0)\n\t"
                     "movntdq %%xmm0, (%0)"
                     :
                     : "r"(context)
                     : "rax", "memory");
}

static const char *saves_vectors(void)
{
    (void)guest_try(act_vectors, (void *)REGISTERS);
    return NULL;
}

static void act_strings(void *context)
{
    uint64_t from = (uint64_t)(uintptr_t)context;
    uint64_t to = from + 0x800;
    uint64_t count = 512;
    __asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    count = 512;
    __asm__ volatile("repe cmpsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory", "cc");
    __asm__ volatile("lock xaddq %0, (%1)" : "+r"(count) : "r"(context) : "memory", "cc");
    __asm__ volatile("btsq $5, (%0)" : : "r"(context) : "memory", "cc");
    __asm__ volatile("pushq (%0); popq (%0)" : : "r"(context) : "memory", "cc");
}

static const char *moves_registers(void)
{
    (void)guest_try(act_strings, (void *)REGISTERS);
    return NULL;
}

/* Page tables, and tables of segments, in registers. */
static const char *tables_in_registers(void)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) place = {0xffff, REGISTERS};
    __asm__ volatile("lgdt %0\n\tmov $0x18, %%eax\n\tmov %%eax, %%fs\n\tmov %1, %%cr3"
                     :
                     : "m"(place), "r"(PCI_ECAM_AT)
                     : "rax", "memory");
    return NULL;
}

/* An exception without a table for it. */
static const char *faults_three_times(void)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) place = {0, 0};
    __asm__ volatile("lidt %0\n\tud2" : : "m"(place));
    return NULL;
}

/* What may be plugged and is not. */
static const char *touches_what_is_not_plugged(void)
{
    (void)memory_get(UINT64_C(1) << 32, 8);
    memory_set(UINT64_C(1) << 32, 8, 1);
    return NULL;
}

static const char *panics(void)
{
    port_out8(0x505, 1);
    return NULL;
}

const struct row_group rows_ends[] = {
    {"end-execute", {{"executes-registers", executes_registers}}},
    {"end-exchange", {{"exchanges-16-bytes", exchanges_16_bytes}}},
    {"end-vectors", {{"saves-vectors", saves_vectors}}},
    {"end-strings", {{"moves-registers", moves_registers}}},
    {"end-tables", {{"tables-in-registers", tables_in_registers}}},
    {"end-triple", {{"faults-three-times", faults_three_times}}},
    {"end-unplugged", {{"touches-what-is-not-plugged", touches_what_is_not_plugged}}},
    {"end-panic", {{"panics", panics}}},
    {NULL, {{NULL, NULL}}},
};
