#include "agent/engine.h"

#include "base/require.h"

#include <stdio.h>
#include <string.h>

int engine_vm_set_machine(struct engine_vm *vm,
                          const struct machine_spec *machine,
                          const char *image_cmdline,
                          struct err *err)
{
    const char *first = image_cmdline == NULL ? "" : image_cmdline;
    const char *second = machine->cmdline == NULL ? "" : machine->cmdline;
    const char *space = *first != '\0' && *second != '\0' ? " " : "";
    int length =
        snprintf(vm->cmdline, sizeof(vm->cmdline), "%s%s%s", first, space, second);
    if (length < 0 || (size_t)length >= sizeof(vm->cmdline)) {
        vm->cmdline[0] = '\0';
        return err_set(err, BERTH_EINVALID, "the kernel command lines exceed %zu bytes",
                       sizeof(vm->cmdline) - 1);
    }
    if (machine->disks.count > DISKS_MAX) {
        return err_set(err, BERTH_EINVALID, "more than %d disks", DISKS_MAX);
    }
    vm->cpu_count = machine->cpu.count;
    vm->cpu_weight = machine->cpu.weight;
    vm->memory_bytes = machine->memory.size_bytes;
    vm->disk_count = machine->disks.count;
    for (uint32_t i = 0; i < machine->disks.count; i++) {
        const struct disk_spec *disk = &machine->disks.items[i];
        memcpy(vm->disks[i].name, disk->name, sizeof(vm->disks[i].name));
        vm->disks[i].from = disk->from;
        vm->disks[i].size_bytes = disk->size_bytes;
    }
    return 0;
}

const char *engine_end_name(enum engine_end end)
{
    static const char *const names[ENGINE_END_COUNT] = {
        "guest shutdown", "guest panic", "stopped", "killed",
        "start failed",   "crashed",     "gone",
    };
    REQUIRE((unsigned)end < ENGINE_END_COUNT);
    return names[end];
}
