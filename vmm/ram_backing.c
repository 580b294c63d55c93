#include "vmm/ram_backing.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse_number.h"
#include "base/require.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define KIB          UINT64_C(1024)
#define PATH_SIZE    256u
#define FILE_SIZE    128u
#define PLAIN_BYTES  UINT64_C(4096)
#define THP_SETTINGS "kernel/mm/transparent_hugepage/shmem_enabled"

static const struct {
    const char *name;
    uint64_t bytes;
    unsigned file_flags;
} kinds[RAM_PAGES_COUNT] = {
    [RAM_PAGES_PLAIN] = {"off", PLAIN_BYTES, 0},
    [RAM_PAGES_TRANSPARENT] = {"thp", PLAIN_BYTES, 0},
    [RAM_PAGES_2M] = {"2M", UINT64_C(2) << 20, MFD_HUGETLB | MFD_HUGE_2MB},
    [RAM_PAGES_1G] = {"1G", UINT64_C(1) << 30, MFD_HUGETLB | MFD_HUGE_1GB},
};

static const struct {
    const char *name; /* NULL: cannot be asked for */
    int mode;
} policies[RAM_POLICY_COUNT] = {
    [RAM_POLICY_NONE] = {NULL, MPOL_DEFAULT},
    [RAM_POLICY_BIND] = {"bind", MPOL_BIND},
    [RAM_POLICY_PREFER] = {"prefer", MPOL_PREFERRED},
    [RAM_POLICY_INTERLEAVE] = {"interleave", MPOL_INTERLEAVE},
};

int ram_pages_parse(const char *text, enum ram_pages *ret_pages, struct err *err)
{
    for (unsigned i = 0; i < RAM_PAGES_COUNT; i++) {
        if (strcmp(text, kinds[i].name) == 0) {
            *ret_pages = (enum ram_pages)i;
            return 0;
        }
    }
    return err_set(err, BERTH_EINVALID, "%.40s: not off, thp, 2M or 1G", text);
}

int ram_policy_parse(const char *text, enum ram_policy *ret_policy, struct err *err)
{
    for (unsigned i = 0; i < RAM_POLICY_COUNT; i++) {
        if (policies[i].name != NULL && strcmp(text, policies[i].name) == 0) {
            *ret_policy = (enum ram_policy)i;
            return 0;
        }
    }
    return err_set(err, BERTH_EINVALID, "%.40s: not bind, prefer or interleave", text);
}

uint64_t ram_pages_bytes(enum ram_pages pages)
{
    REQUIRE(pages < RAM_PAGES_COUNT);
    return kinds[pages].bytes;
}

bool ram_pages_pooled(enum ram_pages pages)
{
    return ram_pages_bytes(pages) != PLAIN_BYTES;
}

/* ---- the host's nodes ---- */

/* Those that this process may have pages of. */
static int nodes_allowed(uint64_t *ret_mask, struct err *err)
{
    /* As many as the kernel may know of: it refuses a shorter one. */
    unsigned long mask[1024 / (8 * sizeof(unsigned long))] = {0};
    if (syscall(SYS_get_mempolicy, NULL, mask, 8 * sizeof(mask), NULL,
                MPOL_F_MEMS_ALLOWED) < 0) {
        return err_sys(err, -errno, "ask for the host's NUMA nodes");
    }
    *ret_mask = mask[0];
    return 0;
}

static bool has_node(const struct ram_backing *backing)
{
    return backing->policy == RAM_POLICY_BIND || backing->policy == RAM_POLICY_PREFER;
}

static int
policy_nodes(const struct ram_backing *backing, uint64_t *ret_mask, struct err *err)
{
    uint64_t allowed = 0;
    const int r = nodes_allowed(&allowed, err);
    if (r < 0 || !has_node(backing)) {
        *ret_mask = allowed;
        return r;
    }
    if (backing->node >= RAM_NODES_MAX || (allowed >> backing->node & 1) == 0) {
        return err_set(err, BERTH_EINVALID,
                       "NUMA node %u: this host has none, or it is not for VMs",
                       backing->node);
    }
    *ret_mask = UINT64_C(1) << backing->node;
    return 0;
}

/* ---- pools ---- */

/* A short file of sysfs; false when it cannot be read. */
static bool setting_read(const char *sys, const char *name, char ret_text[FILE_SIZE])
{
    char path[PATH_SIZE];
    if (snprintf(path, sizeof(path), "%s/%s", sys, name) >= (int)sizeof(path)) {
        return false;
    }
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_RDONLY, 0, NULL);
    const ssize_t got = fd < 0 ? -1 : pread(fd, ret_text, FILE_SIZE - 1, 0);
    if (got <= 0) {
        return false;
    }
    ret_text[got] = '\0';
    ret_text[strcspn(ret_text, "\n")] = '\0';
    return true;
}

/* A file of the pool; 0 when there is none. */
static uint64_t pool_number(const char *sys, const char *folder, const char *name)
{
    char path[PATH_SIZE];
    char text[FILE_SIZE];
    uint64_t value = 0;
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name); /* fits */
    return setting_read(sys, path, text) && parse_u64(text, &value, NULL) == 0 ? value
                                                                               : 0;
}

static int pool_check(const struct ram_backing *backing,
                      uint64_t size_bytes,
                      const char *sys,
                      struct err *err)
{
    const char *name = kinds[backing->pages].name;
    const uint64_t page = kinds[backing->pages].bytes;
    const uint64_t needed = size_bytes / page;
    char pool[PATH_SIZE / 2];
    char of_node[PATH_SIZE / 2];
    char text[FILE_SIZE];
    (void)snprintf(pool, sizeof(pool), "kernel/mm/hugepages/hugepages-%" PRIu64 "kB",
                   page / KIB);
    (void)snprintf(of_node, sizeof(of_node),
                   "devices/system/node/node%u/hugepages/hugepages-%" PRIu64 "kB",
                   backing->node, page / KIB);
    (void)snprintf(text, sizeof(text), "%s", pool);
    const uint64_t total = pool_number(sys, pool, "nr_hugepages");
    const uint64_t may_come = pool_number(sys, pool, "nr_overcommit_hugepages");
    const uint64_t came = pool_number(sys, pool, "surplus_hugepages");
    const uint64_t taken = pool_number(sys, pool, "resv_hugepages");
    const uint64_t there = pool_number(sys, pool, "free_hugepages") +
                           (may_come > came ? may_come - came : 0);
    const uint64_t free_pages = there > taken ? there - taken : 0;
    if (free_pages < needed) {
        return err_set(err, BERTH_EFULL,
                       "huge=%s: %" PRIu64 " pages are needed and %" PRIu64
                       " of the host's %" PRIu64 " are free; its owner reserves more in "
                       "/sys/%s/nr_hugepages",
                       name, needed, free_pages, total, pool);
    }
    if (backing->policy != RAM_POLICY_BIND) {
        return 0;
    }
    const uint64_t near = pool_number(sys, of_node, "free_hugepages");
    return near >= needed ? 0
                          : err_set(err, BERTH_EFULL,
                                    "huge=%s: %" PRIu64 " pages are needed and %" PRIu64
                                    " of node %u are free; its owner reserves more in "
                                    "/sys/%s/nr_hugepages",
                                    name, needed, near, backing->node, of_node);
}

int ram_backing_check(const struct ram_backing *backing,
                      uint64_t size_bytes,
                      const char *sys,
                      struct err *err)
{
    uint64_t mask;
    if (size_bytes % ram_pages_bytes(backing->pages) != 0) {
        return err_set(err, BERTH_EINVALID,
                       "huge=%s: %" PRIu64 " MiB of RAM are not whole pages",
                       kinds[backing->pages].name, size_bytes >> 20);
    }
    const int r =
        backing->policy == RAM_POLICY_NONE ? 0 : policy_nodes(backing, &mask, err);
    return r < 0 || !ram_pages_pooled(backing->pages)
               ? r
               : pool_check(backing, size_bytes, sys, err);
}

const char *ram_backing_lack(const struct ram_backing *backing, const char *sys)
{
    char text[FILE_SIZE];
    if (backing->pages != RAM_PAGES_TRANSPARENT) {
        return NULL;
    }
    if (!setting_read(sys, THP_SETTINGS, text)) {
        return "this kernel has none";
    }
    return strstr(text, "[never]") != NULL || strstr(text, "[deny]") != NULL
               ? "/sys/" THP_SETTINGS " does not say advise"
               : NULL;
}

/* ---- making it ---- */

int ram_backing_make(const struct ram_backing *backing,
                     uint64_t size_bytes,
                     struct err *err)
{
    CLEANUP_FD int fd =
        memfd_create("guest-ram", MFD_CLOEXEC | kinds[backing->pages].file_flags);
    if (fd < 0) {
        return err_sys(err, -errno, "make a file for RAM (huge=%s)",
                       kinds[backing->pages].name);
    }
    if (ftruncate(fd, (off_t)size_bytes) < 0) {
        return err_sys(err, -errno, "size the file for RAM");
    }
    return TAKE_FD(fd);
}

int ram_backing_apply(const struct ram_backing *backing,
                      void *host,
                      uint64_t size_bytes,
                      struct err *err)
{
    if (backing->policy != RAM_POLICY_NONE) {
        uint64_t mask = 0;
        const int r = policy_nodes(backing, &mask, err);
        if (r < 0) {
            return r;
        }
        /* One more than there are bits: the kernel takes that for the number of them. */
        if (syscall(SYS_mbind, host, size_bytes, policies[backing->policy].mode, &mask,
                    RAM_NODES_MAX + 1, 0) < 0) {
            return err_sys(err, -errno, "bind RAM to its NUMA nodes");
        }
    }
    if (backing->pages == RAM_PAGES_TRANSPARENT) {
        (void)madvise(host, size_bytes, MADV_HUGEPAGE); /* a kernel without: plain ones */
    }
    if (ram_pages_pooled(backing->pages) && backing->policy == RAM_POLICY_BIND &&
        madvise(host, size_bytes, MADV_POPULATE_WRITE) < 0) {
        return err_sys(err, -errno, "fill RAM with huge pages of node %u", backing->node);
    }
    return 0;
}
