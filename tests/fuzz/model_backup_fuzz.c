/* A backup from anywhere: it is refused, or it says what it is and its state is whole.
 * The checksum at its end is repaired first, or no input would get past it. */
#include "base/require.h"
#include "model/backup_file.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *backup = malloc(size + DIGEST_SIZE);
    struct state *state = state_new(NULL, NULL);
    struct backup_info info = {0};
    struct digest digest;
    struct err err = {0};
    uint32_t level = 0;
    REQUIRE(backup != NULL && state != NULL);
    memcpy(backup, data, size);
    digest_of(backup, size, &digest);
    memcpy(backup + size, digest.bytes, DIGEST_SIZE);
    int r = backup_load(backup, size + DIGEST_SIZE, &info, &level, state, &err);
    REQUIRE(r == 0 || (r == err.code && err.text[0] != '\0'));
    if (r == 0) {
        REQUIRE(info.revision == state_revision(state) && level == state_level(state));
        record_fini(&backup_info_record, &info);
    }
    state_free(state);
    free(backup);
    return 0;
}
