/* Goal: /proc is read as the kernel writes it, and this machine's facts make sense. */
#include "agent/host_facts.h"
#include "support/test_main.h"
#include "vmm/cpu_model.h"

#include <check.h>

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

START_TEST(busy_time_is_all_but_idle_and_waiting)
{
    uint64_t busy = 0;
    uint64_t total = 0;

    /* user nice system idle iowait irq softirq steal guest guest_nice */
    ck_assert(host_facts_parse_stat("cpu  100 20 30 1000 50 6 7 8 90 10\ncpu0 1 2 3\n",
                                    &busy, &total));

    ck_assert_uint_eq(busy, 171);
    ck_assert_uint_eq(total, 1221); /* guest time is in user already */
}
END_TEST

static const char *const bad_stats[] = {
    "",
    "cpu0 1 2 3 4 5 6 7 8\n",
    "cpu  1 2 3\n",
    "cpu  a b c d e f g h\n",
    "intr 1 2 3\n",
};

START_TEST(a_stat_that_is_none_is_refused)
{
    uint64_t busy = 1;
    uint64_t total = 2;

    ck_assert(!host_facts_parse_stat(bad_stats[_i], &busy, &total));

    ck_assert_uint_eq(busy, 1); /* never half-written */
    ck_assert_uint_eq(total, 2);
}
END_TEST

START_TEST(memory_is_read_by_its_names)
{
    uint64_t total = 0;
    uint64_t available = 0;

    ck_assert(host_facts_parse_meminfo("MemTotal:       1024 kB\nMemFree:  1 kB\n"
                                       "MemAvailable:    512 kB\n",
                                       &total, &available));
    ck_assert_uint_eq(total, 1024 * 1024);
    ck_assert_uint_eq(available, 512 * 1024);
    ck_assert(!host_facts_parse_meminfo("MemTotal: 5 kB\n", &total, &available));
    ck_assert(!host_facts_parse_meminfo("XMemTotal: 5 kB\nMemAvailable: 1 kB\n", &total,
                                        &available));
    ck_assert(!host_facts_parse_meminfo("MemTotal: kB\nMemAvailable: 1 kB\n", &total,
                                        &available));
    ck_assert_uint_eq(total, 1024 * 1024);
}
END_TEST

START_TEST(this_machine_has_cores_memory_and_a_kernel)
{
    struct host_facts facts;
    struct err err = {0};
    struct utsname names;
    bool qemu = system("command -v qemu-system-x86_64 >/dev/null") == 0;

    ck_assert_msg(host_facts_read(&facts, &err) == 0, "%s", err.text);

    ck_assert_uint_ge(facts.cores, 1);
    ck_assert_uint_le(facts.cores, (unsigned)sysconf(_SC_NPROCESSORS_CONF));
    ck_assert_uint_ge(facts.numa_nodes, 1);
    ck_assert_uint_gt(facts.memory_bytes, 64 * MIB);
    ck_assert_int_eq(uname(&names), 0);
    ck_assert_str_eq(facts.kernel, names.release);
    ck_assert(facts.engines & ENGINE_BIT(ENGINE_FAKE));
    ck_assert_int_eq((facts.engines & ENGINE_BIT(ENGINE_QEMU)) != 0, qemu);
    ck_assert_int_eq(facts.qemu_version[0] != '\0', qemu);
    ck_assert_msg(strpbrk(facts.qemu_version, " (\n") == NULL, "%s", facts.qemu_version);
    ck_assert_str_ne(facts.kvm_reason, "");
    ck_assert(facts.cpu_baseline == CPU_BASELINE_HOST ||
              (facts.engines & ENGINE_BIT(ENGINE_KVM)) != 0);
    ck_assert_uint_gt(facts.tsc_khz, 100000); /* slower ones are in museums */
    ck_assert_uint_lt(facts.tsc_khz, 10000000);
}
END_TEST

START_TEST(what_the_model_calls_a_baseline_is_a_level_of_berth_vmm)
{
    for (unsigned i = CPU_BASELINE_HOST; i <= CPU_BASELINE_V4; i++) {
        ck_assert_str_eq(cpu_baseline_names[i], cpu_level_name((enum cpu_level)i));
    }
}
END_TEST

/* KVM offers no more than the CPU has, and may offer less. */
START_TEST(a_host_gives_no_baseline_that_it_does_not_have)
{
    struct host_facts facts;
    ck_assert_int_eq(host_facts_read(&facts, NULL), 0);

    ck_assert(facts.cpu_baseline < CPU_BASELINE_V2 || __builtin_cpu_supports("sse4.2"));
    ck_assert(facts.cpu_baseline < CPU_BASELINE_V3 || __builtin_cpu_supports("avx2"));
    ck_assert(facts.cpu_baseline < CPU_BASELINE_V4 || __builtin_cpu_supports("avx512f"));
}
END_TEST

START_TEST(without_qemu_in_the_path_its_engine_is_not_offered)
{
    struct host_facts facts;
    ck_assert_int_eq(setenv("PATH", "/no/such/folder", 1), 0);

    ck_assert_int_eq(host_facts_read(&facts, NULL), 0);

    ck_assert_uint_eq(facts.engines, ENGINE_BIT(ENGINE_FAKE));
    ck_assert_str_eq(facts.qemu_version, "");
}
END_TEST

START_TEST(a_reserve_leaves_something_for_vms)
{
    struct host_facts facts = {.memory_bytes = 1 * GIB};
    struct err err;
    ck_assert_uint_eq(host_reserve_default(&facts), HOST_RESERVE_MAX);
    ck_assert_int_eq(host_reserve_check(&facts, 1 * GIB - 1, &err), 0);
    ck_assert_int_eq(host_reserve_check(&facts, 1 * GIB, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "--reserve-memory 1GiB is all of this "));
    ck_assert_int_eq(host_reserve_check(&facts, UINT64_MAX - 1, &err), BERTH_EINVALID);
    facts.memory_bytes = 128 * MIB; /* a small one has a part in the cluster, too */
    ck_assert_int_eq(host_reserve_check(&facts, host_reserve_default(&facts), &err), 0);
}
END_TEST

START_TEST(usage_is_within_what_there_is)
{
    struct host_sampler sampler = {0};
    struct host_usage usage;

    ck_assert_int_eq(host_usage_sample(&sampler, "/", &usage, NULL), 0);
    ck_assert_uint_le(usage.cpu_busy_permille, 1000);
    ck_assert_uint_gt(usage.memory_used_bytes, 0);
    ck_assert_uint_gt(usage.memory_available_bytes, 0);
    ck_assert_uint_ge(usage.disk_total_bytes, usage.disk_free_bytes);
    ck_assert_uint_gt(usage.disk_total_bytes, 0);
    ck_assert_uint_eq(host_disk_bytes("/"), usage.disk_total_bytes);
    ck_assert_uint_eq(host_disk_bytes("/no/such/folder"), 0);
    ck_assert_uint_gt(sampler.total_ticks, 0);
    ck_assert_int_eq(host_usage_sample(&sampler, "/no/such/folder", &usage, NULL), 0);

    ck_assert_uint_eq(usage.disk_total_bytes, 0); /* not known: 0, not an error */
    ck_assert_uint_le(usage.cpu_busy_permille, 1000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("host_facts");
    TCase *tests = tcase_create("host_facts");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, busy_time_is_all_but_idle_and_waiting);
    tcase_add_loop_test(tests, a_stat_that_is_none_is_refused, 0,
                        sizeof(bad_stats) / sizeof(bad_stats[0]));
    tcase_add_test(tests, memory_is_read_by_its_names);
    tcase_add_test(tests, this_machine_has_cores_memory_and_a_kernel);
    tcase_add_test(tests, what_the_model_calls_a_baseline_is_a_level_of_berth_vmm);
    tcase_add_test(tests, a_host_gives_no_baseline_that_it_does_not_have);
    tcase_add_test(tests, without_qemu_in_the_path_its_engine_is_not_offered);
    tcase_add_test(tests, a_reserve_leaves_something_for_vms);
    tcase_add_test(tests, usage_is_within_what_there_is);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
