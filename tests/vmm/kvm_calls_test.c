/* Goal: a failed call says what it was for, and what is no KVM is found out. */
#include "support/test_main.h"
#include "vmm/kvm_calls.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

START_TEST(a_failed_call_says_what_it_was_for)
{
    struct err err = {0};
    int fd = open("/dev/null", O_RDWR);

    ck_assert_int_eq(kvm_call_number(fd, KVM_CREATE_VM, 0, "make a VM", &err), -ENOTTY);

    ck_assert_msg(strncmp(err.text, "KVM: make a VM: ", 16) == 0, "%s", err.text);
    (void)close(fd);
}
END_TEST

START_TEST(what_is_no_kvm_is_not_taken_for_one)
{
    int fd = open("/dev/null", O_RDWR);

    ck_assert_int_lt(kvm_check(fd, NULL), 0);
    ck_assert_int_eq(kvm_check(-1, NULL), -EBADF);
    (void)close(fd);
}
END_TEST

START_TEST(kvm_where_there_is_one_has_all_that_the_machine_needs)
{
    struct err err = {0};
    int fd = open("/dev/kvm", O_RDWR);
    if (fd < 0) {
        return; /* run on a machine with KVM by tests/system/kvm_machine_test.sh */
    }

    ck_assert_msg(kvm_check(fd, &err) == 0, "%s", err.text);
    (void)close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kvm_calls");
    TCase *tests = tcase_create("kvm_calls");
    tcase_add_test(tests, a_failed_call_says_what_it_was_for);
    tcase_add_test(tests, what_is_no_kvm_is_not_taken_for_one);
    tcase_add_test(tests, kvm_where_there_is_one_has_all_that_the_machine_needs);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
