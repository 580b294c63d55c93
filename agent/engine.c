#include "agent/engine.h"

#include "base/require.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void engine_limits_of(const struct machine_spec *machine,
                      struct engine_limits *ret_limits)
{
    *ret_limits = (struct engine_limits){.disk_count = 0};
    for (uint32_t i = 0; i < machine->disks.count && i < DISKS_MAX; i++) {
        const struct disk_spec *disk = &machine->disks.items[i];
        struct engine_disk_limit *to = &ret_limits->disks[ret_limits->disk_count++];
        memcpy(to->name, disk->name, sizeof(to->name));
        to->limit =
            (struct engine_limit){disk->limit.operations, disk->limit.operations_burst,
                                  disk->limit.bytes, disk->limit.bytes_burst};
    }
    for (uint32_t i = 0; i < machine->nics.count && i < NICS_MAX; i++) {
        const struct nic_limit *limit = &machine->nics.items[i].limit;
        ret_limits->nics[ret_limits->nic_count++] = (struct engine_limit){
            limit->operations, limit->operations_burst, limit->bytes, limit->bytes_burst};
    }
}

static bool limit_equal(const struct engine_limit *a, const struct engine_limit *b)
{
    return a->operations == b->operations && a->operations_burst == b->operations_burst &&
           a->bytes == b->bytes && a->bytes_burst == b->bytes_burst;
}

bool engine_limits_equal(const struct engine_limits *a, const struct engine_limits *b)
{
    bool equal = a->disk_count == b->disk_count && a->nic_count == b->nic_count;
    for (uint32_t i = 0; equal && i < a->disk_count; i++) {
        equal = strcmp(a->disks[i].name, b->disks[i].name) == 0 &&
                limit_equal(&a->disks[i].limit, &b->disks[i].limit);
    }
    for (uint32_t i = 0; equal && i < a->nic_count; i++) {
        equal = limit_equal(&a->nics[i], &b->nics[i]);
    }
    return equal;
}

bool engine_limits_are_none(const struct engine_limits *limits)
{
    static const struct engine_limit none;
    bool limited = false;
    for (uint32_t i = 0; i < limits->disk_count; i++) {
        limited = limited || !limit_equal(&limits->disks[i].limit, &none);
    }
    for (uint32_t i = 0; i < limits->nic_count; i++) {
        limited = limited || !limit_equal(&limits->nics[i], &none);
    }
    return !limited;
}

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
    vm->cpu_max = machine->cpu.max;
    vm->cpu_weight = machine->cpu.weight;
    vm->cpu_baseline = machine->cpu.baseline;
    vm->memory_bytes = machine->memory.size_bytes;
    vm->memory_is_huge = machine->memory.pages == MEMORY_PAGES_HUGE;
    vm->disk_count = machine->disks.count;
    for (uint32_t i = 0; i < machine->disks.count; i++) {
        const struct disk_spec *disk = &machine->disks.items[i];
        memcpy(vm->disks[i].name, disk->name, sizeof(vm->disks[i].name));
        vm->disks[i].from = disk->from;
        vm->disks[i].size_bytes = disk->size_bytes;
        vm->disks[i].read_only = disk->read_only;
    }
    engine_limits_of(machine, &vm->limits);
    return 0;
}

uint32_t engine_vm_cpus_most(const struct engine_vm *vm)
{
    return vm->cpu_max > vm->cpu_count ? vm->cpu_max : vm->cpu_count;
}

bool engine_vm_keeps_disks(const struct engine_vm *vm)
{
    bool keeps = vm->disk_count == 0 && vm->disk_path[0] != '\0'; /* it may boot that */
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        keeps = keeps || !vm->disks[i].read_only;
    }
    return keeps;
}

/* Names become parts of options and paths: nothing but names may be in them. */
static int names_check(const struct engine_vm *vm, struct err *err)
{
    if (!name_valid(vm->name) || !name_valid(vm->tenant)) {
        return err_set(err, BERTH_EINVALID, "VM or tenant name is not a name");
    }
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        if (!name_valid(vm->disks[i].name)) {
            return err_set(err, BERTH_EINVALID, "disk %" PRIu32 ": not a name", i);
        }
    }
    for (uint32_t i = 0; i < vm->nic_count; i++) {
        const char *tap = vm->nics[i].tap;
        if (tap[0] == '\0' || strpbrk(tap, ",/ =") != NULL) {
            return err_set(err, BERTH_EINVALID, "NIC %" PRIu32 ": not an interface", i);
        }
    }
    return 0;
}

int engine_vm_check(const struct engine_vm *vm, struct err *err)
{
    if (vm->folder[0] != '/' || strlen(vm->folder) > ENGINE_FOLDER_MAX) {
        return err_set(err, BERTH_EINVALID, "folder %s: not an absolute, short path",
                       vm->folder);
    }
    if (vm->memory_bytes < MIB || vm->cpu_count == 0) {
        return err_set(err, BERTH_EINVALID, "no memory or no CPU");
    }
    return names_check(vm, err);
}

const struct engine_ops *engine_choose(const struct engine_ops *const *engines,
                                       enum engine wanted,
                                       const struct engine_host *host,
                                       const struct engine_vm *vm)
{
    const struct engine_ops *asked = NULL;
    for (const struct engine_ops *const *at = engines; *at != NULL; at++) {
        if ((*at)->engine == wanted) {
            return *at;
        }
        if (wanted == ENGINE_AUTO && (*at)->engine != ENGINE_FAKE) {
            asked = *at;
            if (asked->check(host, vm, NULL) == 0) {
                return asked;
            }
        }
    }
    return asked;
}

const char *engine_end_name(enum engine_end end)
{
    static const char *const names[ENGINE_END_COUNT] = {
        "guest shutdown", "guest panic",  "guest fault", "stopped",
        "killed",         "start failed", "crashed",     "gone",
    };
    REQUIRE((unsigned)end < ENGINE_END_COUNT);
    return names[end];
}

/* Appends; what does not fit is cut. */
static void reason_add(struct engine_exit *exit, const char *before, const char *text)
{
    size_t used = strlen(exit->reason);
    (void)snprintf(exit->reason + used, sizeof(exit->reason) - used, "%s%s", before,
                   text);
}

static void reason_add_status(struct engine_exit *exit)
{
    char status[64];
    const char *signal_name = exit->process.signal_number < 0
                                  ? NULL
                                  : sigabbrev_np(exit->process.signal_number);
    if (signal_name != NULL) {
        (void)snprintf(status, sizeof(status), "ended by SIG%s", signal_name);
    } else if (exit->process.exit_status >= 0) {
        (void)snprintf(status, sizeof(status), "exit status %d",
                       exit->process.exit_status);
    } else {
        (void)snprintf(status, sizeof(status), "exit status unknown");
    }
    reason_add(exit, ": ", status);
}

void engine_exit_describe(struct engine_exit *ret_exit,
                          enum engine_end end,
                          const struct vm_process_end *process,
                          const char *what,
                          const char *log_path,
                          const struct console_ring *console)
{
    char line[128] = "";
    const bool by_guest = end == ENGINE_END_GUEST_PANIC || end == ENGINE_END_GUEST_FAULT;
    const bool fault =
        by_guest || end == ENGINE_END_START_FAILED || end == ENGINE_END_CRASHED;
    memset(ret_exit, 0, sizeof(*ret_exit));
    ret_exit->end = end;
    ret_exit->process = *process;
    reason_add(ret_exit, "", engine_end_name(end));
    if (what != NULL) {
        reason_add(ret_exit, ": ", what);
    } else if (fault && !by_guest) { /* how its program ended is our doing then */
        reason_add_status(ret_exit);
    }
    if (fault) {
        if (!by_guest) { /* nor has it anything to say of that */
            vm_process_log_last_line(log_path, line, sizeof(line));
        }
        if (line[0] != '\0') {
            reason_add(ret_exit, "; engine log: ", line);
        } else if (console != NULL) {
            console_ring_last_line(console, line, sizeof(line));
            reason_add(ret_exit, line[0] == '\0' ? "" : "; console: ", line);
        }
    }
}
