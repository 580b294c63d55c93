/* Slots whose devices come and go: the steps of hostile_slots.h. */
#include "hostile_slots.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slots slots = {.poller = NULL};
    slots_init(&slots);
    for (size_t at = 0; at + SLOTS_STEP_BYTES <= size; at += SLOTS_STEP_BYTES) {
        slots_step(&slots, data + at);
    }
    slots_fini(&slots);
    return 0;
}
