/* Goal: every answer of the probe is one that placement can rely on. Method: devices that
 * are none, and the one this machine has, whatever it is worth. */
#include "base/clock.h"
#include "support/test_main.h"
#include "vmm/kvm_probe.h"

#include <check.h>

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

struct none_row {
    const char *device;
    const char *word;
};

static const struct none_row nones[] = {
    {"/dev/no-such-device", "open /dev/no-such-device: "},
    {"/dev/null", "/dev/null does not speak KVM"},
    {"/", "open /: "},
};

START_TEST(what_is_not_kvm_is_none_with_the_reason)
{
    struct kvm_probe_result result;

    kvm_probe(nones[_i].device, &result);

    ck_assert_int_eq(result.kind, KVM_NONE);
    ck_assert_uint_eq(result.elapsed_ns, 0);
    ck_assert_msg(strstr(result.reason, nones[_i].word) != NULL, "%s", result.reason);
}
END_TEST

START_TEST(the_answer_fits_what_was_measured)
{
    struct kvm_probe_result result;

    kvm_probe("/dev/kvm", &result);

    ck_assert_str_ne(result.reason, "");
    switch (result.kind) {
    case KVM_NATIVE:
        ck_assert_uint_lt(result.elapsed_ns, KVM_PROBE_NATIVE_MS * NS_PER_MS);
        break;
    case KVM_EMULATED:
        ck_assert_uint_ge(result.elapsed_ns, KVM_PROBE_NATIVE_MS * NS_PER_MS);
        break;
    case KVM_NONE:
        ck_assert_uint_eq(result.elapsed_ns, 0);
        break;
    default:
        ck_abort_msg("not a kind: %d", result.kind);
    }
}
END_TEST

static unsigned count_entries(const char *folder)
{
    unsigned count = 0;
    DIR *entries = opendir(folder);
    ck_assert_ptr_nonnull(entries);
    while (readdir(entries) != NULL) {
        count++;
    }
    closedir(entries);
    return count;
}

static void on_urgent(int number)
{
    (void)number;
}

START_TEST(the_probe_leaves_nothing_behind)
{
    struct sigaction mine = {.sa_handler = on_urgent};
    struct sigaction after;
    struct kvm_probe_result result;
    ck_assert_int_eq(sigaction(SIGURG, &mine, NULL), 0);
    kvm_probe("/dev/kvm",
              &result); /* a sanitizer begins a thread of its own at the first */
    unsigned fds = count_entries("/proc/self/fd");
    unsigned threads = count_entries("/proc/self/task");

    kvm_probe("/dev/kvm", &result);
    kvm_probe("/dev/kvm", &result);

    ck_assert_uint_eq(count_entries("/proc/self/fd"), fds);
    ck_assert_uint_eq(count_entries("/proc/self/task"), threads);
    ck_assert_int_eq(sigaction(SIGURG, NULL, &after), 0);
    ck_assert(after.sa_handler == on_urgent);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kvm_probe");
    TCase *tests = tcase_create("kvm_probe");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, what_is_not_kvm_is_none_with_the_reason, 0,
                        sizeof(nones) / sizeof(nones[0]));
    tcase_add_test(tests, the_answer_fits_what_was_measured);
    tcase_add_test(tests, the_probe_leaves_nothing_behind);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
