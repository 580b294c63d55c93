#include "vmm/vmm_balloon.h"

#include "base/cleanup.h"
#include "vmm/virtio_balloon.h"

/* With what the guest says of its memory: what QEMU keeps elsewhere. */
static json_t *statistics_pack(const struct virtio_balloon_state *state)
{
    static const char *const names[VIRTIO_BALLOON_STATISTIC_COUNT] = {
        [VIRTIO_BALLOON_SWAP_IN] = "stat-swap-in",
        [VIRTIO_BALLOON_SWAP_OUT] = "stat-swap-out",
        [VIRTIO_BALLOON_MAJOR_FAULTS] = "stat-major-faults",
        [VIRTIO_BALLOON_MINOR_FAULTS] = "stat-minor-faults",
        [VIRTIO_BALLOON_FREE_BYTES] = "stat-free-memory",
        [VIRTIO_BALLOON_TOTAL_BYTES] = "stat-total-memory",
        [VIRTIO_BALLOON_AVAILABLE_BYTES] = "stat-available-memory",
        [VIRTIO_BALLOON_CACHE_BYTES] = "stat-disk-caches",
    };
    json_t *statistics = json_object();
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
        /* A number that JSON has no room for is a lie of the guest's. */
        const json_int_t value = state->statistics[i] <= INT64_MAX
                                     ? (json_int_t)state->statistics[i]
                                     : INT64_MAX;
        (void)json_object_set_new(statistics, names[i],
                                  json_integer(value)); /* one less */
    }
    return statistics;
}

json_t *vmm_balloon_pack(struct virtio_device *balloon, uint64_t memory_bytes)
{
    struct virtio_balloon_state state;
    virtio_balloon_state(balloon, &state);
    virtio_balloon_ask(balloon);
    const uint64_t held =
        state.actual_bytes < memory_bytes ? state.actual_bytes : memory_bytes;
    return json_pack("{s:I, s:I, s:I, s:o}", "actual", (json_int_t)(memory_bytes - held),
                     "target", (json_int_t)(memory_bytes - state.target_bytes),
                     "released", (json_int_t)state.released_bytes, "stats",
                     statistics_pack(&state));
}
