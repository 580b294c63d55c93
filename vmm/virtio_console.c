#include "vmm/virtio_console.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/require.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PCI_CLASS_SERIAL 0x070000u
#define CHUNK_BYTES      4096u
#define REQUEST_MAX      (64u << 10) /* of one request; what is longer is dropped */

/* 5.3.4: all of it belongs to features that are not offered. */
struct console_config {
    uint16_t cols;
    uint16_t rows;
    uint32_t max_nr_ports;
    uint32_t emerg_wr;
};

struct console {
    struct virtio_device device;
    int fd;
    int watch;
    bool no_buffers; /* the guest has none */
    bool gone;       /* nothing will ever come from the other side */
    struct counter received_bytes;
    struct counter sent_bytes;
    struct counter dropped_bytes;
};

static struct console *console_of(struct virtio_device *device)
{
    return (struct console *)device;
}

static void watch_update(struct console *console)
{
    const bool wanted =
        virtio_device_active(&console->device) && !console->no_buffers && !console->gone;
    if (console->watch >= 0) {
        poller_change(console->device.place.poller, console->watch,
                      wanted ? POLLER_READABLE : 0);
    }
}

/* ---- to the guest ---- */

/* Reads as much as this buffer takes, at most a chunk. */
static enum virtio_handled
receive_one(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    struct console *console = console_of(device);
    uint8_t bytes[CHUNK_BYTES];
    const size_t room = chain->writable_bytes < sizeof(bytes)
                            ? (size_t)chain->writable_bytes
                            : sizeof(bytes);
    const ssize_t size = room > 0 ? read(console->fd, bytes, room) : 0;
    if (size < 0 || (size == 0 && room > 0)) {
        console->gone = size == 0 || (errno != EAGAIN && errno != EINTR);
        return VIRTIO_WAIT;
    }
    const size_t written =
        virtio_chain_write(chain, device->place.memory, 0, bytes, (size_t)size);
    counter_add(&console->received_bytes, written);
    virtio_device_give(device, queue, chain->head, (uint32_t)written);
    return VIRTIO_TAKEN;
}

static void receive(struct console *console)
{
    struct virtio_queue *ring = &console->device.queues[VIRTIO_CONSOLE_RECEIVE];
    virtio_device_serve(&console->device, VIRTIO_CONSOLE_RECEIVE, receive_one);
    /* An empty ring was armed by the serving: the next buffer brings us back. */
    console->no_buffers = !virtio_queue_arm(ring, console->device.place.memory);
    watch_update(console);
}

/* ---- from the guest ---- */

/* A reader that has left is an error, not a signal; that works for sockets only, and the
 * rest of the program ignores SIGPIPE. */
static ssize_t put(int fd, const void *data, size_t size)
{
    const ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    return sent < 0 && errno == ENOTSOCK ? write(fd, data, size) : sent;
}

static enum virtio_handled
transmit_one(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    struct console *console = console_of(device);
    uint8_t bytes[CHUNK_BYTES];
    uint64_t done = 0;
    while (done < chain->readable_bytes && done < REQUEST_MAX) {
        const size_t size =
            virtio_chain_read(chain, device->place.memory, done, bytes, sizeof(bytes));
        const ssize_t sent = put(console->fd, bytes, size);
        if (sent <= 0) {
            break; /* full or gone: a console does not wait for its reader */
        }
        done += (uint64_t)sent;
    }
    counter_add(&console->sent_bytes, done);
    counter_add(&console->dropped_bytes, chain->readable_bytes - done);
    virtio_device_give(device, queue, chain->head, 0);
    return VIRTIO_TAKEN;
}

static void transmit(struct console *console)
{
    virtio_device_serve(&console->device, VIRTIO_CONSOLE_TRANSMIT, transmit_one);
}

static void (*const turns[2])(struct console *console) = {
    [VIRTIO_CONSOLE_RECEIVE] = receive,
    [VIRTIO_CONSOLE_TRANSMIT] = transmit,
};

/* ---- the verbs ---- */

static void on_input(void *context, uint64_t token, unsigned events)
{
    struct console *console = context;
    (void)token;
    (void)events;
    virtio_device_enter(&console->device);
    virtio_device_notify(&console->device, VIRTIO_CONSOLE_RECEIVE);
    watch_update(console);
    virtio_device_leave(&console->device);
}

static int console_init(struct virtio_device *device, struct err *err)
{
    struct console *console = console_of(device);
    console->watch =
        poller_add(device->place.poller, console->fd, 0, on_input, console, 0);
    return console->watch < 0 ? err_sys(err, console->watch, "watch the console") : 0;
}

static void console_notify(struct virtio_device *device, unsigned queue)
{
    turns[queue](console_of(device));
}

static void console_update(struct virtio_device *device)
{
    watch_update(console_of(device));
}

static void console_hush(struct virtio_device *device)
{
    struct console *console = console_of(device);
    console->no_buffers = false;
    if (console->watch >= 0) {
        poller_change(device->place.poller, console->watch, 0);
    }
}

static void console_free(struct virtio_device *device)
{
    struct console *console = console_of(device);
    if (console->watch >= 0) {
        poller_remove(device->place.poller, console->watch);
    }
    fd_close(&console->fd);
    free(console);
}

static void console_config_read(struct virtio_device *device,
                                uint64_t offset,
                                void *ret_data,
                                unsigned size)
{
    static const struct console_config config = {.max_nr_ports = 1};
    (void)device;
    virtio_config_read(&config, sizeof(config), offset, ret_data, size);
}

static const struct counter_row console_counters[] = {
    {"rx_bytes", offsetof(struct console, received_bytes)},
    {"tx_bytes", offsetof(struct console, sent_bytes)},
    {"tx_dropped_bytes", offsetof(struct console, dropped_bytes)},
};

static const struct virtio_ops console_ops = {
    .kind = "virtio-console",
    .type = VIRTIO_TYPE_CONSOLE,
    .pci_class = PCI_CLASS_SERIAL,
    .counters = console_counters,
    .counter_count = ARRAY_COUNT(console_counters),
    .init = console_init,
    .activate = console_update,
    .notify = console_notify,
    .reset = console_hush,
    .start = console_update,
    .stop = console_hush,
    .free = console_free,
    .config_read = console_config_read,
};

int virtio_console_new(const struct virtio_place *place,
                       int take_fd,
                       struct virtio_device **ret_device,
                       struct err *err)
{
    const int r = fd_set_nonblocking(take_fd);
    if (r < 0) {
        return err_sys(err, r, "use the console's descriptor");
    }
    struct console *console = calloc(1, sizeof(*console));
    if (console == NULL) {
        return err_sys(err, -ENOMEM, "make a console");
    }
    virtio_device_setup(&console->device, &console_ops, place, 0, 2,
                        VIRTIO_QUEUE_SIZE_MAX);
    console->fd = take_fd;
    console->watch = -1;
    *ret_device = &console->device;
    return 0;
}

void virtio_console_count(struct virtio_device *device,
                          struct virtio_console_counters *ret_counters)
{
    REQUIRE(device->ops == &console_ops);
    const struct console *console = console_of(device);
    *ret_counters = (struct virtio_console_counters){
        .received_bytes = counter_read(&console->received_bytes),
        .sent_bytes = counter_read(&console->sent_bytes),
        .dropped_bytes = counter_read(&console->dropped_bytes)};
}
