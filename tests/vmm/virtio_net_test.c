/* Goal: packets go through whole and in order, in both directions; no guest stalls its
 * own traffic for good, none makes the host hold more than one packet. Method: a datagram
 * socket instead of a tap, buffers of every size. */
#include "guest_driver.h"
#include "support/test_main.h"
#include "vmm/virtio_net.h"

#include <check.h>

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER VIRTIO_NET_HEADER_SIZE
#define RX     0u
#define TX     1u

static struct guest guest;
static int wire; /* the other end */

static const struct virtio_net_spec spec = {.mac = {2, 0, 0, 0, 0, 7}, .mtu = 1500};

static struct virtio_device *net_new(void)
{
    struct virtio_device *device = NULL;
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(virtio_net_new(&guest.place, &spec, &ends[0], 1, &device, NULL), 0);
    wire = ends[1];
    return device;
}

static void set_up(void)
{
    guest_init(&guest);
    guest_attach(&guest, net_new());
    guest_drive(&guest, VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_MAC | VIRTIO_F_EVENT_IDX);
}

static void tear_down(void)
{
    guest_fini(&guest);
    close(wire);
}

/* A packet with its header, recognisable. */
static void packet_fill(uint8_t *packet, size_t size, uint8_t mark)
{
    memset(packet, 0, HEADER);
    for (size_t i = HEADER; i < size; i++) {
        packet[i] = (uint8_t)(mark + i);
    }
}

static void wire_send(size_t size, uint8_t mark)
{
    static uint8_t packet[VIRTIO_NET_PACKET_MAX];
    packet_fill(packet, size, mark);
    ck_assert_int_eq(send(wire, packet, size, 0), (ssize_t)size);
}

static uint64_t post_receive(uint32_t size)
{
    const uint64_t at = guest_alloc(&guest, size);
    guest_post(&guest, RX, &(struct guest_buffer){at, size, true}, 1);
    return at;
}

START_TEST(a_packet_to_the_guest_fills_as_many_buffers_as_it_needs)
{
    static const uint32_t sizes[] = {4096, 100, 26, 12, 1514};
    const uint32_t size = sizes[_i];
    uint64_t at[64];
    uint8_t got[4096];
    uint8_t expected[1000];
    const unsigned count = (1000 + size - 1) / size;
    const unsigned posted = count < GUEST_QUEUE_SIZE ? count : GUEST_QUEUE_SIZE - 1;
    packet_fill(expected, sizeof(expected), 9);
    for (unsigned i = 0; i < posted; i++) {
        at[i] = post_receive(size);
    }
    guest_kick(&guest, RX);

    wire_send(1000, 9);
    guest_settle(&guest);

    if (size == 12) { /* 84 of them are needed: it can never fit */
        struct virtio_net_counters counters;
        virtio_net_count(guest.pci->virtio, VIRTIO_NET_RECEIVE, &counters);
        ck_assert_uint_eq(counters.packets, 0);
        return;
    }
    uint32_t total = 0;
    for (unsigned i = 0; i < count; i++) {
        const uint32_t written = guest_wait(&guest, RX);
        ck_assert_int_eq(guest_memory_read(&guest.memory, at[i], got + total, written),
                         0);
        total += written;
    }
    ck_assert_uint_eq(total, 1000);
    ck_assert_uint_eq(got[10], count); /* num_buffers */
    ck_assert_mem_eq(got + HEADER, expected + HEADER, 1000 - HEADER);
}
END_TEST

START_TEST(packets_wait_for_buffers_and_then_come)
{
    for (unsigned i = 0; i < 8; i++) {
        wire_send(200, (uint8_t)i);
    }
    guest_settle(&guest); /* the guest has none: this must end, and hold one packet */

    for (unsigned i = 0; i < 8; i++) {
        uint8_t got[200];
        const uint64_t at = post_receive(2048);
        guest_kick(&guest, RX);
        ck_assert_uint_eq(guest_wait(&guest, RX), 200);
        ck_assert_int_eq(guest_memory_read(&guest.memory, at, got, sizeof(got)), 0);
        ck_assert_uint_eq(got[HEADER], (uint8_t)(i + HEADER)); /* in order */
    }
}
END_TEST

START_TEST(a_driver_hears_when_its_few_buffers_did_not_suffice)
{
    uint16_t event = 0;
    (void)post_receive(100);
    guest_kick(&guest, RX);
    wire_send(200, 1);
    guest_settle(&guest);

    /* We must want to hear of the entry after the one that is there. */
    const struct guest_ring *ring = &guest.rings[RX];
    ck_assert_int_eq(guest_memory_load_u16(&guest.memory,
                                           ring->used + 4 + 8 * (uint64_t)ring->size,
                                           &event),
                     0);
    ck_assert_uint_eq(event, 1);
    (void)post_receive(150);
    guest_kick(&guest, RX);

    ck_assert_uint_eq(guest_wait(&guest, RX), 100);
    ck_assert_uint_eq(guest_wait(&guest, RX), 100);
}
END_TEST

START_TEST(without_merging_a_packet_needs_one_buffer)
{
    guest_drive(&guest, 0);
    (void)post_receive(100);
    guest_kick(&guest, RX);
    wire_send(200, 1); /* does not fit: dropped */
    wire_send(90, 2);

    guest_settle(&guest);

    ck_assert_uint_eq(guest_wait(&guest, RX), 90);
    struct virtio_net_counters counters;
    virtio_net_count(guest.pci->virtio, VIRTIO_NET_RECEIVE, &counters);
    ck_assert_uint_eq(counters.dropped, 1);
}
END_TEST

/* Sends with the header cut over buffers at `cut`; what arrives. */
static ssize_t transmit(size_t size, uint32_t cut, uint8_t *ret_packet)
{
    static uint8_t packet[VIRTIO_NET_PACKET_MAX + 64];
    packet_fill(packet, size, 3);
    const uint64_t at = guest_put(&guest, packet, size);
    guest_post(&guest, TX,
               (struct guest_buffer[]){{at, cut, false},
                                       {at + cut, (uint32_t)size - cut, false}},
               2);
    guest_kick(&guest, TX);
    (void)guest_wait(&guest, TX);
    const ssize_t r = recv(wire, ret_packet, VIRTIO_NET_PACKET_MAX, MSG_DONTWAIT);
    return r < 0 ? -errno : r;
}

START_TEST(a_packet_from_the_guest_goes_out_whole)
{
    static uint8_t got[VIRTIO_NET_PACKET_MAX];
    uint8_t expected[1500];
    packet_fill(expected, sizeof(expected), 3);

    for (uint32_t cut = 1; cut < 30; cut++) {
        ck_assert_int_eq(transmit(1500, cut, got), 1500);
        ck_assert_mem_eq(got, expected, 1500);
    }
}
END_TEST

START_TEST(what_is_no_packet_is_dropped)
{
    static uint8_t got[VIRTIO_NET_PACKET_MAX];
    ck_assert_int_eq(transmit(HEADER + 13, 5, got), -EAGAIN);
    ck_assert_int_eq(transmit(HEADER + 14, 5, got), HEADER + 14);
    ck_assert_int_eq(transmit(VIRTIO_NET_PACKET_MAX, 5, got), VIRTIO_NET_PACKET_MAX);
    ck_assert_int_eq(transmit(VIRTIO_NET_PACKET_MAX + 1, 5, got), -EAGAIN);
    guest_post(&guest, TX, &(struct guest_buffer){GUEST_HEAP_AT, 64, true}, 1);
    guest_kick(&guest, TX);
    (void)guest_wait(&guest, TX);
    ck_assert(!guest_needs_reset(&guest));
}
END_TEST

/* Also of one that waits for the other side: nobody is at it meanwhile. */
START_TEST(a_packet_from_plugged_ram_leaves_it_free)
{
    uint8_t packet[64];
    unsigned sent = 0;
    uint32_t head;
    uint32_t size;
    guest_fini(&guest);
    (void)close(wire);
    guest_init(&guest);
    guest_add_plug(&guest);
    guest_attach(&guest, net_new());
    guest_drive(&guest, 0);
    packet_fill(packet, sizeof(packet), 1);
    ck_assert_int_eq(
        guest_memory_write(&guest.memory, GUEST_PLUG_AT, packet, sizeof(packet)), 0);

    do {
        guest_post(&guest, TX,
                   &(struct guest_buffer){GUEST_PLUG_AT, sizeof(packet), false}, 1);
        guest_kick(&guest, TX);
        sent++;
    } while (guest_used(&guest, TX, &head, &size));

    ck_assert_uint_gt(sent, 1);
    ck_assert_int_eq(guest_memory_unplug_all(&guest.memory), 0);
}
END_TEST

START_TEST(a_full_other_side_holds_the_guest_back)
{
    static uint8_t got[VIRTIO_NET_PACKET_MAX];
    static uint8_t packet[30000];
    packet_fill(packet, sizeof(packet), 5);
    const uint64_t at = guest_put(&guest, packet, sizeof(packet));
    unsigned arrived = 0;
    for (unsigned i = 0; i < 32; i++) {
        guest_post(&guest, TX, &(struct guest_buffer){at, sizeof(packet), false}, 1);
    }
    guest_kick(&guest, TX);
    guest_settle(&guest);
    ck_assert_uint_lt(guest.pci->virtio->queues[TX].next_available, 32);

    while (arrived < 32) {
        while (recv(wire, got, sizeof(got), MSG_DONTWAIT) == sizeof(packet)) {
            arrived++;
        }
        guest_settle(&guest);
    }

    for (unsigned i = 0; i < 32; i++) {
        (void)guest_wait(&guest, TX);
    }
}
END_TEST

START_TEST(a_limited_guest_gets_its_packets_late)
{
    const struct rate_specs slow = {.operations = {.rate = 200, .burst = 1}};
    virtio_net_limit(guest.pci->virtio, VIRTIO_NET_RECEIVE, &slow);
    for (unsigned i = 0; i < 5; i++) {
        (void)post_receive(2048);
        wire_send(100, (uint8_t)i);
    }
    guest_kick(&guest, RX);

    for (unsigned i = 0; i < 5; i++) {
        ck_assert_uint_eq(guest_wait(&guest, RX), 100);
    }
}
END_TEST

/* Two packets of 50 bytes, and no more for a long time. */
static const struct rate_specs once = {.bytes = {.rate = 1, .burst = 60}};

START_TEST(a_packet_that_waits_for_buffers_pays_once)
{
    virtio_net_limit(guest.pci->virtio, VIRTIO_NET_RECEIVE, &once);
    wire_send(50, 1);
    wire_send(50, 2);
    for (unsigned i = 0; i < 5; i++) {
        guest_kick(&guest, RX); /* there is room for neither */
        guest_settle(&guest);
    }

    (void)post_receive(2048);
    (void)post_receive(2048);
    guest_kick(&guest, RX);

    ck_assert_uint_eq(guest_wait(&guest, RX), 50);
    ck_assert_uint_eq(guest_wait(&guest, RX), 50);
}
END_TEST

START_TEST(a_packet_that_waits_for_the_other_side_pays_once)
{
    static uint8_t packet[50];
    uint8_t got[50];
    unsigned posted = 0;
    const uint64_t at = guest_put(&guest, packet, sizeof(packet));
    const struct virtio_queue *ring = &guest.pci->virtio->queues[TX];
    do { /* until one of them stands */
        guest_post(&guest, TX, &(struct guest_buffer){at, sizeof(packet), false}, 1);
        guest_kick(&guest, TX);
        guest_settle(&guest);
        posted++;
        if (ring->next_available == posted) {
            (void)guest_wait(&guest, TX);
        }
    } while (ring->next_available == posted);
    virtio_net_limit(guest.pci->virtio, VIRTIO_NET_TRANSMIT, &once);
    for (unsigned i = 0; i < 5; i++) {
        guest_kick(&guest, TX);
        guest_settle(&guest);
    }

    for (unsigned i = 0; i < posted - 1; i++) {
        ck_assert_int_eq(recv(wire, got, sizeof(got), 0), (ssize_t)sizeof(got));
    }

    (void)guest_wait(&guest, TX);
    ck_assert_uint_eq(ring->next_available, posted);
}
END_TEST

START_TEST(a_vanished_wire_does_not_spin)
{
    close(wire);
    (void)post_receive(2048);
    guest_kick(&guest, RX);
    guest_settle(&guest);
    static uint8_t packet[100];
    const uint64_t at = guest_put(&guest, packet, sizeof(packet));
    guest_post(&guest, TX, &(struct guest_buffer){at, sizeof(packet), false}, 1);
    guest_kick(&guest, TX);
    (void)guest_wait(&guest, TX); /* dropped, but answered */
    wire = -1;
}
END_TEST

START_TEST(the_configuration_says_address_and_mtu)
{
    ck_assert_uint_eq(guest_get(&guest, GUEST_DEVICE_CONFIG, 4), 0x00000002);
    ck_assert_uint_eq(guest_get(&guest, GUEST_DEVICE_CONFIG + 4, 2), 0x0700);
    ck_assert_uint_eq(guest_get(&guest, GUEST_DEVICE_CONFIG + 6, 2), 1);
    ck_assert_uint_eq(guest_get(&guest, GUEST_DEVICE_CONFIG + 10, 2), 1500);
}
END_TEST

START_TEST(a_restored_device_goes_on)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct err err = {0};
    (void)post_receive(2048);
    (void)post_receive(2048);
    guest_kick(&guest, RX);
    wire_send(100, 1);
    ck_assert_uint_eq(guest_wait(&guest, RX), 100);
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);
    device_free(&guest.pci->device);
    close(wire);
    guest_attach_stopped(&guest, net_new());

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_msg(device_restore(&guest.pci->device, &reader, &err) == 0, "%s", err.text);
    device_start(&guest.pci->device);
    wire_send(120, 2);

    ck_assert_uint_eq(guest_wait(&guest, RX), 120);
    bytes_writer_fini(&writer);
}
END_TEST

/* ---- several pairs ---- */

#define PAIRS   3u
#define CONTROL (2 * PAIRS)
#define MQ      (VIRTIO_NET_F_MQ | VIRTIO_NET_F_CTRL_VQ)

static int wires[PAIRS];

static struct virtio_device *pairs_new(void)
{
    struct virtio_device *device = NULL;
    int ours[PAIRS];
    for (unsigned i = 0; i < PAIRS; i++) {
        int ends[2];
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
        ours[i] = ends[0];
        wires[i] = ends[1];
    }
    ck_assert_int_eq(virtio_net_new(&guest.place, &spec, ours, PAIRS, &device, NULL), 0);
    return device;
}

static void set_up_pairs(void)
{
    guest_init(&guest);
    guest_attach(&guest, pairs_new());
    guest_drive(&guest, VIRTIO_NET_F_MRG_RXBUF | MQ);
}

static void tear_down_pairs(void)
{
    guest_fini(&guest);
    for (unsigned i = 0; i < PAIRS; i++) {
        close(wires[i]);
    }
}

/* Says it on this queue; the answer, or 0xee when there was no room for one. */
static uint8_t say(unsigned queue, const void *word, uint32_t size, uint32_t room)
{
    uint8_t answer = 0xee;
    const uint64_t at = guest_put(&guest, word, size);
    const uint64_t answer_at = guest_put(&guest, &answer, sizeof(answer));
    guest_post(&guest, queue,
               (struct guest_buffer[]){{at, size, false},
                                       {answer_at, room > 0 ? room : 1, true}},
               room > 0 ? 2 : 1);
    guest_kick(&guest, queue);
    ck_assert_uint_eq(guest_wait(&guest, queue), room);
    ck_assert_int_eq(guest_memory_read(&guest.memory, answer_at, &answer, 1), 0);
    return answer;
}

static uint8_t pairs_use(uint16_t count)
{
    const uint8_t word[4] = {4, 0, (uint8_t)count, (uint8_t)(count >> 8)};
    return say(CONTROL, word, sizeof(word), 1);
}

static void pair_send(unsigned pair, size_t size, uint8_t mark)
{
    static uint8_t packet[VIRTIO_NET_PACKET_MAX];
    packet_fill(packet, size, mark);
    ck_assert_int_eq(send(wires[pair], packet, size, 0), (ssize_t)size);
}

static void pair_post(unsigned pair)
{
    const uint64_t at = guest_alloc(&guest, 2048);
    guest_post(&guest, 2 * pair, &(struct guest_buffer){at, 2048, true}, 1);
    guest_kick(&guest, 2 * pair);
}

static ssize_t pair_transmit(unsigned pair)
{
    static uint8_t got[2048];
    uint8_t packet[100];
    packet_fill(packet, sizeof(packet), 1);
    const uint64_t at = guest_put(&guest, packet, sizeof(packet));
    guest_post(&guest, 2 * pair + 1, &(struct guest_buffer){at, sizeof(packet), false},
               1);
    guest_kick(&guest, 2 * pair + 1);
    guest_settle(&guest);
    return recv(wires[pair], got, sizeof(got), MSG_DONTWAIT);
}

START_TEST(a_device_with_one_pair_has_no_control_queue)
{
    ck_assert_uint_eq(guest_get(&guest, GUEST_QUEUES, 2), 2);
    ck_assert_uint_eq(guest_features_offered(&guest) & MQ, 0);
}
END_TEST

START_TEST(the_configuration_says_how_many_pairs_there_are)
{
    ck_assert_uint_eq(guest_features_offered(&guest) & MQ, MQ);
    ck_assert_uint_eq(guest_get(&guest, GUEST_QUEUES, 2), 2 * PAIRS + 1);
    ck_assert_uint_eq(guest_get(&guest, GUEST_DEVICE_CONFIG + 8, 2), PAIRS);
}
END_TEST

START_TEST(each_pair_is_the_drivers_after_it_said_so)
{
    for (unsigned i = 0; i < PAIRS; i++) {
        pair_post(i);
        pair_send(i, 100, (uint8_t)i);
    }
    guest_settle(&guest);
    ck_assert_uint_eq(guest_wait(&guest, 0), 100);
    ck_assert_int_eq(pair_transmit(0), 100);
    ck_assert_int_lt(pair_transmit(1), 0); /* not in use yet: it waits there */
    ck_assert_uint_eq(guest.pci->virtio->queues[2].next_available, 0);

    ck_assert_uint_eq(pairs_use(PAIRS), 0);

    for (unsigned i = 1; i < PAIRS; i++) {
        ck_assert_uint_eq(guest_wait(&guest, 2 * i), 100);
    }
    (void)guest_wait(&guest, 3);
    ck_assert_int_eq(pair_transmit(1), 100); /* the one that waited */
    ck_assert_int_eq(pair_transmit(2), 100);
    ck_assert_uint_gt(guest.interrupts[1 + 2], 0); /* each by its own vector */
    ck_assert_uint_gt(guest.interrupts[1 + 4], 0);
    ck_assert_uint_eq(pairs_use(1), 0);
    ck_assert_int_lt(pair_transmit(2), 0);
}
END_TEST

static const struct {
    uint8_t bytes[5];
    uint32_t size;
} words[] = {
    {{4, 0, 0, 0}, 4},         /* no pair */
    {{4, 0, PAIRS + 1, 0}, 4}, /* more than there are */
    {{4, 0, 1, 1}, 4},         /* 257 */
    {{4, 1, 1, 0}, 4},         /* another command of the same class */
    {{0, 0, 1, 0}, 4},         /* another class */
    {{4, 0, 1}, 3},            /* half a number */
    {{4}, 1},
};

START_TEST(what_makes_no_sense_on_the_control_queue_changes_nothing)
{
    ck_assert_uint_eq(pairs_use(2), 0);

    ck_assert_uint_eq(say(CONTROL, words[_i].bytes, words[_i].size, 1), 1);

    ck_assert_int_eq(pair_transmit(1), 100);
    ck_assert_int_lt(pair_transmit(2), 0);
    ck_assert(!guest_needs_reset(&guest));
}
END_TEST

START_TEST(a_word_without_room_for_an_answer_is_taken)
{
    const uint8_t word[4] = {4, 0, 2, 0};
    ck_assert_uint_eq(say(CONTROL, word, sizeof(word), 0), 0xee);
    ck_assert_int_eq(pair_transmit(1), 100);
}
END_TEST

START_TEST(a_driver_without_the_feature_finds_the_control_queue_third)
{
    const uint8_t word[4] = {4, 0, 1, 0};
    guest_drive(&guest, VIRTIO_NET_F_CTRL_VQ);
    ck_assert_uint_eq(say(2, word, sizeof(word), 1), 1); /* there is one pair for it */
    pair_post(0);
    pair_send(0, 100, 1);
    ck_assert_uint_eq(guest_wait(&guest, 0), 100);
}
END_TEST

START_TEST(a_reset_leaves_one_pair)
{
    ck_assert_uint_eq(pairs_use(PAIRS), 0);

    guest_drive(&guest, VIRTIO_NET_F_MRG_RXBUF | MQ);

    ck_assert_int_eq(pair_transmit(0), 100);
    ck_assert_int_lt(pair_transmit(1), 0);
}
END_TEST

START_TEST(one_limit_is_for_all_pairs)
{
    const struct rate_specs two = {.operations = {.rate = 200, .burst = 2}};
    ck_assert_uint_eq(pairs_use(PAIRS), 0);
    virtio_net_limit(guest.pci->virtio, VIRTIO_NET_RECEIVE, &two);
    for (unsigned i = 0; i < PAIRS; i++) {
        pair_post(i);
        pair_post(i);
        pair_send(i, 100, 1);
        pair_send(i, 100, 2);
    }
    for (unsigned i = 0; i < PAIRS; i++) { /* none of them is forgotten */
        ck_assert_uint_eq(guest_wait(&guest, 2 * i), 100);
        ck_assert_uint_eq(guest_wait(&guest, 2 * i), 100);
    }
    struct virtio_net_counters counters;
    virtio_net_count(guest.pci->virtio, VIRTIO_NET_RECEIVE, &counters);
    ck_assert_uint_eq(counters.packets, 2 * PAIRS);
}
END_TEST

/* Saves, and takes the state into a new device; what device_restore said. */
static int move_state(struct bytes_writer *writer, struct err *err)
{
    struct bytes_reader reader;
    device_free(&guest.pci->device);
    for (unsigned i = 0; i < PAIRS; i++) {
        close(wires[i]);
    }
    guest_attach_stopped(&guest, pairs_new());
    bytes_reader_init(&reader, writer->data, writer->size);
    return device_restore(&guest.pci->device, &reader, err);
}

START_TEST(a_restored_device_has_the_pairs_that_were_used)
{
    struct bytes_writer writer;
    struct err err = {0};
    ck_assert_uint_eq(pairs_use(2), 0);
    pair_post(1);
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);

    ck_assert_msg(move_state(&writer, &err) == 0, "%s", err.text);
    device_start(&guest.pci->device);

    pair_send(1, 120, 2);
    ck_assert_uint_eq(guest_wait(&guest, 2), 120);
    ck_assert_int_lt(pair_transmit(2), 0);
    ck_assert_uint_eq(pairs_use(PAIRS), 0); /* and the control queue goes on */
    ck_assert_int_eq(pair_transmit(2), 100);
    bytes_writer_fini(&writer);
}
END_TEST

/* The state's last part: pairs, and two limits. */
static size_t limits_size(void)
{
    struct bytes_writer writer;
    struct rate_limit limit = {0};
    bytes_writer_init(&writer, 1 << 10);
    rate_limit_save(&limit, &writer);
    rate_limit_save(&limit, &writer);
    const size_t size = writer.size;
    bytes_writer_fini(&writer);
    return size;
}

START_TEST(a_state_with_pairs_that_cannot_be_is_refused)
{
    static const uint8_t counts[] = {0, PAIRS + 1};
    struct bytes_writer writer;
    struct err err = {0};
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);
    writer.data[writer.size - limits_size() - 2] = counts[_i];

    ck_assert_int_eq(move_state(&writer, &err), BERTH_ECORRUPT);

    ck_assert_ptr_nonnull(strstr(err.text, "pairs"));
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(a_state_of_another_number_of_queues_is_not_called_damaged)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct err err = {0};
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    virtio_device_save(guest.pci->virtio, &writer);
    struct virtio_device *other = net_new();
    bytes_reader_init(&reader, writer.data, writer.size);

    ck_assert_int_eq(virtio_device_restore(other, 2, &reader, &err), BERTH_EINVALID);

    ck_assert_ptr_nonnull(strstr(err.text, "queues and this one 2"));
    virtio_device_free(other);
    close(wire);
    bytes_writer_fini(&writer);
}
END_TEST

/* A device of the release before has saved no number of pairs: it had one. */
START_TEST(a_state_of_the_version_before_is_taken)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct err err = {0};
    (void)post_receive(2048);
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    virtio_device_save(guest.pci->virtio, &writer);
    const size_t limits = limits_size();
    uint8_t *pairs = writer.data + writer.size - limits - 2;
    memmove(pairs, pairs + 2, limits);
    virtio_device_reset(guest.pci->virtio);

    bytes_reader_init(&reader, writer.data, writer.size - 2);
    ck_assert_msg(virtio_device_restore(guest.pci->virtio, 1, &reader, &err) == 0, "%s",
                  err.text);
    ck_assert_uint_eq(bytes_reader_left(&reader), 0);
    device_start(&guest.pci->device);
    wire_send(120, 2);

    ck_assert_uint_eq(guest_wait(&guest, RX), 120);
    bytes_writer_fini(&writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio_net");
    TCase *tests = tcase_create("virtio_net");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, a_packet_to_the_guest_fills_as_many_buffers_as_it_needs, 0,
                        5);
    tcase_add_test(tests, packets_wait_for_buffers_and_then_come);
    tcase_add_test(tests, a_driver_hears_when_its_few_buffers_did_not_suffice);
    tcase_add_test(tests, without_merging_a_packet_needs_one_buffer);
    tcase_add_test(tests, a_packet_from_the_guest_goes_out_whole);
    tcase_add_test(tests, what_is_no_packet_is_dropped);
    tcase_add_test(tests, a_packet_from_plugged_ram_leaves_it_free);
    tcase_add_test(tests, a_full_other_side_holds_the_guest_back);
    tcase_add_test(tests, a_limited_guest_gets_its_packets_late);
    tcase_add_test(tests, a_packet_that_waits_for_buffers_pays_once);
    tcase_add_test(tests, a_packet_that_waits_for_the_other_side_pays_once);
    tcase_add_test(tests, a_vanished_wire_does_not_spin);
    tcase_add_test(tests, the_configuration_says_address_and_mtu);
    tcase_add_test(tests, a_restored_device_goes_on);
    tcase_add_test(tests, a_device_with_one_pair_has_no_control_queue);
    tcase_add_test(tests, a_state_of_the_version_before_is_taken);
    suite_add_tcase(suite, tests);
    TCase *pairs = tcase_create("virtio_net_pairs");
    tcase_set_timeout(pairs, 60);
    tcase_add_checked_fixture(pairs, set_up_pairs, tear_down_pairs);
    tcase_add_test(pairs, the_configuration_says_how_many_pairs_there_are);
    tcase_add_test(pairs, each_pair_is_the_drivers_after_it_said_so);
    tcase_add_loop_test(pairs, what_makes_no_sense_on_the_control_queue_changes_nothing,
                        0, (int)ARRAY_COUNT(words));
    tcase_add_test(pairs, a_word_without_room_for_an_answer_is_taken);
    tcase_add_test(pairs, a_driver_without_the_feature_finds_the_control_queue_third);
    tcase_add_test(pairs, a_reset_leaves_one_pair);
    tcase_add_test(pairs, one_limit_is_for_all_pairs);
    tcase_add_test(pairs, a_restored_device_has_the_pairs_that_were_used);
    tcase_add_test(pairs, a_state_of_another_number_of_queues_is_not_called_damaged);
    tcase_add_loop_test(pairs, a_state_with_pairs_that_cannot_be_is_refused, 0, 2);
    suite_add_tcase(suite, pairs);
    return test_main_run(suite);
}
