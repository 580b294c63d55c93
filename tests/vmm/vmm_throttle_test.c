/* Goal: limits that QMP sets hold at once and are lifted at once, for the device and the
 * direction that was named; what cannot be meant is refused and changes nothing. Method:
 * a disk in memory and a datagram socket behind the devices, a limit so low that only
 * lifting it lets the second request through. */
#include "base/cleanup.h"
#include "guest_driver.h"
#include "support/test_main.h"
#include "vmm/disk_raw.h"
#include "vmm/virtio_block.h"
#include "vmm/virtio_net.h"
#include "vmm/vmm_throttle.h"

#include <check.h>

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define RX VIRTIO_NET_RECEIVE
#define TX VIRTIO_NET_TRANSMIT

static struct guest guest;
static struct vmm_throttle throttle;
static int wire = -1;

static void disk_set_up(void)
{
    const struct virtio_block_spec spec = {.queue_count = 1, .threads = {.count = 1}};
    const struct rate_specs none = {{0}, {0}};
    struct disk_file *file = NULL;
    struct virtual_disk *disk = NULL;
    struct virtio_device *device = NULL;
    int fd = memfd_create("disk", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
    guest_init(&guest);
    ck_assert_int_eq(disk_file_new(fd, &file, NULL), 0);
    ck_assert_int_eq(disk_raw_new(file, false, &disk, NULL), 0);
    ck_assert_int_eq(virtio_block_new(&guest.place, &spec, disk, &device, NULL), 0);
    guest_attach(&guest, device);
    guest_drive(&guest, VIRTIO_F_EVENT_IDX);
    throttle.count = 0;
    vmm_throttle_add_disk(&throttle, "root", device, &none);
}

static void nic_set_up(void)
{
    const struct virtio_net_spec spec = {.mac = {2, 0, 0, 0, 0, 7}, .mtu = 1500};
    const struct rate_specs none[2] = {{{0}, {0}}, {{0}, {0}}};
    struct virtio_device *device = NULL;
    int ends[2];
    guest_init(&guest);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(virtio_net_new(&guest.place, &spec, &ends[0], 1, &device, NULL), 0);
    wire = ends[1];
    guest_attach(&guest, device);
    guest_drive(&guest, VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_MAC | VIRTIO_F_EVENT_IDX);
    throttle.count = 0;
    vmm_throttle_add_nic(&throttle, "nic0", device, none);
}

static void tear_down(void)
{
    guest_fini(&guest);
    if (wire >= 0) {
        (void)close(wire);
        wire = -1;
    }
}

typedef int
command(struct vmm_throttle *throttle, const json_t *arguments, struct err *err);

static int said(command *to, const char *text, struct err *err)
{
    json_t *arguments = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(arguments);
    int r = to(&throttle, arguments, err);
    json_decref(arguments);
    return r;
}

static const char *listed(void)
{
    static char text[1024];
    json_t *list = vmm_throttle_list(&throttle);
    ck_assert_ptr_nonnull(list);
    const size_t size = json_dumpb(list, text, sizeof(text) - 1, JSON_COMPACT);
    ck_assert_uint_lt(size, sizeof(text));
    text[size] = '\0';
    json_decref(list);
    return text;
}

static void read_post(void)
{
    static const uint32_t header[4]; /* read sector 0 */
    const uint64_t header_at = guest_put(&guest, header, sizeof(header));
    const uint64_t data_at = guest_alloc(&guest, 512);
    const uint64_t status_at = guest_alloc(&guest, 1);
    const struct guest_buffer buffers[] = {
        {header_at, sizeof(header), false}, {data_at, 512, true}, {status_at, 1, true}};
    guest_post(&guest, 0, buffers, 3);
}

START_TEST(a_disk_is_limited_and_let_go_while_it_works)
{
    static const char limited[] =
        "{\"id\":\"root\",\"bps\":1,\"bps_rd\":0,\"bps_wr\":0,"
        "\"iops\":100,\"iops_rd\":0,\"iops_wr\":0,\"iops_max\":50}";
    ck_assert_int_eq(said(vmm_throttle_disk, limited, NULL), 0);
    ck_assert_str_eq(
        listed(),
        "[{\"id\":\"root\",\"bps\":1,\"bps_max\":0,\"iops\":100,\"iops_max\":50}]");
    for (unsigned i = 0; i < 3; i++) {
        read_post();
    }
    guest_kick(&guest, 0);
    ck_assert_uint_eq(guest_wait(&guest, 0), 513); /* the next is due in nine minutes */
    for (unsigned i = 0; i < 3; i++) {             /* however often it is said */
        ck_assert_int_eq(said(vmm_throttle_disk, limited, NULL), 0);
        guest_settle(&guest);
    }
    ck_assert_uint_eq(guest.pci->virtio->queues[0].next_available, 1);

    ck_assert_int_eq(said(vmm_throttle_disk,
                          "{\"device\":\"root\",\"bps\":0,\"bps_rd\":0,\"bps_wr\":0,"
                          "\"iops\":0,\"iops_rd\":0,\"iops_wr\":0}",
                          NULL),
                     0);

    ck_assert_uint_eq(guest_wait(&guest, 0), 513);
    ck_assert_uint_eq(guest_wait(&guest, 0), 513);
    ck_assert_str_eq(
        listed(),
        "[{\"id\":\"root\",\"bps\":0,\"bps_max\":0,\"iops\":0,\"iops_max\":0}]");
}
END_TEST

START_TEST(one_direction_of_a_nic_is_limited_and_the_other_is_not)
{
    uint8_t packet[100] = {0};
    const uint64_t at = guest_put(&guest, packet, sizeof(packet));
    ck_assert_int_eq(
        said(vmm_throttle_nic,
             "{\"id\":\"nic0\",\"direction\":\"receive\",\"bps\":1,\"iops\":7}", NULL),
        0);
    for (unsigned i = 0; i < 2; i++) {
        guest_post(&guest, RX,
                   &(struct guest_buffer){guest_alloc(&guest, 2048), 2048, true}, 1);
        ck_assert_int_eq(send(wire, packet, sizeof(packet), 0), (int)sizeof(packet));
    }
    guest_kick(&guest, RX);
    ck_assert_uint_eq(guest_wait(&guest, RX), 100);
    for (unsigned i = 0; i < 3; i++) { /* it sends what it likes */
        guest_post(&guest, TX, &(struct guest_buffer){at, sizeof(packet), false}, 1);
        guest_kick(&guest, TX);
        (void)guest_wait(&guest, TX);
    }
    guest_settle(&guest);
    ck_assert_uint_eq(guest.pci->virtio->queues[RX].next_available, 1);

    /* What is not named stays. */
    ck_assert_int_eq(said(vmm_throttle_nic,
                          "{\"id\":\"nic0\",\"direction\":\"receive\",\"bps\":0}", NULL),
                     0);

    ck_assert_uint_eq(guest_wait(&guest, RX), 100);
    ck_assert_str_eq(listed(), "[{\"id\":\"nic0\",\"bps\":0,\"bps_max\":0,\"iops\":7,"
                               "\"iops_max\":0,\"direction\":\"receive\"},"
                               "{\"id\":\"nic0\",\"bps\":0,\"bps_max\":0,\"iops\":0,"
                               "\"iops_max\":0,\"direction\":\"transmit\"}]");
}
END_TEST

#define SIX "\"bps\":0,\"bps_rd\":0,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,\"iops_wr\":0"

static const struct {
    command *to;
    const char *said;
    const char *text;
} mistakes[] = {
    {vmm_throttle_disk, "{\"id\":\"root\",\"bps\":5}", "Parameter 'bps_rd' is missing"},
    {vmm_throttle_disk, "{\"id\":\"boot\"," SIX "}", "id: there is no disk 'boot'"},
    {vmm_throttle_disk, "{" SIX "}", "id: there is no disk ''"},
    {vmm_throttle_nic, "{\"id\":\"root\",\"direction\":\"receive\"}",
     "id: there is no NIC 'root'"},
    {vmm_throttle_disk, "{\"id\":\"root\"," SIX ",\"group\":\"g\"}",
     "Parameter 'group' is unexpected"},
    {vmm_throttle_disk, "{\"id\":\"root\"," SIX ",\"direction\":\"receive\"}",
     "Parameter 'direction' is unexpected"},
    {vmm_throttle_disk, "{\"id\":\"root\"," SIX ",\"bps_max\":1}",
     "bps_max and iops_max belong to bps and iops"},
    {vmm_throttle_disk,
     "{\"id\":\"root\",\"bps\":0,\"bps_rd\":9,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,"
     "\"iops_wr\":0}",
     "bps_rd: only both directions of a disk together"},
    {vmm_throttle_disk,
     "{\"id\":\"root\",\"bps\":-1,\"bps_rd\":0,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,"
     "\"iops_wr\":0}",
     "bps: not a number from 0 on"},
    {vmm_throttle_disk,
     "{\"id\":\"root\",\"bps\":\"1M\",\"bps_rd\":0,\"bps_wr\":0,\"iops\":0,\"iops_rd\":0,"
     "\"iops_wr\":0}",
     "bps: not a number from 0 on"},
};

START_TEST(what_cannot_be_meant_is_refused_and_changes_nothing)
{
    struct err err = {0};

    ck_assert_int_lt(said(mistakes[_i].to, mistakes[_i].said, &err), 0);

    ck_assert_str_eq(err.text, mistakes[_i].text);
    ck_assert_str_eq(
        listed(),
        "[{\"id\":\"root\",\"bps\":0,\"bps_max\":0,\"iops\":0,\"iops_max\":0}]");
}
END_TEST

START_TEST(a_nic_needs_a_direction)
{
    struct err err = {0};
    ck_assert_int_eq(said(vmm_throttle_nic, "{\"id\":\"nic0\",\"bps\":1}", &err),
                     BERTH_EINVALID);
    ck_assert_str_eq(err.text, "direction: receive or transmit");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vmm_throttle");
    TCase *disks = tcase_create("disks");
    TCase *nics = tcase_create("NICs");
    tcase_add_checked_fixture(disks, disk_set_up, tear_down);
    tcase_add_test(disks, a_disk_is_limited_and_let_go_while_it_works);
    tcase_add_loop_test(disks, what_cannot_be_meant_is_refused_and_changes_nothing, 0,
                        (int)ARRAY_COUNT(mistakes));
    suite_add_tcase(suite, disks);
    tcase_add_checked_fixture(nics, nic_set_up, tear_down);
    tcase_add_test(nics, one_direction_of_a_nic_is_limited_and_the_other_is_not);
    tcase_add_test(nics, a_nic_needs_a_direction);
    suite_add_tcase(suite, nics);
    return test_main_run(suite);
}
