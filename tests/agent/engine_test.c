/* Goal: a template becomes a machine, and an end becomes a sentence. */
#include "agent/engine.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>

START_TEST(a_machine_takes_over_the_templates_figures)
{
    struct engine_vm vm = {0};
    char extra[] = "quiet";
    struct disk_spec disks[2] = {
        {.name = "root", .from = DISK_FROM_IMAGE, .size_bytes = GIB, .read_only = true},
        {.name = "data", .from = DISK_EMPTY, .size_bytes = MIB},
    };
    struct machine_spec machine = {
        .cpu = {.count = 3, .max = 5, .weight = 200, .baseline = CPU_BASELINE_V2},
        .memory = {.size_bytes = 96 * MIB, .pages = MEMORY_PAGES_HUGE},
        .disks = {.items = disks, .count = 2},
        .cmdline = extra,
    };

    ck_assert_int_eq(engine_vm_set_machine(&vm, &machine, "console=ttyS0", NULL), 0);

    ck_assert_str_eq(vm.cmdline, "console=ttyS0 quiet");
    ck_assert_uint_eq(vm.cpu_count, 3);
    ck_assert_uint_eq(vm.cpu_max, 5);
    ck_assert_uint_eq(engine_vm_cpus_most(&vm), 5);
    ck_assert_uint_eq(vm.cpu_weight, 200);
    ck_assert_uint_eq(vm.cpu_baseline, CPU_BASELINE_V2);
    ck_assert_uint_eq(vm.memory_bytes, 96 * MIB);
    ck_assert(vm.memory_is_huge);
    ck_assert_uint_eq(vm.disk_count, 2);
    ck_assert_str_eq(vm.disks[1].name, "data");
    ck_assert_uint_eq(vm.disks[0].from, DISK_FROM_IMAGE);
    ck_assert(vm.disks[0].read_only && !vm.disks[1].read_only);
}
END_TEST

START_TEST(what_is_only_read_leaves_no_disks)
{
    struct engine_vm vm = {.disk_count = 0};
    ck_assert(!engine_vm_keeps_disks(&vm));
    (void)snprintf(vm.disk_path, sizeof(vm.disk_path), "/images/1");
    ck_assert(engine_vm_keeps_disks(&vm)); /* it may be booted, without being asked for */
    vm.disks[vm.disk_count++] =
        (struct engine_disk){.from = DISK_FROM_IMAGE, .read_only = true};
    ck_assert(!engine_vm_keeps_disks(&vm));
    vm.disks[vm.disk_count++] = (struct engine_disk){.from = DISK_EMPTY};
    ck_assert(engine_vm_keeps_disks(&vm));
}
END_TEST

START_TEST(a_command_line_that_does_not_fit_is_refused)
{
    static struct engine_vm vm;
    static char part[1500];
    memset(part, 'x', sizeof(part) - 1);
    struct machine_spec machine = {.cmdline = part};
    struct err err = {0};

    ck_assert_int_eq(engine_vm_set_machine(&vm, &machine, part, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "command line"));
    ck_assert_int_eq(engine_vm_set_machine(&vm, &machine, NULL, &err), 0);
}
END_TEST

START_TEST(a_crash_is_told_with_status_and_last_words)
{
    struct temp_dir dir;
    temp_dir_init(&dir);
    char *log = temp_dir_path(&dir, "log");
    struct console_ring *console = console_ring_new();
    console_ring_append(console, "Kernel panic\n", 13);
    struct engine_exit exit;
    struct vm_process_end killed = {.exit_status = -1, .signal_number = SIGSEGV};
    struct vm_process_end left = {.exit_status = 1, .signal_number = -1};

    engine_exit_describe(&exit, ENGINE_END_CRASHED, &killed, NULL, log, console);
    ck_assert_str_eq(exit.reason, "crashed: ended by SIGSEGV; console: Kernel panic");
    temp_dir_write(&dir, "log", "one\ncould not open tap\n");
    engine_exit_describe(&exit, ENGINE_END_START_FAILED, &left, NULL, log, console);
    ck_assert_str_eq(exit.reason,
                     "start failed: exit status 1; engine log: could not open tap");
    engine_exit_describe(&exit, ENGINE_END_STOPPED, &left, NULL, log, console);
    ck_assert_str_eq(exit.reason, "stopped");

    console_ring_free(console);
    free(log);
    temp_dir_fini(&dir);
}
END_TEST

/* ---- which engine ---- */

static int
agree(const struct engine_host *host, const struct engine_vm *vm, struct err *err)
{
    (void)host;
    (void)vm;
    (void)err;
    return 0;
}

static int
needs_native(const struct engine_host *host, const struct engine_vm *vm, struct err *err)
{
    (void)vm;
    return host->kvm == KVM_NATIVE ? 0 : err_set(err, BERTH_EUNSUPPORTED, "no KVM");
}

static int
needs_disk(const struct engine_host *host, const struct engine_vm *vm, struct err *err)
{
    (void)host;
    return vm->disk_count > 0 ? 0 : err_set(err, BERTH_EINVALID, "no disk");
}

static const struct engine_ops first = {.engine = ENGINE_KVM, .check = needs_native};
static const struct engine_ops second = {.engine = ENGINE_QEMU, .check = needs_disk};
static const struct engine_ops last = {.engine = ENGINE_FAKE, .check = agree};
static const struct engine_ops *const all[] = {&first, &second, &last, NULL};
static const struct engine_ops *const some[] = {&second, &last, NULL};

struct choice_row {
    const struct engine_ops *const *engines;
    enum engine wanted;
    enum kvm_kind kvm;
    uint32_t disk_count;
    const struct engine_ops *chosen;
};

static const struct choice_row choices[] = {
    {all, ENGINE_AUTO, KVM_NATIVE, 1, &first},
    {all, ENGINE_AUTO, KVM_NONE, 1, &second},
    {all, ENGINE_AUTO, KVM_EMULATED, 0, &second}, /* its check says why not */
    {some, ENGINE_AUTO, KVM_NATIVE, 1, &second},
    {all, ENGINE_QEMU, KVM_NATIVE, 1, &second},
    {all, ENGINE_KVM, KVM_NONE, 1, &first}, /* likewise */
    {all, ENGINE_FAKE, KVM_NATIVE, 1, &last},
    {some, ENGINE_KVM, KVM_NATIVE, 1, NULL},
};

START_TEST(auto_is_the_first_engine_that_can_and_never_the_fake)
{
    const struct choice_row *row = &choices[_i];
    const struct engine_host host = {.kvm = row->kvm};
    const struct engine_vm vm = {.disk_count = row->disk_count};

    ck_assert_ptr_eq(engine_choose(row->engines, row->wanted, &host, &vm), row->chosen);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine");
    TCase *tests = tcase_create("engine");
    tcase_add_test(tests, a_machine_takes_over_the_templates_figures);
    tcase_add_test(tests, what_is_only_read_leaves_no_disks);
    tcase_add_test(tests, a_command_line_that_does_not_fit_is_refused);
    tcase_add_test(tests, a_crash_is_told_with_status_and_last_words);
    tcase_add_loop_test(tests, auto_is_the_first_engine_that_can_and_never_the_fake, 0,
                        sizeof(choices) / sizeof(choices[0]));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
