/* Goal: connections begin from either side, carry bytes both ways within the credit that
 * each side gave, end in every order, and whatever a guest says wrong costs it that
 * connection. Method: a guest's driver (guest_driver.h), real sockets for the host, the
 * test itself as who dials. */
#include "base/fd.h"
#include "guest_driver.h"
#include "support/test_main.h"
#include "vmm/virtio_vsock.h"
#include "vmm/vsock_dialer.h"
#include "vmm/vsock_packet.h"
#include "vmm/vsock_stream.h"

#include <check.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CID         7u
#define RX          VIRTIO_VSOCK_RECEIVE
#define TX          VIRTIO_VSOCK_TRANSMIT
#define EV          VIRTIO_VSOCK_EVENT
#define HEADER      ((uint32_t)sizeof(struct vsock_header))
#define BUFFER_SIZE 4096u
#define SCRATCH_AT  (GUEST_RAM_BYTES - (UINT64_C(1) << 20)) /* beyond the heap */
#define GUEST_ROOM  65536u /* what the guest says it takes */

static struct guest guest;
static int listener;
static struct sockaddr_un listener_address;
static socklen_t listener_address_size;
static int dial_end; /* the test's */
static uint64_t rx_buffers[GUEST_QUEUE_SIZE];
static unsigned rx_posted;
static unsigned greeting_ms;

static struct virtio_device *vsock_make(void)
{
    struct virtio_device *device = NULL;
    int ends[2];
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    listener_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    listener_address_size = sizeof(listener_address);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&listener_address,
                          sizeof(sa_family_t)), /* a name of the kernel's choice */
                     0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&listener_address,
                                 &listener_address_size),
                     0);
    ck_assert_int_eq(listen(listener, 300), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    dial_end = ends[1];
    const struct virtio_vsock_spec spec = {CID, listener, ends[0], greeting_ms};
    ck_assert_int_eq(virtio_vsock_new(&guest.place, &spec, &device, NULL), 0);
    return device;
}

static void rx_post(unsigned count)
{
    while (count-- > 0) {
        const unsigned slot = rx_posted++ % GUEST_QUEUE_SIZE;
        if (rx_buffers[slot] == 0) {
            rx_buffers[slot] = guest_alloc(&guest, BUFFER_SIZE);
        }
        guest_post(&guest, RX,
                   &(struct guest_buffer){rx_buffers[slot], BUFFER_SIZE, true}, 1);
    }
    guest_kick(&guest, RX);
}

static void set_up(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* as the program does */
    guest_init(&guest);
    memset(rx_buffers, 0, sizeof(rx_buffers));
    rx_posted = 0;
    guest_attach(&guest, vsock_make());
    guest_drive(&guest, 0);
    rx_post(32);
}

/* However slow the machine is, no client is sent away for that. */
static void set_up_patient(void)
{
    greeting_ms = 3600 * 1000;
    set_up();
}

static void set_up_hasty(void)
{
    greeting_ms = 20;
    set_up();
}

static void tear_down(void)
{
    fd_close(&dial_end);
    guest_fini(&guest);
}

/* ---- the guest's packets ---- */

static struct vsock_header
packet(enum vsock_operation operation, uint32_t guest_port, uint32_t host_port)
{
    return (struct vsock_header){.source_cid = CID,
                                 .target_cid = VSOCK_HOST_CID,
                                 .source_port = guest_port,
                                 .target_port = host_port,
                                 .type = VSOCK_STREAM,
                                 .operation = (uint16_t)operation,
                                 .buffer_bytes = GUEST_ROOM};
}

static void send_bytes(struct vsock_header header, const void *data, uint32_t size)
{
    const uint64_t header_at = SCRATCH_AT;
    const uint64_t data_at = SCRATCH_AT + 4096;
    ck_assert_int_eq(guest_memory_write(&guest.memory, header_at, &header, HEADER), 0);
    if (size > 0) {
        ck_assert_int_eq(guest_memory_write(&guest.memory, data_at, data, size), 0);
    }
    guest_post(
        &guest, TX,
        (const struct guest_buffer[]){{header_at, HEADER, false}, {data_at, size, false}},
        size > 0 ? 2 : 1);
    guest_kick(&guest, TX);
    (void)guest_wait(&guest, TX);
}

static void
send_packet(enum vsock_operation operation, uint32_t guest_port, uint32_t host_port)
{
    send_bytes(packet(operation, guest_port, host_port), NULL, 0);
}

static void send_text(uint32_t guest_port, uint32_t host_port, const char *text)
{
    struct vsock_header header = packet(VSOCK_RW, guest_port, host_port);
    header.size = (uint32_t)strlen(text);
    send_bytes(header, text, header.size);
}

/* The next packet that the guest gets, its bytes cut to fit; another buffer is posted. */
static struct vsock_header next_packet(void *ret_data, size_t data_size)
{
    struct vsock_header header;
    const unsigned slot = guest.rings[RX].seen % GUEST_QUEUE_SIZE;
    const uint32_t size = guest_wait(&guest, RX);
    ck_assert_int_eq(guest_memory_read(&guest.memory, rx_buffers[slot], &header, HEADER),
                     0);
    ck_assert_uint_eq(size, HEADER + header.size);
    ck_assert_uint_eq(header.source_cid, VSOCK_HOST_CID);
    ck_assert_uint_eq(header.target_cid, CID);
    ck_assert_uint_eq(header.type, VSOCK_STREAM);
    if (ret_data != NULL && header.size > 0) {
        ck_assert_uint_le(header.size, data_size);
        ck_assert_int_eq(guest_memory_read(&guest.memory, rx_buffers[slot] + HEADER,
                                           ret_data, header.size),
                         0);
    }
    rx_post(1);
    return header;
}

static struct vsock_header expect(enum vsock_operation operation)
{
    const struct vsock_header header = next_packet(NULL, 0);
    ck_assert_uint_eq(header.operation, operation);
    return header;
}

static bool rx_is_used(void)
{
    uint16_t index;
    guest_settle(&guest);
    ck_assert_int_eq(
        guest_memory_load_u16(&guest.memory, guest.rings[RX].used + 2, &index), 0);
    return index != guest.rings[RX].seen;
}

static void expect_nothing(void)
{
    ck_assert(!rx_is_used());
}

static struct virtio_vsock_counters counters(void)
{
    struct virtio_vsock_counters now;
    virtio_vsock_count(guest.pci->virtio, &now);
    return now;
}

/* ---- the host ---- */

static int client(const char *greeting)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(
        connect(fd, (struct sockaddr *)&listener_address, listener_address_size), 0);
    ck_assert_int_eq(write(fd, greeting, strlen(greeting)), (ssize_t)strlen(greeting));
    return fd;
}

/* What has come, as text; lets the device work until it is there. */
static void expect_text(int fd, const char *text)
{
    char got[256] = "";
    size_t length = 0;
    while (length < strlen(text)) {
        const ssize_t size = recv(fd, got + length, strlen(text) - length, MSG_DONTWAIT);
        ck_assert_int_ne(size, 0);
        length += size > 0 ? (size_t)size : 0;
        if (size < 0) {
            ck_assert_int_eq(errno, EAGAIN);
            ck_assert_int_gt(poller_step(guest.poller, GUEST_WAIT_MS), 0);
        }
    }
    ck_assert_str_eq(got, text);
}

static void expect_end(int fd)
{
    struct pollfd end = {.fd = fd, .events = POLLIN};
    char byte;
    guest_settle(&guest);
    ck_assert_int_eq(poll(&end, 1, 0), 1);
    const ssize_t size = recv(fd, &byte, 1, MSG_DONTWAIT);
    ck_assert(size == 0 || (size < 0 && errno == ECONNRESET));
}

/* What the device asks of who dials. */
static struct vsock_dial_request asked(void)
{
    struct vsock_dial_request request;
    guest_settle(&guest);
    ck_assert_int_eq(recv(dial_end, &request, sizeof(request), MSG_DONTWAIT),
                     sizeof(request));
    return request;
}

/* Answers; fd -1: with this error. Takes fd. */
static void answer(uint64_t id, int fd, int result)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct vsock_dial_answer words = {.id = id, .result = result};
    struct iovec piece = {&words, sizeof(words)};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        struct cmsghdr *part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(part), &fd, sizeof(fd));
    }
    ck_assert_int_eq(sendmsg(dial_end, &message, 0), sizeof(words));
    fd_close(&fd);
    guest_settle(&guest);
}

/* A connection from the guest's port to the host's; the host's end. */
static int guest_connects(uint32_t guest_port, uint32_t host_port)
{
    int ends[2];
    ck_assert_int_eq(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    send_packet(VSOCK_REQUEST, guest_port, host_port);
    const struct vsock_dial_request request = asked();
    ck_assert_uint_eq(request.port, host_port);
    answer(request.id, ends[0], 0);
    const struct vsock_header header = expect(VSOCK_RESPONSE);
    ck_assert_uint_eq(header.source_port, host_port);
    ck_assert_uint_eq(header.target_port, guest_port);
    ck_assert_uint_eq(header.buffer_bytes, VSOCK_BUFFER_BYTES);
    return ends[1];
}

/* ---- tests ---- */

START_TEST(the_configuration_is_the_guests_number)
{
    ck_assert_uint_eq(guest_get(&guest, GUEST_DEVICE_CONFIG, 8), CID);
    ck_assert_uint_eq(guest_get(&guest, GUEST_DEVICE_CONFIG + 8, 8), 0);
}
END_TEST

START_TEST(a_client_of_the_host_reaches_a_port_of_the_guest)
{
    char text[64] = "";
    const int fd = client("CONNECT 1234\nearly");
    const struct vsock_header request = expect(VSOCK_REQUEST);
    ck_assert_uint_eq(request.target_port, 1234);
    ck_assert_uint_ge(request.source_port, 0x40000000);
    expect_nothing();

    send_packet(VSOCK_RESPONSE, 1234, request.source_port);

    char ok[32];
    (void)snprintf(ok, sizeof(ok), "OK %u\n", request.source_port);
    expect_text(fd, ok);
    const struct vsock_header bytes = next_packet(text, sizeof(text));
    ck_assert_uint_eq(bytes.operation, VSOCK_RW);
    ck_assert_str_eq(text, "early");
    send_text(1234, request.source_port, "and back");
    expect_text(fd, "and back");
    ck_assert_uint_eq(counters().opened, 1);
    ck_assert_uint_eq(counters().received_bytes, 5);
    ck_assert_uint_eq(counters().sent_bytes, 8);
    (void)close(fd);
}
END_TEST

START_TEST(a_guest_that_does_not_want_it_ends_the_client)
{
    const int fd = client("CONNECT 9\n");
    const struct vsock_header request = expect(VSOCK_REQUEST);

    send_packet(VSOCK_RST, 9, request.source_port);

    expect_end(fd);
    ck_assert_uint_eq(counters().links, 0);
    ck_assert_uint_eq(counters().refused, 1);
    (void)close(fd);
}
END_TEST

START_TEST(a_client_that_does_not_wait_for_the_guest_ends_the_request)
{
    const int fd = client("CONNECT 9\n");
    const struct vsock_header request = expect(VSOCK_REQUEST);

    (void)close(fd);

    ck_assert_uint_eq(expect(VSOCK_RST).source_port, request.source_port);
    ck_assert_uint_eq(counters().links, 0);
    ck_assert_uint_eq(counters().refused, 1);
}
END_TEST

static const char *const greetings[] = {
    "CONNECT\n",
    "CONNECT \n",
    "CONNECT 4294967296\n",
    "CONNECT 99999999999\n",
    "CONNECT -1\n",
    "CONNECT 1 \n",
    "connect 1\n",
    "GET / HTTP/1.1\r\n\r\n",
    "\n",
    "CONNECT 111111111111111111111111111",
};

START_TEST(a_client_that_says_something_else_is_sent_away)
{
    const int fd = client(greetings[_i]);

    expect_nothing();

    expect_end(fd);
    ck_assert_uint_eq(counters().links, 0);
    (void)close(fd);
}
END_TEST

START_TEST(a_greeting_may_come_in_pieces)
{
    const int fd = client("CONN");
    expect_nothing();
    ck_assert_int_eq(write(fd, "ECT 4294967295", 14), 14);
    expect_nothing();
    ck_assert_int_eq(write(fd, "\n", 1), 1);

    ck_assert_uint_eq(expect(VSOCK_REQUEST).target_port, UINT32_MAX);
    (void)close(fd);
}
END_TEST

START_TEST(the_guest_reaches_a_port_of_the_host)
{
    char text[64] = "";
    const int fd = guest_connects(5000, 80);

    send_text(5000, 80, "ask");
    expect_text(fd, "ask");
    ck_assert_int_eq(write(fd, "tell", 4), 4);

    const struct vsock_header bytes = next_packet(text, sizeof(text));
    ck_assert_uint_eq(bytes.operation, VSOCK_RW);
    ck_assert_uint_eq(bytes.forwarded_bytes, 3);
    ck_assert_str_eq(text, "tell");
    (void)close(fd);
}
END_TEST

START_TEST(what_cannot_be_reached_is_refused)
{
    send_packet(VSOCK_REQUEST, 1, 2);
    answer(asked().id, -1, -ENOENT);
    ck_assert_uint_eq(expect(VSOCK_RST).target_port, 1);
    send_packet(VSOCK_REQUEST, 1, 3);
    (void)asked();
    fd_close(&dial_end); /* who dials has died */

    ck_assert_uint_eq(expect(VSOCK_RST).source_port, 3);

    send_packet(VSOCK_REQUEST, 1, 4);
    ck_assert_uint_eq(expect(VSOCK_RST).source_port, 4);
    ck_assert_uint_eq(counters().links, 0);
    ck_assert_uint_eq(counters().refused, 3);
}
END_TEST

START_TEST(an_answer_to_nobody_is_closed)
{
    int ends[2];
    send_packet(VSOCK_REQUEST, 1, 2);
    const uint64_t id = asked().id;
    send_packet(VSOCK_RST, 1, 2); /* the guest has given up */
    send_packet(VSOCK_REQUEST, 1, 3);
    const uint64_t next_id = asked().id;
    ck_assert_uint_ne(next_id, id);
    for (unsigned i = 0; i < 3; i++) {
        static const uint64_t others[] = {0, 300, UINT64_MAX};
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);

        answer(i == 0 ? id : others[i], ends[0], 0);

        expect_end(ends[1]);
        (void)close(ends[1]);
    }
    expect_nothing();
}
END_TEST

START_TEST(the_host_may_end_its_direction_alone)
{
    const int fd = guest_connects(10, 20);
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);

    ck_assert_uint_eq(expect(VSOCK_SHUTDOWN).flags, VSOCK_NO_SEND);

    send_text(10, 20, "still");
    expect_text(fd, "still");
    struct vsock_header end = packet(VSOCK_SHUTDOWN, 10, 20);
    end.flags = VSOCK_NOTHING;
    send_bytes(end, NULL, 0);
    (void)expect(VSOCK_RST);
    expect_end(fd);
    ck_assert_uint_eq(counters().links, 0);
    (void)close(fd);
}
END_TEST

START_TEST(the_guest_may_end_its_direction_alone)
{
    char text[16] = "";
    const int fd = guest_connects(10, 20);
    struct vsock_header end = packet(VSOCK_SHUTDOWN, 10, 20);
    end.flags = VSOCK_NO_SEND;

    send_bytes(end, NULL, 0);

    expect_end(fd);
    ck_assert_int_eq(write(fd, "still", 5), 5);
    ck_assert_uint_eq(next_packet(text, sizeof(text)).operation, VSOCK_RW);
    ck_assert_str_eq(text, "still");
    send_text(10, 20, "no"); /* it said that it would not */
    (void)expect(VSOCK_RST);
    (void)close(fd);
}
END_TEST

START_TEST(a_guest_that_takes_nothing_more_gets_nothing_more)
{
    const int fd = guest_connects(10, 20);
    struct vsock_header end = packet(VSOCK_SHUTDOWN, 10, 20);
    end.flags = VSOCK_NO_RECEIVE;
    send_bytes(end, NULL, 0);

    ck_assert_int_eq(write(fd, "unheard", 7), 7);

    expect_nothing();
    send_text(10, 20, "last words");
    expect_text(fd, "last words");
    (void)close(fd);
}
END_TEST

START_TEST(a_host_that_has_gone_resets_the_guest_when_it_sends)
{
    const int fd = guest_connects(10, 20);
    (void)close(fd);
    (void)expect(VSOCK_SHUTDOWN);

    send_text(10, 20, "lost");

    (void)expect(VSOCK_RST);
    ck_assert_uint_eq(counters().links, 0);
}
END_TEST

/* A reader that is slow: what the guest may send is what we said, what it sent before its
 * end arrives, and only then the end does. */
START_TEST(what_waits_for_a_slow_host_arrives_before_the_end)
{
    static uint8_t data[VSOCK_BUFFER_BYTES];
    static uint8_t got[VSOCK_BUFFER_BYTES];
    const int fd = guest_connects(10, 20);
    uint64_t sent = 0;
    uint64_t received = 0;
    uint32_t forwarded = 0;
    struct vsock_header bytes = packet(VSOCK_RW, 10, 20);
    for (;;) { /* until our credit is used up */
        bytes.size = VSOCK_BUFFER_BYTES - ((uint32_t)sent - forwarded);
        bytes.size = bytes.size < 30000 ? bytes.size : 30000;
        if (bytes.size == 0) {
            break;
        }
        memset(data, (int)(sent / 30000), bytes.size);
        send_bytes(bytes, data, bytes.size);
        sent += bytes.size;
        send_packet(VSOCK_CREDIT_REQUEST, 10, 20); /* it may have been told before */
        do {
            forwarded = expect(VSOCK_CREDIT_UPDATE).forwarded_bytes;
        } while (rx_is_used());
    }
    struct vsock_header end = packet(VSOCK_SHUTDOWN, 10, 20);
    end.flags = VSOCK_NOTHING;
    send_bytes(end, NULL, 0);
    expect_nothing();

    while (received < sent) {
        const ssize_t size = recv(fd, got, sizeof(got), MSG_DONTWAIT);
        ck_assert_int_gt(size, 0);
        received += (uint64_t)size;
        guest_settle(&guest);
    }

    ck_assert_uint_gt(sent, VSOCK_BUFFER_BYTES);
    (void)expect(VSOCK_RST);
    expect_end(fd);
    (void)close(fd);
}
END_TEST

START_TEST(a_guest_that_sends_more_than_it_may_loses_the_connection)
{
    static uint8_t data[VSOCK_BUFFER_BYTES + 1];
    const int fd = guest_connects(10, 20);
    struct vsock_header bytes = packet(VSOCK_RW, 10, 20);
    bytes.size = sizeof(data);

    send_bytes(bytes, data, bytes.size);

    (void)expect(VSOCK_RST);
    expect_end(fd);
    ck_assert(!guest_needs_reset(&guest));
    (void)close(fd);
}
END_TEST

/* The guest takes 100 bytes, then some more. */
START_TEST(the_host_waits_for_the_guests_credit)
{
    char text[256] = "";
    int ends[2];
    ck_assert_int_eq(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    struct vsock_header request = packet(VSOCK_REQUEST, 10, 20);
    request.buffer_bytes = 100;
    send_bytes(request, NULL, 0);
    answer(asked().id, ends[0], 0);
    (void)expect(VSOCK_RESPONSE);
    memset(text, 'x', 150);
    ck_assert_int_eq(write(ends[1], text, 150), 150);

    ck_assert_uint_eq(expect(VSOCK_RW).size, 100);
    (void)expect(VSOCK_CREDIT_REQUEST);
    expect_nothing();
    struct vsock_header update = packet(VSOCK_CREDIT_UPDATE, 10, 20);
    update.buffer_bytes = 100;
    update.forwarded_bytes = 30;
    send_bytes(update, NULL, 0);
    ck_assert_uint_eq(expect(VSOCK_RW).size, 30);
    (void)expect(VSOCK_CREDIT_REQUEST);
    update.forwarded_bytes = 130;
    send_bytes(update, NULL, 0);

    ck_assert_uint_eq(expect(VSOCK_RW).size, 20);
    expect_nothing();
    (void)close(ends[1]);
}
END_TEST

/* What a packet can say wrong; ports 10 and 20 are connected. */
static const struct {
    uint64_t source_cid;
    uint64_t target_cid;
    uint32_t source_port;
    uint32_t size;
    uint16_t type;
    uint16_t operation;
    bool is_silent; /* nobody is told */
} oddities[] = {
    {CID, 2, 11, 0, 1, VSOCK_RW, false}, /* of no connection */
    {CID, 2, 11, 0, 1, VSOCK_RESPONSE, false},
    {CID, 2, 11, 0, 1, VSOCK_SHUTDOWN, false},
    {CID, 2, 11, 0, 1, VSOCK_CREDIT_UPDATE, false},
    {CID, 2, 11, 0, 1, VSOCK_RST, true},
    {CID, 2, 11, 0, 2, VSOCK_REQUEST, false}, /* of another type */
    {CID, 2, 11, 0, 1, 0, false},             /* of no kind */
    {CID, 2, 11, 0, 1, 8, false},
    {CID, 2, 11, 0, 1, UINT16_MAX, false},
    {CID + 1, 2, 11, 0, 1, VSOCK_REQUEST, false}, /* in another's name */
    {CID, 3, 11, 0, 1, VSOCK_REQUEST, false},     /* to another guest */
    {CID, 2, 10, 0, 1, VSOCK_REQUEST, false},     /* connected already */
    {CID, 2, 10, 0, 1, VSOCK_RESPONSE, false},
    {CID, 2, 10, 1, 1, VSOCK_RW, false}, /* more bytes than there are */
    {CID, 2, 10, UINT32_MAX, 1, VSOCK_RW, false},
    {CID, 2, 10, 0, 7, VSOCK_RW, false},
    {CID, 2, 10, 0, 1, 99, false},
    {CID + 1, 2, 10, 0, 1, VSOCK_RW, false},
};

START_TEST(what_is_odd_is_reset)
{
    const int fd = guest_connects(10, 20);
    struct vsock_header odd = packet((enum vsock_operation)oddities[_i].operation,
                                     oddities[_i].source_port, 20);
    odd.source_cid = oddities[_i].source_cid;
    odd.target_cid = oddities[_i].target_cid;
    odd.type = oddities[_i].type;
    odd.size = oddities[_i].size;

    send_bytes(odd, NULL, 0);

    if (!oddities[_i].is_silent) {
        const struct vsock_header reset = expect(VSOCK_RST);
        ck_assert_uint_eq(reset.target_port, oddities[_i].source_port);
        ck_assert_uint_eq(reset.source_port, 20);
    }
    expect_nothing();
    ck_assert_uint_eq(counters().links, oddities[_i].source_port == 10 ? 0 : 1);
    ck_assert(!guest_needs_reset(&guest));
    (void)close(fd);
}
END_TEST

START_TEST(a_packet_without_a_header_is_dropped)
{
    guest_post(&guest, TX,
               &(struct guest_buffer){guest_alloc(&guest, 64), HEADER - 1, false}, 1);
    guest_kick(&guest, TX);

    (void)guest_wait(&guest, TX);

    expect_nothing();
    ck_assert(!guest_needs_reset(&guest));
}
END_TEST

static int bring_no_packet_buffer(void *context, uint64_t address, uint64_t size)
{
    (void)context;
    (void)size;
    bool is_buffer = false;
    for (unsigned i = 0; i < GUEST_QUEUE_SIZE; i++) {
        is_buffer = is_buffer || (rx_buffers[i] != 0 && address >= rx_buffers[i] &&
                                  address < rx_buffers[i] + BUFFER_SIZE);
    }
    return is_buffer ? -EFAULT : 0;
}

START_TEST(a_buffer_whose_ram_has_gone_costs_the_guest_its_device)
{
    static const struct guest_memory_filler filler = {.bring = bring_no_packet_buffer};
    const int fd = guest_connects(10, 20);
    guest_memory_fill_by(&guest.memory, &filler);
    ck_assert_int_eq(write(fd, "x", 1), 1);

    while (!guest_needs_reset(&guest)) {
        ck_assert_int_gt(poller_step(guest.poller, GUEST_WAIT_MS), 0);
    }

    guest_settle(&guest); /* and it keeps quiet */
    ck_assert_uint_eq(counters().received_bytes, 0);
    guest_memory_fill_by(&guest.memory, NULL);
    (void)close(fd);
}
END_TEST

START_TEST(bytes_to_and_from_plugged_ram_leave_it_free)
{
    struct vsock_header header = packet(VSOCK_RW, 10, 20);
    header.size = 5;
    guest_fini(&guest);
    fd_close(&dial_end);
    guest_init(&guest);
    guest_add_plug(&guest);
    memset(rx_buffers, 0, sizeof(rx_buffers));
    rx_posted = 0;
    guest_attach(&guest, vsock_make());
    guest_drive(&guest, 0);
    for (unsigned i = 0; i < GUEST_QUEUE_SIZE; i++) {
        rx_buffers[i] = GUEST_PLUG_AT + RAM_PLUG_BLOCK_BYTES + i * BUFFER_SIZE;
    }
    rx_post(4);
    const int fd = guest_connects(10, 20);

    const uint64_t at = guest_put(&guest, &header, HEADER);
    ck_assert_int_eq(guest_memory_write(&guest.memory, GUEST_PLUG_AT, "hello", 5), 0);
    guest_post(
        &guest, TX,
        (const struct guest_buffer[]){{at, HEADER, false}, {GUEST_PLUG_AT, 5, false}}, 2);
    guest_kick(&guest, TX);
    expect_text(fd, "hello");
    ck_assert_int_eq(write(fd, "back", 4), 4);
    ck_assert_uint_eq(expect(VSOCK_RW).size, 4);
    guest_settle(&guest); /* it has looked for more, too */

    ck_assert_int_eq(guest_memory_unplug_all(&guest.memory), 0);
    (void)close(fd);
}
END_TEST

START_TEST(a_buffer_too_small_for_a_packet_comes_back_empty)
{
    tear_down();
    guest_init(&guest);
    guest_attach(&guest, vsock_make());
    guest_drive(&guest, 0);
    guest_post(&guest, RX, &(struct guest_buffer){guest_alloc(&guest, 64), HEADER, true},
               1);

    send_packet(VSOCK_RW, 1, 2);

    ck_assert_uint_eq(guest_wait(&guest, RX), 0);
    memset(rx_buffers, 0, sizeof(rx_buffers));
    rx_posted = 1; /* as many as the ring has seen */
    rx_post(1);
    (void)expect(VSOCK_RST);
    ck_assert(!guest_needs_reset(&guest));
}
END_TEST

/* A descriptor that is nowhere. */
START_TEST(what_waits_does_not_keep_a_broken_device_busy)
{
    const int open_fd = guest_connects(10, 20);
    guest_post(&guest, TX, &(struct guest_buffer){GUEST_RAM_BYTES, 64, false}, 1);
    guest_kick(&guest, TX);
    ck_assert(guest_needs_reset(&guest));

    const int fd = client("CONNECT 1\n");
    ck_assert_int_eq(write(open_fd, "x", 1), 1);

    guest_settle(&guest);
    (void)close(fd);
    (void)close(open_fd);
}
END_TEST

/* Its answers have no place: then its packets wait, and none is lost. */
START_TEST(a_guest_that_takes_no_answers_has_to_wait)
{
    struct vsock_header odd = packet(VSOCK_RW, 1, 0);
    uint32_t head;
    uint32_t size;
    unsigned done = 0;
    tear_down();
    guest_init(&guest);
    guest_attach(&guest, vsock_make());
    guest_drive(&guest, 0);
    memset(rx_buffers, 0, sizeof(rx_buffers));
    rx_posted = 0;
    for (unsigned i = 0; i < 3 * VSOCK_RESETS_MAX; i++) {
        odd.target_port = i;
        guest_post(&guest, TX,
                   &(struct guest_buffer){guest_put(&guest, &odd, HEADER), HEADER, false},
                   1);
        if (i % 16 == 15) {
            guest_kick(&guest, TX);
            guest_settle(&guest);
            while (guest_used(&guest, TX, &head, &size)) {
                done++;
            }
        }
        if (i == VSOCK_RESETS_MAX + GUEST_QUEUE_SIZE / 2) {
            break;
        }
    }
    ck_assert_uint_eq(done, VSOCK_RESETS_MAX);

    rx_post(1); /* each that it takes makes room for one more */
    for (unsigned i = 0; i < VSOCK_RESETS_MAX + 32; i++) {
        ck_assert_uint_eq(expect(VSOCK_RST).source_port, i);
    }

    while (guest_used(&guest, TX, &head, &size)) {
        done++;
    }
    ck_assert_uint_gt(done, VSOCK_RESETS_MAX);
}
END_TEST

START_TEST(connections_are_bounded_and_come_back)
{
    static int fds[VSOCK_LINKS_MAX + 3];
    for (unsigned i = 0; i < VSOCK_LINKS_MAX + 3; i++) {
        fds[i] = client("CONN");
        guest_settle(&guest);
    }
    ck_assert_uint_eq(counters().links, VSOCK_LINKS_MAX);
    send_packet(VSOCK_REQUEST, 1, 2);
    (void)expect(VSOCK_RST); /* no room for the guest either */

    for (unsigned i = 0; i < VSOCK_LINKS_MAX + 3; i++) {
        (void)close(fds[i]);
    }
    guest_settle(&guest);

    ck_assert_uint_eq(counters().links, 0);
    const int fd = guest_connects(1, 2);
    (void)close(fd);
}
END_TEST

/* Lets the device work until the client is sent away. */
static void wait_end(int fd)
{
    char byte;
    while (recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN) {
        ck_assert_int_gt(poller_step(guest.poller, GUEST_WAIT_MS), 0);
    }
}

START_TEST(a_client_that_never_greets_gives_its_place_back)
{
    const int silent = client("CONN");
    const int other = client("CONNECT 5\n");
    const struct vsock_header request = expect(VSOCK_REQUEST);

    wait_end(silent);

    ck_assert_uint_eq(counters().links, 1);
    ck_assert_uint_eq(counters().refused, 1);
    send_packet(VSOCK_RESPONSE, 5, request.source_port); /* who greeted stays */
    expect_text(other, "OK ");
    (void)close(silent);
    (void)close(other);
}
END_TEST

START_TEST(a_machine_that_stood_still_gives_clients_their_time_anew)
{
    const int first = client("CONN");
    guest_settle(&guest);
    device_stop(&guest.pci->device);
    ck_assert_int_eq(write(first, "ECT 5\n", 6), 6);
    const int second = client("CONN");
    ck_assert_int_eq(poller_step(guest.poller, 40), 0); /* it is late, and nobody looks */

    device_start(&guest.pci->device);

    (void)expect(VSOCK_REQUEST);
    wait_end(second);
    ck_assert_uint_eq(counters().links, 1);
    (void)close(first);
    (void)close(second);
}
END_TEST

START_TEST(a_reset_of_the_device_ends_all_connections)
{
    const int fd = guest_connects(10, 20);
    const int other = client("CONNECT 5\n");
    (void)expect(VSOCK_REQUEST);

    guest_set(&guest, GUEST_STATUS, 1, 0);

    expect_end(fd);
    expect_end(other);
    ck_assert_uint_eq(counters().links, 0);
    memset(rx_buffers, 0, sizeof(rx_buffers));
    rx_posted = 0;
    guest_drive(&guest, 0);
    rx_post(8);
    (void)close(guest_connects(10, 20));
    (void)close(fd);
    (void)close(other);
}
END_TEST

START_TEST(while_the_machine_stands_still_nothing_moves_and_nothing_is_lost)
{
    char text[16] = "";
    const int fd = guest_connects(10, 20);
    device_stop(&guest.pci->device);
    ck_assert_int_eq(write(fd, "later", 5), 5);
    const int other = client("CONNECT 5\n");
    expect_nothing();

    device_start(&guest.pci->device);

    ck_assert_uint_eq(next_packet(text, sizeof(text)).operation, VSOCK_RW);
    ck_assert_str_eq(text, "later");
    (void)expect(VSOCK_REQUEST);
    (void)close(fd);
    (void)close(other);
}
END_TEST

START_TEST(a_guest_that_comes_in_is_told_that_its_connections_are_gone)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct err err = {0};
    uint32_t event = 77;
    const uint64_t event_at = guest_put(&guest, &event, sizeof(event));
    const int client_fd = client("CONNECT 5\n");
    const uint32_t port = expect(VSOCK_REQUEST).source_port;
    const int fd = guest_connects(10, 20);
    guest_post(&guest, EV, &(struct guest_buffer){event_at, sizeof(event), true}, 1);
    guest_kick(&guest, EV);
    guest_settle(&guest);
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);
    device_free(&guest.pci->device);
    fd_close(&dial_end);
    guest_attach_stopped(&guest, vsock_make());

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_msg(device_restore(&guest.pci->device, &reader, &err) == 0, "%s", err.text);
    device_start(&guest.pci->device);

    ck_assert_uint_eq(guest_wait(&guest, EV), sizeof(event));
    ck_assert_int_eq(guest_memory_read(&guest.memory, event_at, &event, sizeof(event)),
                     0);
    ck_assert_uint_eq(event, 0);
    send_text(10, 20, "old");
    (void)expect(VSOCK_RST);
    const int new_fd = guest_connects(10, 20);
    const int again = client("CONNECT 5\n");
    ck_assert_uint_ne(expect(VSOCK_REQUEST).source_port, port);
    bytes_writer_fini(&writer);
    (void)close(again);
    (void)close(new_fd);
    (void)close(client_fd);
    (void)close(fd);
}
END_TEST

/* Lets the process have new descriptors, or none. */
static void descriptors_allow(bool allowed)
{
    static struct rlimit before;
    if (!allowed) {
        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    }
    const struct rlimit now = {allowed ? before.rlim_cur : 0, before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &now), 0);
}

/* A client that cannot be accepted is tried once, not with each step. */
static int client_that_waits(const char *greeting)
{
    int fired = 0;
    guest_settle(&guest);
    const int fd = client(greeting);
    descriptors_allow(false);
    for (unsigned i = 0; i < 16; i++) {
        fired += poller_step(guest.poller, 0);
    }
    descriptors_allow(true);
    ck_assert_int_eq(fired, 1);
    return fd;
}

START_TEST(without_descriptors_a_client_waits_for_the_guests_next_word)
{
    const int fd = client_that_waits("CONNECT 9\n");
    ck_assert_uint_eq(counters().links, 0);

    guest_kick(&guest, RX);

    ck_assert_uint_eq(expect(VSOCK_REQUEST).target_port, 9);
    (void)close(fd);
}
END_TEST

START_TEST(without_descriptors_a_client_waits_for_the_end_of_another)
{
    const int other = client("CON");
    const int fd = client_that_waits("CONNECT 9\n");
    ck_assert_uint_eq(counters().links, 1);

    (void)close(other);

    ck_assert_uint_eq(expect(VSOCK_REQUEST).target_port, 9);
    (void)close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio_vsock");
    TCase *tests = tcase_create("virtio_vsock");
    tcase_add_checked_fixture(tests, set_up_patient, tear_down);
    tcase_add_test(tests, the_configuration_is_the_guests_number);
    tcase_add_test(tests, a_client_of_the_host_reaches_a_port_of_the_guest);
    tcase_add_test(tests, a_guest_that_does_not_want_it_ends_the_client);
    tcase_add_test(tests, a_client_that_does_not_wait_for_the_guest_ends_the_request);
    tcase_add_loop_test(tests, a_client_that_says_something_else_is_sent_away, 0,
                        (int)ARRAY_COUNT(greetings));
    tcase_add_test(tests, a_greeting_may_come_in_pieces);
    tcase_add_test(tests, the_guest_reaches_a_port_of_the_host);
    tcase_add_test(tests, what_cannot_be_reached_is_refused);
    tcase_add_test(tests, an_answer_to_nobody_is_closed);
    tcase_add_test(tests, the_host_may_end_its_direction_alone);
    tcase_add_test(tests, the_guest_may_end_its_direction_alone);
    tcase_add_test(tests, a_guest_that_takes_nothing_more_gets_nothing_more);
    tcase_add_test(tests, a_host_that_has_gone_resets_the_guest_when_it_sends);
    tcase_add_test(tests, what_waits_for_a_slow_host_arrives_before_the_end);
    tcase_add_test(tests, a_guest_that_sends_more_than_it_may_loses_the_connection);
    tcase_add_test(tests, the_host_waits_for_the_guests_credit);
    tcase_add_loop_test(tests, what_is_odd_is_reset, 0, (int)ARRAY_COUNT(oddities));
    tcase_add_test(tests, a_packet_without_a_header_is_dropped);
    tcase_add_test(tests, a_buffer_whose_ram_has_gone_costs_the_guest_its_device);
    tcase_add_test(tests, bytes_to_and_from_plugged_ram_leave_it_free);
    tcase_add_test(tests, a_buffer_too_small_for_a_packet_comes_back_empty);
    tcase_add_test(tests, what_waits_does_not_keep_a_broken_device_busy);
    tcase_add_test(tests, a_guest_that_takes_no_answers_has_to_wait);
    tcase_add_test(tests, connections_are_bounded_and_come_back);
    tcase_add_test(tests, a_reset_of_the_device_ends_all_connections);
    tcase_add_test(tests,
                   while_the_machine_stands_still_nothing_moves_and_nothing_is_lost);
    tcase_add_test(tests, a_guest_that_comes_in_is_told_that_its_connections_are_gone);
    tcase_add_test(tests, without_descriptors_a_client_waits_for_the_guests_next_word);
    tcase_add_test(tests, without_descriptors_a_client_waits_for_the_end_of_another);
    TCase *hasty = tcase_create("virtio_vsock_hasty");
    tcase_add_checked_fixture(hasty, set_up_hasty, tear_down);
    tcase_add_test(hasty, a_client_that_never_greets_gives_its_place_back);
    tcase_add_test(hasty, a_machine_that_stood_still_gives_clients_their_time_anew);
    suite_add_tcase(suite, hasty);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
