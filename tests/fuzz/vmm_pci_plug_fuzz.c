/* Slots whose devices come and go: a guest's accesses of any width to the registers and
 * to configuration space, between devices that come, are asked for, are taken out, resets
 * and saves. A guest never changes which devices there are, hears of each once, and loses
 * none that it was not asked for: a copy that takes no shortcuts agrees. Steps of four
 * bytes: what, and three of its own. */
#include "base/require.h"
#include "vmm/machine_layout.h"
#include "vmm/pci_bus.h"
#include "vmm/virtio_random.h"

#include <string.h>

#define STEP_BYTES 4u
#define NOBODY     UINT32_MAX
#define RANDOM     0x10441af4u /* virtio-rng */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
    STEP_READ = 0,
    STEP_WRITE,
    STEP_CONFIG,
    STEP_COME,
    STEP_ASK,
    STEP_TAKE_OUT,
    STEP_RESET,
    STEP_SAVE,
    STEP_COUNT
};

struct slot {
    bool present;
    bool up;
    bool down;
    bool asked;
    bool heard;
    bool leaving;
};

struct board {
    struct io_bus bus;
    struct poller *poller;
    struct guest_memory memory;
    struct pci_bus *pci;
    unsigned told; /* that there is something to take out */
    struct slot slots[PCI_PLUG_SLOTS];
};

static void on_let_go(void *context, unsigned number)
{
    struct board *board = context;
    (void)number;
    board->told++;
}

static void board_init(struct board *board)
{
    io_bus_init(&board->bus);
    guest_memory_init(&board->memory);
    REQUIRE(poller_new(&board->poller, NULL) == 0);
    REQUIRE(pci_bus_new(&board->bus, -1, board->poller, &board->pci) == 0);
    board->pci->let_go = (struct device_line){on_let_go, board};
}

static void take_out(struct board *board, unsigned i)
{
    struct virtio_pci *function = pci_bus_function(board->pci, PCI_PLUG_FIRST + i);
    pci_bus_leave(board->pci, PCI_PLUG_FIRST + i);
    device_reset(&function->device);
    pci_bus_unplug(board->pci, PCI_PLUG_FIRST + i);
    device_free(&function->device);
    board->slots[i] = (struct slot){.present = false};
}

static void board_fini(struct board *board)
{
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        if (board->slots[i].present) {
            take_out(board, i);
        }
    }
    device_free(&board->pci->device);
    poller_free(board->poller);
    guest_memory_fini(&board->memory);
    io_bus_fini(&board->bus);
}

/* ---- the guest's */

static uint8_t model_read(struct board *board, uint64_t offset)
{
    uint8_t value = 0;
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        struct slot *slot = &board->slots[i];
        const bool bit = offset == PCI_PLUG_PRESENT ? slot->present
                         : offset == PCI_PLUG_UP    ? slot->up
                         : offset == PCI_PLUG_DOWN  ? slot->down
                                                    : offset > PCI_PLUG_EJECT;
        value = (uint8_t)(value | bit << i);
        slot->up = slot->up && offset != PCI_PLUG_UP;
        slot->heard = slot->heard || (slot->down && offset == PCI_PLUG_DOWN);
        slot->down = slot->down && offset != PCI_PLUG_DOWN;
    }
    return value;
}

static uint64_t offset_of(const uint8_t *step)
{
    return step[3] % 16 == 0 ? UINT64_MAX - 2 * step[1] - 16 : step[1] % 12;
}

static void read_step(struct board *board, const uint8_t *step)
{
    uint8_t seen[DEVICE_ACCESS_MAX];
    const uint64_t offset = offset_of(step);
    const unsigned width = 1 + step[2] % DEVICE_ACCESS_MAX;
    device_read(&board->pci->device, PCI_BUS_PLUG, offset, seen, width);
    for (unsigned i = 0; i < width; i++) {
        REQUIRE(seen[i] == model_read(board, offset + i));
    }
}

static void write_step(struct board *board, const uint8_t *step)
{
    uint8_t bytes[DEVICE_ACCESS_MAX];
    const uint64_t offset = offset_of(step);
    const unsigned width = 1 + step[2] % DEVICE_ACCESS_MAX;
    const unsigned before = board->told;
    bool is_news = false;
    for (unsigned i = 0; i < width; i++) {
        bytes[i] = (uint8_t)(step[3] + 37 * i);
    }
    device_write(&board->pci->device, PCI_BUS_PLUG, offset, bytes, width);
    for (unsigned i = 0; i < width; i++) {
        for (unsigned k = 0; offset + i == PCI_PLUG_EJECT && k < PCI_PLUG_SLOTS; k++) {
            struct slot *slot = &board->slots[k];
            const bool goes = slot->heard && !slot->leaving && (bytes[i] >> k & 1) != 0;
            slot->leaving = slot->leaving || goes;
            is_news = is_news || goes;
        }
    }
    REQUIRE(board->told == before + is_news);
}

static void config_step(struct board *board, const uint8_t *step)
{
    uint8_t bytes[DEVICE_ACCESS_MAX] = {step[3], step[2], step[1]};
    const uint64_t at = (uint64_t)(PCI_PLUG_FIRST + step[1] % PCI_PLUG_SLOTS) << 15;
    device_write(&board->pci->device, PCI_BUS_ECAM, at + step[2], bytes,
                 1 + step[3] % DEVICE_ACCESS_MAX);
}

/* ---- the owner's */

static void come_step(struct board *board, unsigned i, bool is_news)
{
    const struct virtio_place place = {&board->memory, board->poller};
    struct virtio_device *random;
    struct virtio_pci *function;
    if (board->slots[i].present) {
        return;
    }
    REQUIRE(virtio_random_new(&place, &random) == 0);
    REQUIRE(virtio_pci_new(random, "rng", &function) == 0);
    REQUIRE(device_init(&function->device, NULL) == 0);
    REQUIRE(pci_bus_plug(board->pci, PCI_PLUG_FIRST + i, function, NULL) == 0);
    if (!is_news) {
        pci_bus_place(board->pci, PCI_PLUG_FIRST + i);
    }
    pci_bus_show(board->pci, PCI_PLUG_FIRST + i, is_news);
    board->slots[i] = (struct slot){.present = true, .up = is_news};
}

static void reset_step(struct board *board)
{
    device_reset(&board->pci->device);
    pci_bus_place_all(board->pci);
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        board->slots[i] = (struct slot){.present = board->slots[i].present};
    }
}

static void leaving_take(struct board *board)
{
    const uint8_t leaving = pci_bus_leaving(board->pci);
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        REQUIRE((leaving >> i & 1) == board->slots[i].leaving);
        if (board->slots[i].leaving) {
            take_out(board, i);
        }
    }
}

static void save_step(struct board *board)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    leaving_take(board); /* as the machine does */
    bytes_writer_init(&writer, 4096);
    device_save(&board->pci->device, &writer);
    bytes_reader_init(&reader, writer.data, writer.size);
    REQUIRE(device_restore(&board->pci->device, &reader, NULL) == 0);
    bytes_writer_fini(&writer);
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        struct slot *slot = &board->slots[i];
        slot->heard = slot->asked && !slot->down; /* it is told again, and then has */
    }
}

static void step_do(struct board *board, const uint8_t *step)
{
    const unsigned i = step[1] % PCI_PLUG_SLOTS;
    switch (step[0] % STEP_COUNT) {
    case STEP_READ:
        read_step(board, step);
        break;
    case STEP_WRITE:
        write_step(board, step);
        break;
    case STEP_CONFIG:
        config_step(board, step);
        break;
    case STEP_COME:
        come_step(board, i, step[2] % 2 == 0);
        break;
    case STEP_ASK:
        if (board->slots[i].present) {
            pci_bus_ask(board->pci, PCI_PLUG_FIRST + i);
            board->slots[i].asked = board->slots[i].down = true;
        }
        break;
    case STEP_TAKE_OUT:
        leaving_take(board);
        break;
    case STEP_RESET:
        reset_step(board);
        break;
    case STEP_SAVE:
    default:
        save_step(board);
        break;
    }
}

/* Who is there answers; who is leaving is seen no more. */
static void board_check(struct board *board)
{
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        const struct slot *slot = &board->slots[i];
        uint32_t identity;
        device_read(&board->pci->device, PCI_BUS_ECAM,
                    (uint64_t)(PCI_PLUG_FIRST + i) << 15, &identity, sizeof(identity));
        REQUIRE(identity == (slot->present && !slot->leaving ? RANDOM : NOBODY));
        REQUIRE(pci_bus_can_leave(board->pci, PCI_PLUG_FIRST + i) == slot->present);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct board board = {.poller = NULL};
    board_init(&board);
    for (size_t at = 0; at + STEP_BYTES <= size; at += STEP_BYTES) {
        step_do(&board, data + at);
        board_check(&board);
    }
    board_fini(&board);
    return 0;
}
