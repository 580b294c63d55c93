/* config_read on any bytes: faults stand inside the file and print without control
 * characters; what is accepted passes object_check and can be shown as YAML and read
 * again to an equal object. */
#include "base/require.h"
#include "config/config.h"
#include "config/yaml_emit.h"
#include "model/document.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
no_fault(void *context, const char *path, const char *message, const char *hint)
{
    (void)context;
    (void)path;
    (void)hint;
    REQUIRE(message == NULL);
}

static void check_fault(const struct config_fault *fault, size_t size)
{
    REQUIRE(fault->line >= 1 && fault->line <= size + 1);
    REQUIRE(fault->column >= 1 && fault->column <= size + 1);
    REQUIRE(fault->width >= 1 && fault->width <= size + 1);
    REQUIRE(fault->message[0] != '\0');
    for (const char *at = fault->message; *at != '\0'; at++) {
        REQUIRE((unsigned char)*at >= 0x20 && *at != 0x7f);
    }
}

static void check_printed(const struct config *config)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    REQUIRE(stream != NULL);
    config_print_each(config, stream);
    config_print_sum(config->error_count, config->warning_count, stream);
    REQUIRE(fclose(stream) == 0);
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        REQUIRE((byte >= 0x20 && byte != 0x7f) || byte == '\n');
    }
    free(text);
}

static void check_object(const struct config_object *object)
{
    struct config again;
    json_t *document = document_of(object->kind, object->object, false);
    REQUIRE(object_check(object->kind, object->object, no_fault, NULL) == 0);
    REQUIRE(document != NULL);
    char *text = yaml_emit(document);
    REQUIRE(text != NULL);
    REQUIRE(config_read("again", text, strlen(text), &again) == 0);
    REQUIRE(again.object_count == 1 && again.objects[0].kind == object->kind);
    REQUIRE(record_equal(kind_info(object->kind)->record, object->object,
                         again.objects[0].object));
    config_fini(&again);
    free(text);
    json_decref(document);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config;
    int r = config_read("fuzz.yaml", (const char *)data, size, &config);
    REQUIRE((r == 0) == (config.error_count == 0));
    REQUIRE(config.fault_count <= config.error_count + config.warning_count);
    for (unsigned i = 0; i < config.fault_count; i++) {
        check_fault(&config.faults[i], size);
    }
    check_printed(&config);
    for (unsigned i = 0; i < config.object_count && r == 0; i++) {
        check_object(&config.objects[i]);
    }
    config_fini(&config);
    return 0;
}
