/* Real QEMU (TCG) under a supervisor in this loop.
 *
 * Its guest is a boot sector that talks on the serial port, echoes, powers off on 'q' and
 * on the power button: no kernel, no network, nothing to install but QEMU, without which
 * a main skips (qemu_is_here). `setup` and `teardown` are a test's checked fixture; the
 * rest is supervisor_bench.h's.
 */
#pragma once

#include "agent/engine_qemu.h"
#include "supervisor_bench.h"

/* Says "boot sector", enables the power button, then: echoes what the serial port gets,
 * powers off (q35's port 0x604) on 'q' and when the button's bit shows in port 0x600. */
static const uint8_t boot_sector[] = {
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xba, 0xf9, 0x03, 0xee, 0xbe, 0x42, 0x7c, 0xac, 0x84,
    0xc0, 0x74, 0x06, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5, 0xba, 0x02, 0x06, 0xb8, 0x00,
    0x01, 0xef, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0x09, 0xba, 0xf8, 0x03, 0xec,
    0x3c, 0x71, 0x74, 0x0a, 0xee, 0xba, 0x00, 0x06, 0xed, 0xa9, 0x00, 0x01, 0x74, 0xe6,
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd, 'b',  'o',  'o',  't',
    ' ',  's',  'e',  'c',  't',  'o',  'r',  '\r', '\n', 0,
};

/* Writes a sector into each of 31 clusters of its disk (int 0x13, function 0x43), then
 * says "w", or "e" when a write failed. */
static const uint8_t writes[] = {
    0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x2c, 0x7c, 0xb8, 0x00, 0x43, 0xb2, 0x80,
    0xcd, 0x13, 0x72, 0x17, 0x81, 0x06, 0x34, 0x7c, 0x80, 0x00, 0x81, 0x3e,
    0x34, 0x7c, 0x00, 0x10, 0x72, 0xe6, 0xb0, 'w',  0xba, 0xf8, 0x03, 0xee,
    0xf4, 0xeb, 0xfd, 0xb0, 'e',  0xeb, 0xf5, 0x00, 0x10, 0x00, 0x01, 0x00,
    0x00, 0x7c, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
};

static const struct engine_ops *const engines[] = {&engine_qemu, NULL};

static inline void write_image(const uint8_t *sector, size_t size)
{
    static uint8_t image[MIB];
    char *path = temp_dir_path(&bench.dir, "image.raw");
    memset(image, 0, 510);
    memcpy(image, sector, size);
    image[510] = 0x55;
    image[511] = 0xaa;
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(image, 1, sizeof(image), file), sizeof(image));
    ck_assert_int_eq(fclose(file), 0);
    free(path);
}

static inline void setup(void)
{
    bench_init(engines, 80000);
    write_image(boot_sector, sizeof(boot_sector));
    open_loop();
    open_supervisor();
}

static inline struct vm_order order_of(uint64_t uid, uint64_t epoch)
{
    struct vm_order order = bench_order(uid, epoch, ENGINE_AUTO);
    (void)snprintf(order.vm.disk_path, sizeof(order.vm.disk_path), "%s/image.raw",
                   bench.dir.path);
    return order;
}

static inline struct vm_report boot(uint64_t uid)
{
    struct vm_order order = order_of(uid, 1);
    start_order(&order, false);
    wait_console(uid, "boot sector");
    return wait_phase(uid, PHASE_READY);
}

static inline void wait_reason(uint64_t uid, const char *part)
{
    while (strstr(report_of(uid).reason, part) == NULL) {
        ck_assert_msg(report_of(uid).phase != PHASE_FAILED, "%s", report_of(uid).reason);
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

static inline bool qemu_is_here(void)
{
    return system("command -v qemu-system-x86_64 >/dev/null &&"
                  " command -v qemu-img >/dev/null") == 0;
}
