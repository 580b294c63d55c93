/* The platform's small registers: accesses of any width to any region, between buttons,
 * CPUs that come, resets and saves. The guest reads each reason once, and what it asks
 * for is what was written: a table of writes that mean something agrees. Steps of four
 * bytes: what, where, how wide, a value. */
#include "base/bytes.h"
#include "base/require.h"
#include "vmm/power_control.h"

#include <string.h>

#define STEP_BYTES 4u
#define ASKED_MAX  (2 * DEVICE_ACCESS_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
    STEP_READ = 0,
    STEP_WRITE,
    STEP_PRESS,
    STEP_RENEW,
    STEP_CPU,
    STEP_START,
    STEP_STOP,
    STEP_RESET,
    STEP_SAVE,
    STEP_COUNT
};

struct asked {
    unsigned numbers[ASKED_MAX];
    unsigned count;
};

struct panel {
    struct power_control *power;
    uint8_t reasons;
    struct asked asked;
};

static void ask(struct asked *asked, unsigned number)
{
    REQUIRE(asked->count < ASKED_MAX);
    asked->numbers[asked->count++] = number;
}

static void on_asked(void *context, unsigned number)
{
    struct panel *panel = context;
    ask(&panel->asked, number);
}

/* What one byte means; 0: nothing. The panic's register and the keyboard's command are
 * the first byte of an access alone. */
static unsigned meaning(unsigned region, uint64_t offset, bool is_first, uint8_t value)
{
    if (region == POWER_PORTS) {
        return offset == POWER_SLEEP && (value & 0x3c) == 0x34 ? POWER_ASKS_OFF
               : offset == POWER_RESET && value == 1           ? POWER_ASKS_RESET
                                                               : 0;
    }
    if (region == POWER_KEYBOARD) {
        return is_first && offset == 4 && value == 0xfe ? POWER_ASKS_RESET : 0;
    }
    if (region != POWER_PANIC || !is_first) {
        return 0;
    }
    return (value & 1) != 0   ? POWER_SAYS_PANIC
           : (value & 2) != 0 ? POWER_SAYS_CRASH_LOADED
                              : 0;
}

static uint64_t offset_of(const uint8_t *step)
{
    const uint64_t low = step[1] >> 2;
    return low >= 0x38 ? UINT64_MAX - (low & 7) : low % 16;
}

static void write_step(struct panel *panel, const uint8_t *step)
{
    const unsigned region = step[1] & 3u;
    const uint64_t offset = offset_of(step);
    const unsigned width = 1 + step[2] % DEVICE_ACCESS_MAX;
    uint8_t bytes[DEVICE_ACCESS_MAX];
    struct asked wanted = {.count = 0};
    memset(bytes, step[3], sizeof(bytes));
    for (unsigned i = 0; offset <= UINT64_MAX - width && i < width; i++) {
        const unsigned number = meaning(region, offset + i, i == 0, bytes[i]);
        if (number != 0) {
            ask(&wanted, number);
        }
    }
    device_write(&panel->power->device, region, offset, bytes, width);
    REQUIRE(wanted.count == panel->asked.count);
    REQUIRE(memcmp(wanted.numbers, panel->asked.numbers,
                   wanted.count * sizeof(wanted.numbers[0])) == 0);
}

static void read_step(struct panel *panel, const uint8_t *step)
{
    const unsigned region = step[1] & 3u;
    const uint64_t offset = offset_of(step);
    const unsigned width = 1 + step[2] % DEVICE_ACCESS_MAX;
    uint8_t seen[DEVICE_ACCESS_MAX];
    device_read(&panel->power->device, region, offset, seen, width);
    for (unsigned i = 0; i < width; i++) {
        uint8_t wanted =
            region == POWER_PANIC && i == 0 ? PANIC_PANICKED | PANIC_CRASH_LOADED : 0;
        if (region == POWER_PORTS && offset + i == POWER_EVENTS &&
            offset <= POWER_EVENTS) {
            wanted = panel->reasons;
            panel->reasons = 0;
        }
        if (offset > UINT64_MAX - width) {
            wanted = 0xff; /* no bus leads there */
        }
        REQUIRE(seen[i] == wanted);
    }
}

static void save_step(struct panel *panel)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    bytes_writer_init(&writer, 1024);
    device_save(&panel->power->device, &writer);
    bytes_reader_init(&reader, writer.data, writer.size);
    REQUIRE(device_restore(&panel->power->device, &reader, NULL) == 0);
    bytes_writer_fini(&writer);
}

static void tell_step(struct panel *panel, enum step step)
{
    static const struct {
        void (*tell)(struct power_control *power);
        uint8_t reason;
    } rows[] = {{power_control_press, POWER_EVENT_BUTTON},
                {power_control_renew, POWER_EVENT_GENERATION},
                {power_control_tell_cpu, POWER_EVENT_CPU}};
    const unsigned row = (unsigned)(step - STEP_PRESS);
    rows[row].tell(panel->power);
    panel->reasons |= rows[row].reason;
}

static void step_do(struct panel *panel, const uint8_t *step)
{
    const enum step what = (enum step)(step[0] % STEP_COUNT);
    panel->asked.count = 0;
    switch (what) {
    case STEP_READ:
        read_step(panel, step);
        break;
    case STEP_WRITE:
        write_step(panel, step);
        break;
    case STEP_PRESS:
    case STEP_RENEW:
    case STEP_CPU:
        tell_step(panel, what);
        break;
    case STEP_START:
        device_start(&panel->power->device);
        break;
    case STEP_STOP:
        device_stop(&panel->power->device);
        break;
    case STEP_RESET:
        device_reset(&panel->power->device);
        panel->reasons = 0;
        break;
    case STEP_SAVE:
    case STEP_COUNT:
    default:
        save_step(panel);
        break;
    }
    REQUIRE(panel->power->reasons == panel->reasons);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct panel panel = {.power = NULL};
    REQUIRE(power_control_new(&panel.power) == 0);
    panel.power->asked = (struct device_line){on_asked, &panel};
    for (size_t at = 0; at + STEP_BYTES <= size; at += STEP_BYTES) {
        step_do(&panel, data + at);
    }
    device_free(&panel.power->device);
    return 0;
}
