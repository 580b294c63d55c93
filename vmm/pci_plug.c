#include "vmm/pci_plug.h"

#include "base/require.h"
#include "vmm/planted_fault.h"

#include <stdio.h>
#include <string.h>

#define NO_REGISTER 0xffu
#define SET_TEXT    (3u * PCI_PLUG_SLOTS + 8u) /* "24, 25, ..." */

bool pci_plug_has(unsigned slot)
{
    return slot >= PCI_PLUG_FIRST && slot < PCI_PLUG_FIRST + PCI_PLUG_SLOTS;
}

static uint8_t bit_of(unsigned slot)
{
    REQUIRE(pci_plug_has(slot));
    return (uint8_t)(1u << (slot - PCI_PLUG_FIRST));
}

/* The set, which is empty then. */
static uint8_t take(uint8_t *set)
{
    const uint8_t taken = *set;
    *set = 0;
    return taken;
}

static uint8_t register_read(struct pci_plug *plug, uint64_t offset)
{
    switch (offset) {
    case PCI_PLUG_PRESENT:
        return plug->present;
    case PCI_PLUG_UP:
        return take(&plug->up);
    case PCI_PLUG_DOWN:
        plug->heard |= plug->down;
        return take(&plug->down);
    case PCI_PLUG_EJECT:
        return 0;
    default:
        return NO_REGISTER;
    }
}

void pci_plug_read(struct pci_plug *plug, uint64_t offset, void *ret_data, unsigned size)
{
    uint8_t *bytes = ret_data;
    for (unsigned i = 0; i < size; i++) {
        bytes[i] = register_read(plug, offset + i);
    }
}

bool pci_plug_write(struct pci_plug *plug,
                    uint64_t offset,
                    const void *data,
                    unsigned size)
{
    if (offset > PCI_PLUG_EJECT || offset + size <= PCI_PLUG_EJECT) {
        return false;
    }
    const uint8_t let_go = ((const uint8_t *)data)[PCI_PLUG_EJECT - offset];
    const uint8_t may_go = PLANTED(PLANTED_SLOT_UNASKED) ? plug->present : plug->heard;
    const uint8_t more = (uint8_t)(let_go & may_go & ~plug->leaving);
    plug->leaving |= more;
    return more != 0;
}

void pci_plug_add(struct pci_plug *plug, unsigned slot, bool is_news)
{
    plug->present |= bit_of(slot);
    plug->up |= is_news ? bit_of(slot) : 0;
}

void pci_plug_remove(struct pci_plug *plug, unsigned slot)
{
    const uint8_t others = (uint8_t)~bit_of(slot);
    plug->present &= others;
    plug->up &= others;
    plug->down &= others;
    plug->asked &= others;
    plug->heard &= others;
    plug->leaving &= others;
}

void pci_plug_ask(struct pci_plug *plug, unsigned slot)
{
    REQUIRE((plug->present & bit_of(slot)) != 0);
    plug->asked |= bit_of(slot);
    plug->down |= bit_of(slot);
}

void pci_plug_leave(struct pci_plug *plug, unsigned slot)
{
    REQUIRE((plug->present & bit_of(slot)) != 0);
    plug->asked |= bit_of(slot);
    plug->leaving |= bit_of(slot);
    plug->down &= (uint8_t)~bit_of(slot);
}

bool pci_plug_is_present(const struct pci_plug *plug, unsigned slot)
{
    return (plug->present & bit_of(slot)) != 0;
}

bool pci_plug_is_leaving(const struct pci_plug *plug, unsigned slot)
{
    return (plug->leaving & bit_of(slot)) != 0;
}

void pci_plug_reset(struct pci_plug *plug)
{
    const uint8_t present = plug->present;
    *plug = (struct pci_plug){.present = present};
}

/* ---- its state ---- */

void pci_plug_save(const struct pci_plug *plug, struct bytes_writer *writer)
{
    REQUIRE(plug->leaving == 0); /* they are gone before */
    bytes_write_u8(writer, plug->is_unknown);
    bytes_write_u8(writer, plug->present);
    bytes_write_u8(writer, plug->up);
    bytes_write_u8(writer, plug->down);
    bytes_write_u8(writer, plug->asked);
}

static void set_say(uint8_t set, char ret_text[SET_TEXT])
{
    size_t length = 0;
    (void)snprintf(ret_text, SET_TEXT, "none");
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        if ((set >> i & 1) != 0) {
            length += (size_t)snprintf(ret_text + length, SET_TEXT - length, "%s%u",
                                       length > 0 ? ", " : "", PCI_PLUG_FIRST + i);
        }
    }
}

int pci_plug_restore(struct pci_plug *plug, struct bytes_reader *reader, struct err *err)
{
    struct pci_plug taken = {.is_unknown = bytes_read_u8(reader) != 0};
    char were[SET_TEXT];
    char are[SET_TEXT];
    taken.present = bytes_read_u8(reader);
    taken.up = bytes_read_u8(reader);
    taken.down = bytes_read_u8(reader);
    taken.asked = bytes_read_u8(reader);
    if (reader->error != 0 || (taken.up & ~taken.present) != 0 ||
        (taken.asked & ~taken.present) != 0 || (taken.down & ~taken.asked) != 0) {
        return err_set(err, BERTH_ECORRUPT, "the slots' sets make no sense");
    }
    taken.heard = (uint8_t)(taken.asked & ~taken.down); /* of the others it reads again */
    if (taken.present != plug->present) {
        set_say(taken.present, were);
        set_say(plug->present, are);
        return err_set(err, BERTH_EINVALID,
                       "the saved machine has devices in slots %s, and this one in %s",
                       were, are);
    }
    *plug = taken;
    return 0;
}
