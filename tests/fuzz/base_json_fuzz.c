/* json_parse on any bytes: what is accepted prints, and its print is accepted and prints
 * the same. */
#include "base/json.h"
#include "base/require.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    json_t *first = NULL;
    if (json_parse((const char *)data, size, &first, &err) < 0) {
        REQUIRE(err.code < 0 && err.text[0] != '\0');
        return 0;
    }
    char *text = json_text(first);
    REQUIRE(text != NULL);
    json_t *second = NULL;
    REQUIRE(json_parse(text, strlen(text), &second, &err) == 0);
    char *again = json_text(second);
    REQUIRE(again != NULL && strcmp(text, again) == 0);
    free(again);
    free(text);
    json_decref(second);
    json_decref(first);
    return 0;
}
