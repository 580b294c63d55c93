/* The device that plugs memory: a guest whose every move is the fuzzer's choice. */
#include "hostile_devices.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return hostile_run_bytes(&hostile_mem, data, size);
}
