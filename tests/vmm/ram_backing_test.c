/* Goal: RAM is refused before it is made when the host cannot have it, with what is
 * missing, and what is made is what was asked for. Method: a folder that says what sysfs
 * would, and the kernel itself for policies and mappings. */
#include "base/cleanup.h"
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/ram_backing.h"

#include <check.h>

#include <fcntl.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MIB  (UINT64_C(1) << 20)
#define POOL "kernel/mm/hugepages/hugepages-2048kB"
#define NODE "devices/system/node/node0/hugepages/hugepages-2048kB"
#define THP  "kernel/mm/transparent_hugepage"

static struct temp_dir sys;

static void setup(void)
{
    temp_dir_init(&sys);
}

static void teardown(void)
{
    temp_dir_fini(&sys);
}

/* With all folders above it. */
static void says(const char *folder, const char *name, const char *text)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s/%s", sys.path, folder, name);
    for (char *at = path + strlen(sys.path) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        (void)mkdir(path, 0700); /* it may be there */
        *at = '/';
    }
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fprintf(file, "%s\n", text), 0);
    ck_assert_int_eq(fclose(file), 0);
}

static void pool_is(const char *total,
                    const char *free_pages,
                    const char *taken,
                    const char *may_come,
                    const char *came)
{
    says(POOL, "nr_hugepages", total);
    says(POOL, "free_hugepages", free_pages);
    says(POOL, "resv_hugepages", taken);
    says(POOL, "nr_overcommit_hugepages", may_come);
    says(POOL, "surplus_hugepages", came);
}

static int
check(enum ram_pages pages, enum ram_policy policy, uint64_t mib, struct err *err)
{
    const struct ram_backing backing = {.pages = pages, .policy = policy};
    return ram_backing_check(&backing, mib * MIB, sys.path, err);
}

START_TEST(a_pool_that_is_too_small_is_told_with_its_numbers)
{
    struct err err = {0};
    pool_is("100", "80", "30", "0", "0");

    ck_assert_int_eq(check(RAM_PAGES_2M, RAM_POLICY_NONE, 100, &err), 0);
    ck_assert_int_eq(check(RAM_PAGES_2M, RAM_POLICY_NONE, 102, &err), BERTH_EFULL);

    ck_assert_str_eq(
        err.text, "huge=2M: 51 pages are needed and 50 of the host's 100 are free; its "
                  "owner reserves more in /sys/" POOL "/nr_hugepages");
}
END_TEST

START_TEST(pages_that_may_still_come_to_the_pool_count)
{
    pool_is("100", "80", "30", "10", "4");

    ck_assert_int_eq(check(RAM_PAGES_2M, RAM_POLICY_NONE, 112, NULL), 0);
    ck_assert_int_eq(check(RAM_PAGES_2M, RAM_POLICY_NONE, 114, NULL), BERTH_EFULL);
}
END_TEST

START_TEST(a_host_without_such_pages_has_none_of_them)
{
    struct err err = {0};

    ck_assert_int_eq(check(RAM_PAGES_1G, RAM_POLICY_NONE, 1024, &err), BERTH_EFULL);

    ck_assert_ptr_nonnull(strstr(err.text, "1 pages are needed and 0 of the host's 0"));
}
END_TEST

START_TEST(bound_ram_needs_pages_of_its_node)
{
    struct err err = {0};
    pool_is("100", "100", "0", "0", "0");
    says(NODE, "free_hugepages", "7");

    ck_assert_int_eq(check(RAM_PAGES_2M, RAM_POLICY_BIND, 14, &err), 0);
    ck_assert_int_eq(check(RAM_PAGES_2M, RAM_POLICY_PREFER, 200, &err), 0);
    ck_assert_int_eq(check(RAM_PAGES_2M, RAM_POLICY_BIND, 16, &err), BERTH_EFULL);

    ck_assert_ptr_nonnull(
        strstr(err.text, "8 pages are needed and 7 of node 0 are free"));
}
END_TEST

START_TEST(ram_of_huge_pages_is_whole_pages)
{
    struct err err = {0};

    ck_assert_int_eq(check(RAM_PAGES_1G, RAM_POLICY_NONE, 1536, &err), BERTH_EINVALID);

    ck_assert_str_eq(err.text, "huge=1G: 1536 MiB of RAM are not whole pages");
}
END_TEST

START_TEST(a_node_that_is_not_there_is_refused)
{
    const struct ram_backing backing = {.policy = RAM_POLICY_PREFER, .node = 63};
    struct err err = {0};

    ck_assert_int_eq(ram_backing_check(&backing, MIB, sys.path, &err), BERTH_EINVALID);

    ck_assert_str_eq(err.text, "NUMA node 63: this host has none, or it is not for VMs");
}
END_TEST

START_TEST(why_there_are_no_transparent_huge_pages_is_told)
{
    const struct ram_backing plain = {.pages = RAM_PAGES_PLAIN};
    const struct ram_backing backing = {.pages = RAM_PAGES_TRANSPARENT};

    ck_assert_ptr_null(ram_backing_lack(&plain, sys.path));
    ck_assert_str_eq(ram_backing_lack(&backing, sys.path), "this kernel has none");
    says(THP, "shmem_enabled", "always within_size advise [never] deny force");
    ck_assert_str_eq(ram_backing_lack(&backing, sys.path),
                     "/sys/" THP "/shmem_enabled does not say advise");
    says(THP, "shmem_enabled", "always within_size [advise] never deny force");
    ck_assert_ptr_null(ram_backing_lack(&backing, sys.path));
}
END_TEST

struct policy_row {
    enum ram_policy policy;
    int mode;
};

static const struct policy_row policies[] = {
    {RAM_POLICY_NONE, MPOL_DEFAULT},
    {RAM_POLICY_BIND, MPOL_BIND},
    {RAM_POLICY_PREFER, MPOL_PREFERRED},
    {RAM_POLICY_INTERLEAVE, MPOL_INTERLEAVE},
};

/* Of a part of it that is mapped once more: the file has it, not the mapping alone. */
START_TEST(ram_is_of_the_nodes_that_were_asked_for)
{
    const struct ram_backing backing = {.policy = policies[_i].policy};
    struct err err = {0};
    int mode = -1;
    CLEANUP_FD int fd = ram_backing_make(&backing, 4 * MIB, &err);
    ck_assert_msg(fd >= 0, "%s", err.text);
    void *first = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void *second = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert(first != MAP_FAILED && second != MAP_FAILED);

    ck_assert_msg(ram_backing_apply(&backing, first, 4 * MIB, &err) == 0, "%s", err.text);

    ck_assert_int_eq(syscall(SYS_get_mempolicy, &mode, NULL, 0,
                             (uint8_t *)second + 3 * MIB, MPOL_F_ADDR),
                     0);
    ck_assert_int_eq(mode, policies[_i].mode);
    (void)munmap(first, 4 * MIB);
    (void)munmap(second, 4 * MIB);
}
END_TEST

/* The flags of the mapping that begins there. */
static bool is_advised(const void *host)
{
    char line[512];
    char begin[32];
    bool is_it = false;
    bool found = false;
    (void)snprintf(begin, sizeof(begin), "%" PRIxPTR "-", (uintptr_t)host);
    FILE *file = fopen("/proc/self/smaps", "re");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        is_it = is_it || strncmp(line, begin, strlen(begin)) == 0;
        if (is_it && strncmp(line, "VmFlags:", 8) == 0) {
            found = strstr(line, " hg") != NULL;
            break;
        }
    }
    (void)fclose(file);
    return found;
}

START_TEST(the_kernel_knows_where_huge_pages_are_wanted)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct ram_backing backing = {.pages = i == 0 ? RAM_PAGES_PLAIN
                                                            : RAM_PAGES_TRANSPARENT};
        CLEANUP_FD int fd = ram_backing_make(&backing, 4 * MIB, NULL);
        void *host = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        ck_assert(host != MAP_FAILED);

        ck_assert_int_eq(ram_backing_apply(&backing, host, 4 * MIB, NULL), 0);

        ck_assert(is_advised(host) == (i == 1));
        (void)munmap(host, 4 * MIB);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ram_backing");
    TCase *tests = tcase_create("ram_backing");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_pool_that_is_too_small_is_told_with_its_numbers);
    tcase_add_test(tests, pages_that_may_still_come_to_the_pool_count);
    tcase_add_test(tests, a_host_without_such_pages_has_none_of_them);
    tcase_add_test(tests, bound_ram_needs_pages_of_its_node);
    tcase_add_test(tests, ram_of_huge_pages_is_whole_pages);
    tcase_add_test(tests, a_node_that_is_not_there_is_refused);
    tcase_add_test(tests, why_there_are_no_transparent_huge_pages_is_told);
    tcase_add_loop_test(tests, ram_is_of_the_nodes_that_were_asked_for, 0,
                        (int)ARRAY_COUNT(policies));
    tcase_add_test(tests, the_kernel_knows_where_huge_pages_are_wanted);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
