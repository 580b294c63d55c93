/* berth-vmm with bugs planted in it (vmm/planted_fault.h): BERTH_PLANTED in the
 * environment says which one this process has, by its number. */
#include "base/parse_number.h"
#include "vmm/planted_fault.h"

#include <stdio.h>
#include <stdlib.h>

enum planted_fault planted_fault = PLANTED_NONE;

__attribute__((constructor)) static void switch_on(void)
{
    const char *wanted = getenv("BERTH_PLANTED");
    uint64_t number = PLANTED_NONE;
    if (wanted == NULL || parse_u64(wanted, &number, NULL) != 0 ||
        number >= PLANTED_COUNT) {
        (void)fprintf(stderr, "BERTH_PLANTED: not the number of a planted fault\n");
        exit(2);
    }
    planted_fault = (enum planted_fault)number;
}
