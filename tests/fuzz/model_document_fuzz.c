/* document_read on any JSON: what is accepted can be checked, shown, and read again to an
 * equal object, and survives the wire. */
#include "base/require.h"
#include "model/document.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
ignore_fault(void *context, const char *path, const char *message, const char *hint)
{
    (void)context;
    (void)hint;
    REQUIRE(path != NULL && message[0] != '\0');
}

static void check_shown(enum kind kind, const void *object, bool full)
{
    enum kind back_kind = KIND_NONE;
    void *back = NULL;
    json_t *tree = document_of(kind, object, full);
    char *text = json_text(tree);
    struct json_view *document = NULL;
    REQUIRE(text != NULL);
    REQUIRE(json_view_parse(text, strlen(text), &document, NULL) == 0);
    free(text);
    json_t *spec = json_object_get(tree, "spec");
    if (kind == KIND_TOKEN) { /* its hash is a secret: not shown */
        REQUIRE(json_object_get(spec, "hash") == NULL);
    } else {
        REQUIRE(document_read(json_view_root(document), &back_kind, &back, NULL) == 0);
        REQUIRE(back_kind == kind);
        REQUIRE(record_equal(kind_info(kind)->record, object, back));
        object_free(kind, back);
    }
    json_view_free(document);
    json_decref(tree);
}

static void check_wire(const struct record *record, const void *object)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    void *back = malloc(record->size_bytes);
    REQUIRE(back != NULL);
    bytes_writer_init(&writer, 64u << 20);
    record_encode(record, object, &writer);
    REQUIRE(writer.error == 0);
    bytes_reader_init(&reader, writer.data, writer.size);
    REQUIRE(record_decode(record, &reader, back) == 0);
    REQUIRE(record_equal(record, object, back));
    record_free(record, back);
    bytes_writer_fini(&writer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    enum kind kind = KIND_NONE;
    void *object = NULL;
    struct json_view *document = NULL;
    if (json_view_parse((const char *)data, size, &document, &err) < 0) {
        return 0;
    }
    if (document_read(json_view_root(document), &kind, &object, &err) < 0) {
        REQUIRE(err.code < 0 && err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
    } else {
        (void)object_check(kind, object, ignore_fault, NULL);
        check_shown(kind, object, false);
        check_shown(kind, object, true);
        check_wire(kind_info(kind)->record, object);
        object_free(kind, object);
    }
    json_view_free(document);
    return 0;
}
