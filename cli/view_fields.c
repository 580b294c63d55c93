#include "cli/view_fields.h"

#include "base/parse_number.h"

const json_t *view_meta(const json_t *object)
{
    return json_object_get(object, "metadata");
}

const json_t *view_spec(const json_t *object)
{
    return json_object_get(object, "spec");
}

const json_t *view_status(const json_t *object)
{
    return json_object_get(object, "status");
}

const char *view_name(const json_t *object)
{
    return json_member_text(view_meta(object), "name", "");
}

const char *view_tenant(const json_t *object)
{
    return json_member_text(view_meta(object), "tenant", "");
}

const char *view_phase(const json_t *object, enum kind kind)
{
    const char *first = kind == KIND_VM         ? phase_names[0]
                        : kind == KIND_HOST     ? host_phase_names[0]
                        : kind == KIND_SNAPSHOT ? snapshot_phase_names[0]
                                                : operation_phase_names[0];
    return json_member_text(view_status(object), "phase", first);
}

const char *view_vm_address(const json_t *vm)
{
    const json_t *nics = json_object_get(view_status(vm), "nics");
    return json_member_text(json_array_get(nics, 0), "address", "");
}

uint64_t view_bytes(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    uint64_t bytes = 0;
    if (json_is_integer(value)) {
        return (uint64_t)json_integer_value(value);
    }
    if (json_is_string(value) &&
        parse_bytes(json_string_value(value), &bytes, NULL) < 0) {
        return 0;
    }
    return bytes;
}
