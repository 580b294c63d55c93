/* The registers of plugged CPUs: accesses of any width, anywhere, between CPUs that come,
 * resets and saves. A guest never changes which CPUs there are, and sees each that came
 * once: a copy that takes no shortcuts agrees. Steps of four bytes: what, where, and two
 * of its own. */
#include "base/bytes.h"
#include "base/require.h"
#include "vmm/cpu_plug.h"
#include "vmm/machine_layout.h"

#include <string.h>

#define STEP_BYTES 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step { STEP_READ = 0, STEP_WRITE, STEP_COME, STEP_RESET, STEP_SAVE, STEP_COUNT };

struct model {
    bool present[CPU_PLUG_MAX];
    bool come[CPU_PLUG_MAX];
};

static uint8_t model_read(struct model *model, uint64_t offset)
{
    uint8_t value = 0;
    if (offset >= CPU_PLUG_SIZE) {
        return 0xff;
    }
    for (unsigned bit = 0; bit < 8; bit++) {
        const uint64_t cpu = 8 * (offset % 8) + bit;
        bool *is_set = offset < 8 ? &model->present[cpu] : &model->come[cpu];
        value = (uint8_t)(value | *is_set << bit);
        *is_set = offset < 8 && *is_set;
    }
    return value;
}

static void read_step(struct cpu_plug *plug, struct model *model, const uint8_t *step)
{
    uint8_t seen[DEVICE_ACCESS_MAX];
    const uint64_t offset = step[3] % 16 == 0 ? UINT64_MAX - 2 * step[1] - 16 : step[1];
    const unsigned width = 1 + step[2] % DEVICE_ACCESS_MAX;
    device_read(&plug->device, step[3], offset, seen, width);
    for (unsigned i = 0; i < width; i++) {
        REQUIRE(seen[i] == model_read(model, offset + i));
    }
}

static void save_step(struct cpu_plug *plug)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    bytes_writer_init(&writer, 1024);
    device_save(&plug->device, &writer);
    bytes_reader_init(&reader, writer.data, writer.size);
    REQUIRE(device_restore(&plug->device, &reader, NULL) == 0);
    bytes_writer_fini(&writer);
}

static void step_do(struct cpu_plug *plug, struct model *model, const uint8_t *step)
{
    const uint64_t junk = UINT64_C(0x0101010101010101) * step[3];
    const unsigned cpu = step[1] % plug->cpu_count;
    switch (step[0] % STEP_COUNT) {
    case STEP_READ:
        read_step(plug, model, step);
        break;
    case STEP_WRITE:
        device_write(&plug->device, 0, step[1], &junk, 1 + step[2] % DEVICE_ACCESS_MAX);
        break;
    case STEP_COME:
        cpu_plug_add(plug, cpu, step[2] % 2 == 0);
        model->present[cpu] = true;
        model->come[cpu] |= step[2] % 2 == 0;
        break;
    case STEP_RESET:
        device_reset(&plug->device);
        memset(model->come, 0, sizeof(model->come));
        break;
    case STEP_SAVE:
    default:
        save_step(plug);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cpu_plug *plug;
    struct model model = {.present = {true}};
    if (size == 0) {
        return 0;
    }
    REQUIRE(cpu_plug_new(1 + data[0] % CPU_PLUG_MAX, 1, &plug) == 0);
    for (size_t at = 1; at + STEP_BYTES <= size; at += STEP_BYTES) {
        step_do(plug, &model, data + at);
    }
    uint64_t present = cpu_plug_present(plug);
    for (unsigned i = 0; i < CPU_PLUG_MAX; i++) {
        REQUIRE(model.present[i] == (present >> i & 1));
    }
    device_free(&plug->device);
    return 0;
}
