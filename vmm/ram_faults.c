#include "vmm/ram_faults.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int ram_faults_open(struct err *err)
{
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_MISSING_SHMEM |
                                         UFFD_FEATURE_MISSING_HUGETLBFS};
    CLEANUP_FD int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        CLEANUP_FD int device = fd_open_at(AT_FDCWD, "/dev/userfaultfd", O_RDWR, 0, err);
        if (device < 0) {
            return device;
        }
        fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    }
    return fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0
               ? err_sys(err, -errno, "ask for userfaultfd")
               : TAKE_FD(fd);
}

int ram_faults_register(int fault_fd, const uint8_t *host, uint64_t size)
{
    struct uffdio_register range = {.range = {.start = (uintptr_t)host, .len = size},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    return ioctl(fault_fd, UFFDIO_REGISTER, &range) < 0 ? -errno : 0;
}

int ram_faults_try_unregister(int fault_fd, const uint8_t *host, uint64_t size)
{
    struct uffdio_range range = {.start = (uintptr_t)host, .len = size};
    return ioctl(fault_fd, UFFDIO_UNREGISTER, &range) < 0 ? -errno : 0;
}

void ram_faults_unregister(int fault_fd, const uint8_t *host, uint64_t size)
{
    (void)ram_faults_try_unregister(fault_fd, host, size); /* it was so already: fine */
}

void ram_faults_wake(int fault_fd, const uint8_t *host, uint64_t size)
{
    struct uffdio_range range = {.start = (uintptr_t)host, .len = size};
    (void)ioctl(fault_fd, UFFDIO_WAKE, &range); /* nobody waits: fine */
}

int ram_faults_copy(int fault_fd,
                    uint8_t *host,
                    const uint8_t *bytes,
                    uint64_t size,
                    uint64_t *ret_done)
{
    struct uffdio_copy copy = {.dst = (uintptr_t)host,
                               .src = (uintptr_t)bytes,
                               .len = size,
                               .mode = UFFDIO_COPY_MODE_DONTWAKE};
    const int r = ioctl(fault_fd, UFFDIO_COPY, &copy) < 0 ? -errno : 0;
    /* all of it, or what was done when it was disturbed */
    *ret_done = copy.copy > 0 ? (uint64_t)copy.copy : 0;
    return r;
}

void ram_faults_zero(int fault_fd, const uint8_t *host, uint64_t size)
{
    struct uffdio_zeropage zero = {.range = {.start = (uintptr_t)host, .len = size}};
    while (ioctl(fault_fd, UFFDIO_ZEROPAGE, &zero) < 0 && errno == EAGAIN) {
    }
    ram_faults_wake(fault_fd, host, size); /* it was there by now */
}
