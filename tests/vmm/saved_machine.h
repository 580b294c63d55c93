/* A machine that stands still as what it is saved as: a stream, and a file of its RAM. */
#pragma once

#include "vmm/machine.h"
#include "vmm/machine_state.h"
#include "vmm/ram_image.h"

#include <check.h>

#include <sys/mman.h>
#include <unistd.h>

#define SAVED_RAM_AT (UINT64_C(2) << 20)

/* The file; what was written into the stream is the caller's to fini. */
static inline int saved_machine(struct machine *machine, struct bytes_writer *ret_state)
{
    struct ram_progress progress = {0};
    struct bytes_writer ram;
    struct err err = {0};
    int image = memfd_create("image", MFD_CLOEXEC);
    bytes_writer_init(ret_state, 16u << 20);
    bytes_writer_init(&ram, 1u << 20);
    int r = machine_save(machine, ret_state, &err);
    ck_assert_msg(r > 0, "%s", err.text);
    ck_assert_int_eq(ram_image_write(machine_memory(machine), image, SAVED_RAM_AT,
                                     &progress, &ram, NULL),
                     0);
    ck_assert_int_eq(
        ftruncate(image, (off_t)(SAVED_RAM_AT + machine_memory_bytes(machine))), 0);
    machine_state_finish(ret_state, &ram, (unsigned)r);
    ck_assert_int_eq(ret_state->error, 0);
    bytes_writer_fini(&ram);
    return image;
}
