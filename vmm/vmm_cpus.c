#include "vmm/vmm_cpus.h"

#include "base/cleanup.h"

#include <stdio.h>
#include <string.h>

#define TYPE_SIZE 48u

static void type_write(const struct machine *machine, char ret_type[TYPE_SIZE])
{
    (void)snprintf(ret_type, TYPE_SIZE, "%s-x86_64-cpu",
                   cpu_level_name(machine_cpu_level(machine))); /* fits */
}

/* ---- what there is */

static json_t *exits_pack(const struct vcpu *vcpu)
{
    json_t *exits = json_object();
    for (unsigned k = 0; k < VCPU_EXIT_COUNT; k++) {
        const uint64_t count = counter_read(&vcpu->exits[k].count);
        (void)json_object_set_new(exits, vcpu_exit_name((enum vcpu_exit)k),
                                  json_integer((json_int_t)count)); /* one less */
    }
    return exits;
}

json_t *vmm_cpus_list(const struct machine *machine)
{
    json_t *cpus = json_array();
    for (unsigned i = 0; i < machine_cpu_count(machine); i++) {
        const struct vcpu *vcpu = machine_vcpu(machine, i);
        if (!machine_cpu_is_plugged(machine, i)) {
            continue;
        }
        json_t *cpu = json_pack("{s:i, s:i, s:s, s:o}", "cpu-index", (int)i, "thread-id",
                                atomic_load(&vcpu->thread_id), "target", "x86_64",
                                "exits", exits_pack(vcpu));
        if (cpu == NULL || json_array_append_new(cpus, cpu) != 0) {
            json_decref(cpus);
            return NULL;
        }
    }
    return cpus;
}

json_t *vmm_cpus_list_possible(const struct machine *machine)
{
    char type[TYPE_SIZE];
    json_t *cpus = json_array();
    type_write(machine, type);
    for (unsigned i = 0; i < machine_cpu_count(machine); i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "/machine/cpus/%u", i); /* fits */
        json_t *cpu =
            json_pack("{s:s, s:i, s:{s:i, s:i, s:i}}", "type", type, "vcpus-count", 1,
                      "props", "socket-id", 0, "core-id", (int)i, "thread-id", 0);
        if (cpu == NULL || json_array_append_new(cpus, cpu) != 0 ||
            (machine_cpu_is_plugged(machine, i) &&
             json_object_set_new(cpu, "qom-path", json_string(path)) != 0)) {
            json_decref(cpus);
            return NULL;
        }
    }
    return cpus;
}

/* ---- one more */

/* Which the one that comes is: nothing but its core can be chosen. */
static int place_check(const json_t *arguments, struct err *err)
{
    static const char *const zeros[] = {"socket-id", "die-id", "thread-id"};
    static const char *const known[] = {"driver", "id", "core-id"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)arguments, key, value)
    {
        bool is_zero = false;
        bool is_known = false;
        for (unsigned i = 0; i < ARRAY_COUNT(zeros); i++) {
            is_zero |= strcmp(key, zeros[i]) == 0;
        }
        for (unsigned i = 0; i < ARRAY_COUNT(known); i++) {
            is_known |= strcmp(key, known[i]) == 0;
        }
        if (is_zero && (!json_is_integer(value) || json_integer_value(value) != 0)) {
            return err_set(err, BERTH_EINVALID, "%s: there is only 0", key);
        }
        if (!is_zero && !is_known) {
            return err_set(err, BERTH_EINVALID, "%.40s: a CPU has no such property", key);
        }
    }
    return 0;
}

static int type_check(const struct machine *machine, const char *driver, struct err *err)
{
    char type[TYPE_SIZE];
    type_write(machine, type);
    return strcmp(driver, type) == 0
               ? 0
               : err_set(err, BERTH_ENOTFOUND,
                         "driver: %.40s: only virtio-blk-pci, virtio-net-pci and CPUs "
                         "can be added, and those are %s",
                         driver[0] != '\0' ? driver : "none", type);
}

int vmm_cpus_add(struct machine *machine, const json_t *arguments, struct err *err)
{
    const json_t *core = json_object_get(arguments, "core-id");
    int r = type_check(machine, json_member_text(arguments, "driver", ""), err);
    if (r == 0) {
        r = place_check(arguments, err);
    }
    if (r < 0) {
        return r;
    }
    if (!json_is_integer(core) || json_integer_value(core) < 0 ||
        json_integer_value(core) > INT32_MAX) {
        return err_set(err, BERTH_EINVALID,
                       "core-id: which CPU comes: query-hotpluggable-cpus lists them");
    }
    return machine_plug_cpu(machine, (unsigned)json_integer_value(core), err);
}
