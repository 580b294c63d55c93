/* Rows about the CPU: model specific registers, known and unknown. */
#include "guest_cpu.h"
#include "guest_pci.h"
#include "guest_rows.h"
#include "guest_say.h"
#include "guest_virtio.h"

struct msr_act {
    uint32_t number;
    uint64_t value;
};

static void msr_read(void *context)
{
    struct msr_act *act = context;
    act->value = msr_get(act->number);
}

static void msr_write(void *context)
{
    const struct msr_act *act = context;
    msr_set(act->number, act->value);
}

static const struct {
    uint32_t first;
    uint32_t last;
} ranges[] = {
    {0x0, 0x3ff},
    {0x480, 0x4ff},
    {0x6d0, 0x6ff},
    {0x800, 0x83f},
    {0xd90, 0xdaf},
    {0x1000, 0x101f},
    {0x40000000, 0x400000ff},
    {0x4b564d00, 0x4b564dff},
    {0xc0000080, 0xc0000104},
    {0xc0010000, 0xc001013f},
    {0xfffffff0, 0xffffffff},
};

/* Those that this guest itself runs by: EFER and the bases of segments it does not use
 * are its own, the page attributes are not. */
static bool is_vital(uint32_t number)
{
    return number == 0xc0000080 || number == 0x277;
}

/* Each is there or raises a protection fault; nothing else happens. */
static const char *each_register(void)
{
    unsigned there = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(ranges); i++) {
        for (uint32_t number = ranges[i].first;; number++) {
            struct msr_act was = {number, 0};
            const int fault = guest_try(msr_read, &was);
            if (fault != FAULT_NONE && fault != FAULT_PROTECTION) {
                say_number(number);
                say("\n");
                return wrong("to read it raised exception", (uint64_t)fault);
            }
            there += fault == FAULT_NONE;
            for (unsigned bits = 0; !is_vital(number) && bits < 3; bits++) {
                struct msr_act act = {number, bits == 0   ? UINT64_MAX
                                              : bits == 1 ? 0
                                                          : was.value};
                const int failed = guest_try(msr_write, &act);
                if (failed != FAULT_NONE && failed != FAULT_PROTECTION) {
                    say_number(number);
                    say("\n");
                    return wrong("to write it raised exception", (uint64_t)failed);
                }
            }
            if (number == ranges[i].last) {
                break;
            }
        }
    }
    return there > 0 ? NULL : wrong("there is none at all", 0);
}

/* KVM's clocks and its other pages, where no RAM is. */
static const char *clocks_in_registers(void)
{
    static const uint32_t numbers[] = {0x11,       0x12,       0x4b564d00, 0x4b564d01,
                                       0x4b564d02, 0x4b564d03, 0x4b564d04, 0x4b564d06};
    static const uint64_t places[] = {0xc0000000,   PCI_ECAM_AT,
                                      PCI_LAPIC_AT, RAM_BYTES - 4,
                                      RAM_BYTES,    UINT64_MAX & ~UINT64_C(63)};
    for (unsigned i = 0; i < ARRAY_COUNT(numbers); i++) {
        for (unsigned at = 0; at < ARRAY_COUNT(places); at++) {
            struct msr_act act = {numbers[i], places[at] | 1};
            (void)guest_try(msr_write, &act);
            (void)ask("query"); /* it leaves the CPU, and comes back to the clock */
        }
        struct msr_act off = {numbers[i], 0};
        (void)guest_try(msr_write, &off);
    }
    return NULL;
}

const struct row_group rows_cpu = {
    "cpu",
    {{"each-register", each_register}, {"clocks-in-registers", clocks_in_registers}},
};
