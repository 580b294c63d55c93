/* json_parse on any bytes: what is accepted prints, and its print is accepted and prints
 * the same. A view takes the same, but for what has a NUL, and holds the same. */
#include "base/json.h"
#include "base/json_view.h"
#include "base/require.h"
#include "json_same.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_view(const uint8_t *data, size_t size, const json_t *tree)
{
    struct err err = {0};
    struct json_view *view = NULL;
    bool taken = json_view_parse((const char *)data, size, &view, &err) == 0;
    bool wanted = tree != NULL && memchr(data, '\0', size) == NULL;
    REQUIRE(taken == wanted && (taken || err.text[0] != '\0'));
    REQUIRE(!taken || json_same(json_view_root(view), tree));
    json_view_free(view);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    json_t *first = NULL;
    if (json_parse((const char *)data, size, &first, &err) < 0) {
        REQUIRE(err.code < 0 && err.text[0] != '\0');
        check_view(data, size, NULL);
        return 0;
    }
    check_view(data, size, first);
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
