#include "api/apply_memory.h"

#include "base/parse_number.h"

#include <stdio.h>
#include <string.h>

#define TEXT_SIZE 320

struct request {
    const struct state *state;
    const struct apply_item *items;
    uint32_t count;
    apply_memory_report *report;
    void *context;
};

static const void *item_find(const struct request *request,
                             enum kind kind,
                             const char *tenant,
                             const char *name)
{
    for (uint32_t i = 0; i < request->count; i++) {
        const struct apply_item *item = &request->items[i];
        if (item->kind == kind && item->object != NULL &&
            strcmp(object_meta(item->object)->name, name) == 0 &&
            strcmp(object_meta(item->object)->tenant, tenant) == 0) {
            return item->object;
        }
    }
    return NULL;
}

/* As it will be: of the request, else as it is. */
static const void *
find(const struct request *request, enum kind kind, const char *tenant, const char *name)
{
    const void *item = item_find(request, kind, tenant, name);
    return item != NULL ? item : state_get(request->state, kind, tenant, name);
}

static const struct image *
image_for(const struct request *request, const char *tenant, const char *name)
{
    const struct image *own = find(request, KIND_IMAGE, tenant, name);
    return own != NULL ? own : find(request, KIND_IMAGE, "", name);
}

/* Did the template get too little before? Then it is not this request's fault. */
static bool lacked_before(const struct request *request, const struct template *template)
{
    const struct image *before =
        state_image_for(request->state, template->meta.tenant, template->spec.image);
    return before != NULL && before->spec.memory_bytes > template->spec.memory.size_bytes;
}

static void check_template(const struct request *request, uint32_t index)
{
    const struct template *template = request->items[index].object;
    const struct image *image =
        image_for(request, template->meta.tenant, template->spec.image);
    const struct template *there = state_get(request->state, KIND_TEMPLATE,
                                             template->meta.tenant, template->meta.name);
    char message[IMAGE_LACKS_SIZE];
    char hint[IMAGE_HINT_SIZE];
    if (there != NULL && lacked_before(request, there) &&
        strcmp(there->spec.image, template->spec.image) == 0 &&
        there->spec.memory.size_bytes <= template->spec.memory.size_bytes) {
        return;
    }
    if (image != NULL && image_memory_lacks(image, &template->spec, message, hint)) {
        request->report(request->context, index, message, hint);
    }
}

/* The first template that is there and would lack memory; one is enough to refuse. */
static void check_image(const struct request *request, uint32_t index)
{
    const struct image *image = request->items[index].object;
    const struct template *template;
    size_t cursor = 0;
    while (image->spec.memory_bytes > 0 &&
           (template = state_next(request->state, KIND_TEMPLATE, &cursor)) != NULL) {
        const struct metadata *meta = &template->meta;
        char need[NUMBER_TEXT_SIZE];
        char has[NUMBER_TEXT_SIZE];
        char message[TEXT_SIZE];
        if (template->spec.memory.size_bytes >= image->spec.memory_bytes ||
            strcmp(template->spec.image, image->meta.name) != 0 ||
            image_for(request, meta->tenant, template->spec.image) != image ||
            item_find(request, KIND_TEMPLATE, meta->tenant, meta->name) != NULL ||
            lacked_before(request, template)) {
            continue;
        }
        format_bytes(image->spec.memory_bytes, need);
        format_bytes(template->spec.memory.size_bytes, has);
        (void)snprintf(message, sizeof(message),
                       "spec.minMemory: template %s of tenant %s boots this image with "
                       "%s, less than %s",
                       meta->name, meta->tenant, has, need);
        request->report(request->context, index, message,
                        "apply the template with more memory.size first, or together "
                        "with the image");
        return;
    }
}

void apply_memory_check(const struct state *state,
                        const struct apply_item *items,
                        uint32_t count,
                        apply_memory_report *report,
                        void *context)
{
    const struct request request = {state, items, count, report, context};
    for (uint32_t i = 0; i < count; i++) {
        if (items[i].object == NULL) {
            continue;
        }
        if (items[i].kind == KIND_TEMPLATE) {
            check_template(&request, i);
        } else if (items[i].kind == KIND_IMAGE) {
            check_image(&request, i);
        }
    }
}
