/* Rows that go on while the machine does not: requests to all devices, each answered and
 * looked at, while it is paused, saved and moved, until the host says that it is enough;
 * and requests that are not waited for, while it is reset. */
#include "guest_cpu.h"
#include "guest_rows.h"
#include "guest_say.h"
#include "guest_virtio.h"

#define DATA_AT (SCRATCH_AT + 0x82000)
#define BACK_AT (SCRATCH_AT + 0x90000)
#define SECTORS 2048u

/* Writes a place of the disk, and reads it again. */
static const char *block_round(uint64_t number)
{
    const uint64_t sector = number * 8 % SECTORS;
    memory_set(DATA_AT, 8, number);
    memory_set(DATA_AT + 4088, 8, ~number);
    const char *why = virtio_disk_page(1, sector, DATA_AT);
    why = why != NULL ? why : virtio_disk_page(0, sector, BACK_AT);
    if (why == NULL &&
        (memory_get(BACK_AT, 8) != number || memory_get(BACK_AT + 4088, 8) != ~number)) {
        why = wrong("the disk gives back", memory_get(BACK_AT, 8));
    }
    return why;
}

/* Requests as the devices have been driven once, in the beginning. */
static const char *rounds(void)
{
    struct vbuffer buffers[3];
    unsigned count;
    uint8_t byte;
    const char *why = NULL;
    for (unsigned i = 0; i < virtio_count; i++) {
        virtio_drive(&virtios[i], 0);
    }
    say("ask rounds\n");
    for (uint64_t number = 0; why == NULL && !heard(&byte); number++) {
        why = block_round(number);
        for (uint16_t port = 0x610; port < 0x620; port++) { /* where CPUs come */
            port_out8(port, (uint8_t)number);
            (void)port_in8(port);
        }
        for (unsigned i = 0; why == NULL && i < virtio_count; i++) {
            struct virtio *device = &virtios[i];
            const unsigned queue = virtio_sound(device, buffers, &count);
            if (device->type == VIRTIO_BLOCK) {
                continue;
            }
            vring_post(&device->rings[queue], buffers, count);
            vring_kick(device, queue);
            if (vring_await(device, queue) == UINT32_MAX) {
                say(virtio_name(device));
                say("\n");
                why = wrong("it is ill in round", number);
            }
        }
        say("tick\n");
    }
    if (why != NULL) { /* the host waits for a tick */
        say("bad rounds: ");
        say(why);
        say("\n");
        guest_off();
    }
    return NULL;
}

const struct row_group rows_rounds = {"rounds", {{"rounds", rounds}}};

/* ---- resets of the whole machine ---- */

#define RESETS      40u
#define COUNT_AT    1000u /* the sector where they are counted: RAM begins anew */
#define RESET_PORT  0x602u
#define KEYBOARD    0x64u
#define KEYBOARD_GO 0xfeu

static void ask_all_and_wait_for_none(void)
{
    struct vbuffer buffers[3];
    unsigned count;
    for (unsigned i = 0; i < virtio_count; i++) {
        struct virtio *device = &virtios[i];
        virtio_drive(device, 0);
        const unsigned queue = virtio_sound(device, buffers, &count);
        for (unsigned at = 0; at < 20; at++) {
            vring_post(&device->rings[queue], buffers, count);
        }
        vring_kick(device, queue);
    }
}

/* The disk knows how often; behind the last reset it goes on. */
static const char *resets_of_the_machine(void)
{
    virtio_drive(virtio_find(VIRTIO_BLOCK), 0);
    const char *why = virtio_disk_page(0, COUNT_AT, BACK_AT);
    const uint64_t count = memory_get(BACK_AT, 8);
    if (why != NULL || count == RESETS) {
        return why;
    }
    memory_set(DATA_AT, 8, count + 1);
    why = virtio_disk_page(1, COUNT_AT, DATA_AT);
    if (why != NULL) {
        return why;
    }
    ask_all_and_wait_for_none();
    for (;;) {
        if (count % 2 == 0) {
            port_out8(RESET_PORT, 1);
        } else {
            port_out8(KEYBOARD, KEYBOARD_GO);
        }
    }
}

const struct row_group rows_resets = {"resets",
                                      {{"resets-of-the-machine", resets_of_the_machine}}};
