#include "vmm/machine_state.h"

#include "base/cleanup.h"
#include "vmm/kvm_calls.h"
#include "vmm/kvm_state.h"
#include "vmm/state_stream.h"
#include "vmm/vcpu_state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTION_VERSION   1u
#define TSC_TOLERANCE_PPM 250u /* as far as KVM itself takes two rates for one */

/* ---- saving ---- */

/* Puts what was written into the stream, and is done with it. */
static void section_put(struct bytes_writer *stream,
                        enum state_section_id id,
                        struct bytes_writer *section)
{
    const struct state_section put = {.id = id,
                                      .version = SECTION_VERSION,
                                      .data = section->data,
                                      .size = section->size};
    if (section->error != 0) {
        stream->error = section->error;
    } else {
        state_stream_put(stream, &put);
    }
    bytes_writer_fini(section);
}

/* 0 when KVM does not tell. */
static uint32_t tsc_khz(const struct machine_parts *parts)
{
    int r = kvm_call_number(parts->vcpus[0].fd, KVM_GET_TSC_KHZ, 0, "ask for TSC", NULL);
    return r > 0 ? (uint32_t)r : 0;
}

static void machine_put(const struct machine_parts *parts, struct bytes_writer *stream)
{
    struct bytes_writer section;
    bytes_writer_init(&section, STATE_SECTION_MAX);
    bytes_write_u32(&section, parts->cpu_count);
    bytes_write_u64(&section, parts->memory_bytes);
    bytes_write_u32(&section, parts->device_count);
    bytes_write_u32(&section, tsc_khz(parts));
    cpu_table_write(parts->cpu_table, &section);
    section_put(stream, STATE_MACHINE, &section);
}

static int
kvm_put(const struct machine_parts *parts, struct bytes_writer *stream, struct err *err)
{
    struct bytes_writer section;
    struct kvm_state state;
    int r = kvm_state_take(&state, parts->vm_fd, parts->wall_ms, err);
    if (r < 0) {
        return r;
    }
    bytes_writer_init(&section, STATE_SECTION_MAX);
    kvm_state_write(&state, &section);
    section_put(stream, STATE_KVM, &section);
    return 0;
}

static int device_put(struct device *device, struct bytes_writer *stream, struct err *err)
{
    struct bytes_writer section;
    int r = device_may_save(device, err);
    if (r < 0) {
        return r;
    }
    bytes_writer_init(&section, STATE_SECTION_MAX);
    device_save(device, &section);
    section_put(stream, STATE_DEVICE, &section);
    return 0;
}

static int vcpu_put(const struct vcpu *vcpu,
                    int kvm_fd,
                    struct bytes_writer *stream,
                    struct err *err)
{
    struct bytes_writer section;
    struct vcpu_state state;
    int r = vcpu_state_take(&state, vcpu->fd, kvm_fd, err);
    if (r < 0) {
        vcpu_state_fini(&state);
        return err_wrap(err, r, "CPU %u", vcpu->index);
    }
    bytes_writer_init(&section, STATE_SECTION_MAX);
    vcpu_state_write(&state, &section);
    section_put(stream, STATE_VCPU, &section);
    vcpu_state_fini(&state);
    return 0;
}

int machine_state_save(const struct machine_parts *parts,
                       struct bytes_writer *stream,
                       struct err *err)
{
    state_stream_begin(stream);
    machine_put(parts, stream);
    int r = kvm_put(parts, stream, err);
    for (unsigned i = 0; r == 0 && i < parts->device_count; i++) {
        r = device_put(parts->devices[i], stream, err);
    }
    for (unsigned i = 0; r == 0 && i < parts->cpu_count; i++) {
        r = vcpu_put(&parts->vcpus[i], parts->kvm_fd, stream, err);
    }
    if (r == 0 && stream->error != 0) {
        r = err_sys(err, stream->error, "write the machine's state");
    }
    return r < 0 ? r : (int)(2 + parts->device_count + parts->cpu_count);
}

void machine_state_finish(struct bytes_writer *stream,
                          const struct bytes_writer *memory,
                          unsigned section_count)
{
    const struct state_section section = {.id = STATE_MEMORY,
                                          .version = SECTION_VERSION,
                                          .data = memory->data,
                                          .size = memory->size};
    state_stream_put(stream, &section);
    state_stream_end(stream, section_count + 1);
}

/* ---- restoring ---- */

struct restoring {
    const struct machine_parts *parts;
    machine_ram_take *take_ram;
    void *context;
    bool has_machine;
    bool has_kvm;
    bool has_ram;
    unsigned devices; /* so far */
    unsigned vcpus;
    uint32_t tsc_khz;
    struct kvm_state kvm;
};

static int shape_check(const struct machine_parts *parts,
                       uint32_t cpus,
                       uint64_t memory_bytes,
                       uint32_t devices,
                       struct err *err)
{
    if (cpus != parts->cpu_count) {
        return err_set(err, BERTH_EINVALID,
                       "the saved machine has %u CPUs and this one has %u", cpus,
                       parts->cpu_count);
    }
    if (memory_bytes != parts->memory_bytes) {
        return err_set(err, BERTH_EINVALID,
                       "the saved machine has %" PRIu64
                       "MiB of RAM and this one has %" PRIu64 "MiB",
                       memory_bytes >> 20, parts->memory_bytes >> 20);
    }
    if (devices != parts->device_count) {
        return err_set(err, BERTH_EINVALID,
                       "the saved machine has %u devices and this one has %u", devices,
                       parts->device_count);
    }
    return 0;
}

static bool rates_differ(uint32_t a, uint32_t b)
{
    const uint64_t apart = a > b ? a - b : b - a;
    return apart * 1000000u > (uint64_t)a * TSC_TOLERANCE_PPM;
}

/* The guest counts on its counter's rate. */
static int tsc_adapt(const struct restoring *restoring, struct err *err)
{
    const struct machine_parts *parts = restoring->parts;
    const uint32_t was = restoring->tsc_khz;
    const uint32_t is = tsc_khz(parts);
    if (was == 0 || is == 0 || !rates_differ(was, is)) {
        return 0;
    }
    for (unsigned i = 0; i < parts->cpu_count; i++) {
        if (kvm_call_number(parts->vcpus[i].fd, KVM_SET_TSC_KHZ, was, "set TSC", NULL) <
            0) {
            return err_set(err, BERTH_EUNSUPPORTED,
                           "the guest's time stamp counter ran at %u kHz; this host's "
                           "runs at %u and cannot be made to",
                           was, is);
        }
    }
    return 0;
}

static int
machine_take(struct restoring *restoring, struct bytes_reader *reader, struct err *err)
{
    CLEANUP_FREE struct cpu_table *table = cleanup_new(1, sizeof(*table));
    if (table == NULL) {
        return err_sys(err, -ENOMEM, "read the machine's state");
    }
    const uint32_t cpus = bytes_read_u32(reader);
    const uint64_t memory_bytes = bytes_read_u64(reader);
    const uint32_t devices = bytes_read_u32(reader);
    restoring->tsc_khz = bytes_read_u32(reader);
    if (cpu_table_read(table, reader) < 0) {
        return err_set(err, BERTH_ECORRUPT, "the machine's own section is damaged");
    }
    int r = shape_check(restoring->parts, cpus, memory_bytes, devices, err);
    if (r == 0) {
        r = cpu_model_same(table, restoring->parts->cpu_table, err);
    }
    if (r == 0) {
        r = tsc_adapt(restoring, err);
    }
    /* No device may be in the way of another that was moved to its place. */
    for (unsigned i = 0; r == 0 && i < restoring->parts->device_count; i++) {
        device_reset(restoring->parts->devices[i]);
    }
    return r;
}

static int
kvm_take(struct restoring *restoring, struct bytes_reader *reader, struct err *err)
{
    int r = kvm_state_read(&restoring->kvm, reader, err);
    return r < 0 ? r
                 : kvm_state_apply_chips(&restoring->kvm, restoring->parts->vm_fd, err);
}

static int
device_take(struct restoring *restoring, struct bytes_reader *reader, struct err *err)
{
    if (restoring->devices == restoring->parts->device_count) {
        return err_set(err, BERTH_ECORRUPT, "there is one device too many");
    }
    return device_restore(restoring->parts->devices[restoring->devices++], reader, err);
}

static int
vcpu_take(struct restoring *restoring, struct bytes_reader *reader, struct err *err)
{
    struct vcpu_state state;
    const unsigned index = restoring->vcpus++;
    if (index == restoring->parts->cpu_count) {
        return err_set(err, BERTH_ECORRUPT, "there is one CPU too many");
    }
    int r = vcpu_state_read(&state, reader, err);
    if (r < 0) {
        return err_wrap(err, r, "CPU %u", index);
    }
    r = vcpu_state_apply(&state, index == 0, restoring->parts->vcpus[index].fd, err);
    vcpu_state_fini(&state);
    return r < 0 ? err_wrap(err, r, "CPU %u", index) : 0;
}

static int
ram_take(struct restoring *restoring, struct bytes_reader *reader, struct err *err)
{
    return restoring->take_ram(restoring->context, reader, err);
}

static const struct {
    enum state_section_id id;
    int (*take)(struct restoring *restoring,
                struct bytes_reader *reader,
                struct err *err);
    size_t has_at; /* of what comes once: the flag that it did; 0: what is counted */
} takers[] = {
    {STATE_MACHINE, machine_take, offsetof(struct restoring, has_machine)},
    {STATE_KVM, kvm_take, offsetof(struct restoring, has_kvm)},
    {STATE_DEVICE, device_take, 0},
    {STATE_VCPU, vcpu_take, 0},
    {STATE_MEMORY, ram_take, offsetof(struct restoring, has_ram)},
};

/* False: it was there before. */
static bool comes_now(struct restoring *restoring, size_t has_at)
{
    bool *has = (bool *)((uint8_t *)restoring + has_at);
    const bool comes = has_at == 0 || !*has;
    if (has_at != 0) {
        *has = true;
    }
    return comes;
}

static int section_take(struct restoring *restoring,
                        const struct state_section *section,
                        struct err *err)
{
    for (unsigned i = 0; i < ARRAY_COUNT(takers); i++) {
        struct bytes_reader reader;
        if (section->id != takers[i].id || section->version != SECTION_VERSION) {
            continue;
        }
        if (section->id != STATE_MACHINE && !restoring->has_machine) {
            return err_set(err, BERTH_ECORRUPT, "the state does not begin as it should");
        }
        if (!comes_now(restoring, takers[i].has_at)) {
            return err_set(err, BERTH_ECORRUPT, "section %u is there twice", section->id);
        }
        bytes_reader_init(&reader, section->data, section->size);
        int r = takers[i].take(restoring, &reader, err);
        return r == 0 && bytes_reader_end(&reader) != 0
                   ? err_set(err, BERTH_ECORRUPT, "section %u is cut short or too long",
                             section->id)
                   : r;
    }
    return state_section_unknown(section, err);
}

/* What is damaged anywhere is not begun with. */
static int stream_check(const void *stream, size_t size, struct err *err)
{
    struct state_reader reader;
    struct state_section section;
    int r = state_reader_init(&reader, stream, size, err);
    if (r < 0) {
        return r;
    }
    do {
        r = state_reader_next(&reader, &section, err);
    } while (r > 0);
    return r;
}

static int
stream_take(struct restoring *restoring, const void *stream, size_t size, struct err *err)
{
    struct state_reader reader;
    struct state_section section;
    int r = state_reader_init(&reader, stream, size, err);
    if (r < 0) {
        return r;
    }
    while ((r = state_reader_next(&reader, &section, err)) > 0) {
        r = section_take(restoring, &section, err);
        if (r < 0) {
            return r;
        }
    }
    return r;
}

int machine_state_restore(const struct machine_parts *parts,
                          const void *stream,
                          size_t size,
                          machine_ram_take *take_ram,
                          void *context,
                          struct err *err)
{
    struct restoring restoring = {
        .parts = parts, .take_ram = take_ram, .context = context};
    int r = stream_check(stream, size, err);
    if (r == 0) {
        r = stream_take(&restoring, stream, size, err);
    }
    if (r == 0 && (!restoring.has_machine || !restoring.has_kvm || !restoring.has_ram ||
                   restoring.devices != parts->device_count ||
                   restoring.vcpus != parts->cpu_count)) {
        r = err_set(err, BERTH_ECORRUPT, "the state is not of a whole machine");
    }
    return r < 0
               ? r
               : kvm_state_apply_clock(&restoring.kvm, parts->vm_fd, parts->wall_ms, err);
}
