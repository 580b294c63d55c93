#include "vmm/virtio_pci.h"

#include "base/cleanup.h"
#include "vmm/planted_fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* 4.1.2: vendor, devices and revision of modern functions. */
#define VENDOR          0x1af4u
#define DEVICE_BASE     0x1040u
#define SUBSYSTEM_BASE  0x0040u
#define REVISION_MODERN 1u

/* 4.1.4: the structures, a page of the BAR each. */
#define PAGE              0x1000u
#define COMMON_AT         0x0000u
#define COMMON_BYTES      56u
#define ISR_AT            0x1000u
#define DEVICE_CONFIG_AT  0x2000u
#define NOTIFY_AT         0x3000u
#define NOTIFY_MULTIPLIER 4u
#define MSIX_TABLE_AT     0x4000u
#define MSIX_PENDING_AT   0x5000u

#define STATE_VERSION 2u /* 2: a NIC has several pairs of queues */

#define CAPABILITY_VENDOR 0x09u
enum { CFG_COMMON = 1, CFG_NOTIFY, CFG_ISR, CFG_DEVICE, CFG_PCI };
#define ISR_QUEUE  1u
#define ISR_CONFIG 2u

/* The PCI-CFG capability's body: offsets after its two-byte header (4.1.4.9). */
#define WINDOW_BAR_AT    2u
#define WINDOW_OFFSET_AT 6u
#define WINDOW_LENGTH_AT 10u
#define WINDOW_DATA_AT   14u
#define WINDOW_BYTES     18u

static struct virtio_pci *pci_of(struct device *device)
{
    return (struct virtio_pci *)device;
}

/* ---- interrupts ---- */

static void on_queue_line(void *context, unsigned queue)
{
    struct virtio_pci *pci = context;
    pci->isr |= ISR_QUEUE;
    msix_raise(&pci->msix, pci->queue_vectors[queue]);
}

static void rewire(struct virtio_pci *pci)
{
    if (pci->virtio->ops->rewire != NULL) {
        pci->virtio->ops->rewire(pci->virtio);
    }
}

static void on_vector_changed(void *context, unsigned vector)
{
    (void)vector;
    rewire(context);
}

static void on_config_line(void *context, unsigned number)
{
    struct virtio_pci *pci = context;
    (void)number;
    pci->isr |= ISR_CONFIG;
    msix_raise(&pci->msix, pci->config_vector);
}

static void registers_reset(struct virtio_pci *pci)
{
    pci->device_feature_select = 0;
    pci->driver_feature_select = 0;
    pci->queue_select = 0;
    pci->isr = 0;
    pci->config_vector = PCI_NO_VECTOR;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        pci->queue_vectors[i] = PCI_NO_VECTOR;
    }
}

static void on_stop_line(void *context, unsigned number)
{
    struct virtio_pci *pci = context;
    (void)number;
    device_stop_end(&pci->device);
}

static void on_reset_line(void *context, unsigned number)
{
    (void)number;
    registers_reset(context);
}

/* ---- the common configuration structure (4.1.4.3) ---- */

/* The selected queue, or NULL. */
static struct virtio_queue *selected(struct virtio_pci *pci)
{
    return pci->queue_select < pci->virtio->queue_count
               ? &pci->virtio->queues[pci->queue_select]
               : NULL;
}

/* The selected queue if the driver may set it up now, or NULL. */
static struct virtio_queue *open_queue(struct virtio_pci *pci)
{
    return virtio_device_queue_open(pci->virtio, pci->queue_select);
}

/* 4.1.5.1.2: a vector that does not exist reads back as none. */
static uint16_t vector_or_none(const struct virtio_pci *pci, uint64_t vector)
{
    return vector < pci->msix.vector_count ? (uint16_t)vector : PCI_NO_VECTOR;
}

static uint32_t feature_word(uint64_t features, uint32_t select)
{
    return select < 2 ? (uint32_t)(features >> (select * 32)) : 0;
}

static uint64_t get_device_feature_select(struct virtio_pci *pci)
{
    return pci->device_feature_select;
}

static void set_device_feature_select(struct virtio_pci *pci, uint64_t value)
{
    pci->device_feature_select = (uint32_t)value;
}

static uint64_t get_device_feature(struct virtio_pci *pci)
{
    return feature_word(pci->virtio->features_offered, pci->device_feature_select);
}

static uint64_t get_driver_feature_select(struct virtio_pci *pci)
{
    return pci->driver_feature_select;
}

static void set_driver_feature_select(struct virtio_pci *pci, uint64_t value)
{
    pci->driver_feature_select = (uint32_t)value;
}

static uint64_t get_driver_feature(struct virtio_pci *pci)
{
    return feature_word(pci->virtio->features, pci->driver_feature_select);
}

static void set_driver_feature(struct virtio_pci *pci, uint64_t value)
{
    virtio_device_write_features(pci->virtio, pci->driver_feature_select,
                                 (uint32_t)value);
}

static uint64_t get_config_vector(struct virtio_pci *pci)
{
    return pci->config_vector;
}

static void set_config_vector(struct virtio_pci *pci, uint64_t value)
{
    pci->config_vector = vector_or_none(pci, value);
}

static uint64_t get_queue_count(struct virtio_pci *pci)
{
    return pci->virtio->queue_count;
}

static uint64_t get_status(struct virtio_pci *pci)
{
    return pci->virtio->status;
}

static bool is_driven(const struct virtio_pci *pci)
{
    return (pci->virtio->status & VIRTIO_DRIVER_OK) != 0 && !pci->virtio->resetting;
}

static void set_status(struct virtio_pci *pci, uint64_t value)
{
    const bool was_driven = is_driven(pci);
    virtio_device_write_status(pci->virtio, (uint8_t)value);
    if (is_driven(pci) != was_driven) {
        device_line_raise(&pci->function.moved, 0);
    }
}

static uint64_t get_config_generation(struct virtio_pci *pci)
{
    return (uint8_t)pci->virtio->config_generation;
}

static uint64_t get_queue_select(struct virtio_pci *pci)
{
    return pci->queue_select;
}

static void set_queue_select(struct virtio_pci *pci, uint64_t value)
{
    pci->queue_select = (uint16_t)value;
}

static uint64_t get_queue_size(struct virtio_pci *pci)
{
    const struct virtio_queue *queue = selected(pci);
    return queue != NULL ? queue->size : 0; /* 0: there is no such queue */
}

/* A size that cannot be is dropped here already, not only when the queue is enabled. */
static void set_queue_size(struct virtio_pci *pci, uint64_t value)
{
    struct virtio_queue *queue = open_queue(pci);
    if (PLANTED(PLANTED_QUEUE_SIZE_OPEN) && selected(pci) != NULL) {
        selected(pci)->size = (uint16_t)value;
    }
    if (queue != NULL && value > 0 && value <= queue->size_max &&
        (value & (value - 1)) == 0) {
        queue->size = (uint16_t)value;
    }
}

static uint64_t get_queue_vector(struct virtio_pci *pci)
{
    return selected(pci) != NULL ? pci->queue_vectors[pci->queue_select] : PCI_NO_VECTOR;
}

static void set_queue_vector(struct virtio_pci *pci, uint64_t value)
{
    if (selected(pci) != NULL) {
        pci->queue_vectors[pci->queue_select] = vector_or_none(pci, value);
        rewire(pci);
    }
}

static uint64_t get_queue_enable(struct virtio_pci *pci)
{
    const struct virtio_queue *queue = selected(pci);
    return queue != NULL && queue->enabled;
}

static void set_queue_enable(struct virtio_pci *pci, uint64_t value)
{
    if (value == 1) { /* 4.1.4.3.2: nothing else means anything */
        virtio_device_queue_enable(pci->virtio, pci->queue_select);
    }
}

static uint64_t get_queue_notify_off(struct virtio_pci *pci)
{
    return selected(pci) != NULL ? pci->queue_select : 0;
}

static uint64_t get_queue_descriptors(struct virtio_pci *pci)
{
    const struct virtio_queue *queue = selected(pci);
    return queue != NULL ? queue->descriptors : 0;
}

static void set_queue_descriptors(struct virtio_pci *pci, uint64_t value)
{
    struct virtio_queue *queue = open_queue(pci);
    if (queue != NULL) {
        queue->descriptors = value;
    }
}

static uint64_t get_queue_driver(struct virtio_pci *pci)
{
    const struct virtio_queue *queue = selected(pci);
    return queue != NULL ? queue->available : 0;
}

static void set_queue_driver(struct virtio_pci *pci, uint64_t value)
{
    struct virtio_queue *queue = open_queue(pci);
    if (queue != NULL) {
        queue->available = value;
    }
}

static uint64_t get_queue_device(struct virtio_pci *pci)
{
    const struct virtio_queue *queue = selected(pci);
    return queue != NULL ? queue->used : 0;
}

static void set_queue_device(struct virtio_pci *pci, uint64_t value)
{
    struct virtio_queue *queue = open_queue(pci);
    if (queue != NULL) {
        queue->used = value;
    }
}

struct common_field {
    uint8_t offset;
    uint8_t size;
    uint64_t (*get)(struct virtio_pci *pci);
    void (*set)(struct virtio_pci *pci, uint64_t value); /* NULL: read only */
};

static const struct common_field common_fields[] = {
    {0, 4, get_device_feature_select, set_device_feature_select},
    {4, 4, get_device_feature, NULL},
    {8, 4, get_driver_feature_select, set_driver_feature_select},
    {12, 4, get_driver_feature, set_driver_feature},
    {16, 2, get_config_vector, set_config_vector},
    {18, 2, get_queue_count, NULL},
    {20, 1, get_status, set_status},
    {21, 1, get_config_generation, NULL},
    {22, 2, get_queue_select, set_queue_select},
    {24, 2, get_queue_size, set_queue_size},
    {26, 2, get_queue_vector, set_queue_vector},
    {28, 2, get_queue_enable, set_queue_enable},
    {30, 2, get_queue_notify_off, NULL},
    {32, 8, get_queue_descriptors, set_queue_descriptors},
    {40, 8, get_queue_driver, set_queue_driver},
    {48, 8, get_queue_device, set_queue_device},
};

/* The field that an access of this size at this offset means (4.1.3.1: the natural width,
 * or one half of 64 bits), or NULL. */
static const struct common_field *common_field_at(uint64_t offset, unsigned size)
{
    for (size_t i = 0; i < ARRAY_COUNT(common_fields); i++) {
        const struct common_field *field = &common_fields[i];
        if (offset == field->offset && size == field->size) {
            return field;
        }
        if (field->size == 8 && size == 4 &&
            (offset == field->offset || offset == field->offset + 4u)) {
            return field;
        }
    }
    return NULL;
}

static void
common_read(struct virtio_pci *pci, uint64_t offset, void *ret_data, unsigned size)
{
    const struct common_field *field = common_field_at(offset, size);
    if (field != NULL) {
        const uint64_t value = field->get(pci) >> (8 * (offset - field->offset));
        memcpy(ret_data, &value, size);
    }
}

static void
common_write(struct virtio_pci *pci, uint64_t offset, const void *data, unsigned size)
{
    const struct common_field *field = common_field_at(offset, size);
    if (field != NULL && field->set != NULL) {
        uint64_t value = size < field->size ? field->get(pci) : 0;
        memcpy((uint8_t *)&value + (offset - field->offset), data, size);
        field->set(pci, value);
    }
}

/* ---- the other structures ---- */

static void
isr_read(struct virtio_pci *pci, uint64_t offset, void *ret_data, unsigned size)
{
    memset(ret_data, 0, size);
    if (offset == 0) { /* 4.1.4.5: reading acknowledges */
        memcpy(ret_data, &pci->isr, 1);
        pci->isr = 0;
    }
}

static void
config_read(struct virtio_pci *pci, uint64_t offset, void *ret_data, unsigned size)
{
    memset(ret_data, 0, size);
    if (pci->virtio->ops->config_read != NULL) {
        pci->virtio->ops->config_read(pci->virtio, offset, ret_data, size);
    }
}

static void
config_write(struct virtio_pci *pci, uint64_t offset, const void *data, unsigned size)
{
    if (pci->virtio->ops->config_write != NULL) {
        pci->virtio->ops->config_write(pci->virtio, offset, data, size);
    }
}

static void
notify_write(struct virtio_pci *pci, uint64_t offset, const void *data, unsigned size)
{
    (void)data;
    (void)size;
    virtio_device_notify(pci->virtio, (unsigned)(offset / NOTIFY_MULTIPLIER));
}

static void
table_read(struct virtio_pci *pci, uint64_t offset, void *ret_data, unsigned size)
{
    msix_table_read(&pci->msix, offset, ret_data, size);
}

static void
table_write(struct virtio_pci *pci, uint64_t offset, const void *data, unsigned size)
{
    msix_table_write(&pci->msix, offset, data, size);
}

static void
pending_read(struct virtio_pci *pci, uint64_t offset, void *ret_data, unsigned size)
{
    msix_pending_read(&pci->msix, offset, ret_data, size);
}

/* By page of the BAR. */
static const struct bar_page {
    void (*read)(struct virtio_pci *pci, uint64_t offset, void *ret_data, unsigned size);
    void (*write)(struct virtio_pci *pci,
                  uint64_t offset,
                  const void *data,
                  unsigned size);
} bar_pages[VIRTIO_PCI_BAR_BYTES / PAGE] = {
    [COMMON_AT / PAGE] = {common_read, common_write},
    [ISR_AT / PAGE] = {isr_read, NULL},
    [DEVICE_CONFIG_AT / PAGE] = {config_read, config_write},
    [NOTIFY_AT / PAGE] = {NULL, notify_write},
    [MSIX_TABLE_AT / PAGE] = {table_read, table_write},
    [MSIX_PENDING_AT / PAGE] = {pending_read, NULL},
};

/* The page of an access that stays inside it, or NULL. */
static const struct bar_page *bar_page_at(uint64_t offset, unsigned size)
{
    return offset < VIRTIO_PCI_BAR_BYTES && offset % PAGE + size <= PAGE
               ? &bar_pages[offset / PAGE]
               : NULL;
}

static void
bar_read(struct virtio_pci *pci, uint64_t offset, void *ret_data, unsigned size)
{
    const struct bar_page *page = bar_page_at(offset, size);
    memset(ret_data, 0, size);
    if (page != NULL && page->read != NULL) {
        page->read(pci, offset % PAGE, ret_data, size);
    }
}

static void
bar_write(struct virtio_pci *pci, uint64_t offset, const void *data, unsigned size)
{
    const struct bar_page *page = bar_page_at(offset, size);
    if (page != NULL && page->write != NULL) {
        page->write(pci, offset % PAGE, data, size);
    }
}

/* ---- configuration space ---- */

/* What the PCI-CFG window points at: the size of the access, 0 when it is not one. */
static unsigned window_target(const struct virtio_pci *pci, uint32_t *ret_offset)
{
    uint8_t body[WINDOW_BYTES];
    uint32_t length;
    for (unsigned i = 0; i < sizeof(body); i++) {
        pci_function_read(&pci->function, pci->window_at + i, &body[i], 1);
    }
    memcpy(ret_offset, body + WINDOW_OFFSET_AT, sizeof(*ret_offset));
    memcpy(&length, body + WINDOW_LENGTH_AT, sizeof(length));
    if (body[WINDOW_BAR_AT] != VIRTIO_PCI_BAR_INDEX ||
        (length != 1 && length != 2 && length != 4) || *ret_offset % length != 0) {
        return 0;
    }
    return length;
}

static bool touches_window(const struct virtio_pci *pci, uint64_t offset, unsigned size)
{
    const uint64_t data_at = (uint64_t)pci->window_at + WINDOW_DATA_AT;
    return offset < data_at + 4 && offset + size > data_at;
}

static void
space_read(struct virtio_pci *pci, uint64_t offset, void *ret_data, unsigned size)
{
    uint32_t target;
    uint8_t data[4] = {0};
    const unsigned length =
        touches_window(pci, offset, size) ? window_target(pci, &target) : 0;
    if (length > 0) { /* the window's data is whatever the BAR reads now */
        bar_read(pci, target, data, length);
        pci_function_write(&pci->function, (uint64_t)pci->window_at + WINDOW_DATA_AT,
                           data, sizeof(data));
    }
    pci_function_read(&pci->function, offset, ret_data, size);
}

static void
space_write(struct virtio_pci *pci, uint64_t offset, const void *data, unsigned size)
{
    uint32_t target;
    uint8_t window[4];
    pci_function_write(&pci->function, offset, data, size);
    msix_control_written(&pci->msix);
    const unsigned length =
        touches_window(pci, offset, size) ? window_target(pci, &target) : 0;
    if (length > 0) {
        pci_function_read(&pci->function, (uint64_t)pci->window_at + WINDOW_DATA_AT,
                          window, sizeof(window));
        bar_write(pci, target, window, length);
    }
}

/* 4.1.4: one vendor capability per structure. Returns the offset of its body. */
static uint8_t add_structure(struct virtio_pci *pci,
                             uint8_t type,
                             uint32_t at,
                             uint32_t length,
                             const uint32_t *extra,
                             const uint8_t *writable)
{
    uint8_t body[WINDOW_BYTES] = {0};
    const unsigned size = extra != NULL ? WINDOW_BYTES : WINDOW_DATA_AT;
    body[0] = (uint8_t)(size + 2); /* cap_len counts its header */
    body[1] = type;
    body[WINDOW_BAR_AT] = VIRTIO_PCI_BAR_INDEX;
    memcpy(body + WINDOW_OFFSET_AT, &at, sizeof(at));
    memcpy(body + WINDOW_LENGTH_AT, &length, sizeof(length));
    if (extra != NULL) {
        memcpy(body + WINDOW_DATA_AT, extra, sizeof(*extra));
    }
    return (uint8_t)(2 + pci_function_add_capability(&pci->function, CAPABILITY_VENDOR,
                                                     body, writable, size));
}

static void function_setup(struct virtio_pci *pci)
{
    static const uint8_t window_writable[WINDOW_BYTES] = {
        [WINDOW_BAR_AT] = 0xff,        [WINDOW_OFFSET_AT] = 0xff,
        [WINDOW_OFFSET_AT + 1] = 0xff, [WINDOW_OFFSET_AT + 2] = 0xff,
        [WINDOW_OFFSET_AT + 3] = 0xff, [WINDOW_LENGTH_AT] = 0xff,
        [WINDOW_LENGTH_AT + 1] = 0xff, [WINDOW_LENGTH_AT + 2] = 0xff,
        [WINDOW_LENGTH_AT + 3] = 0xff, [WINDOW_DATA_AT] = 0xff,
        [WINDOW_DATA_AT + 1] = 0xff,   [WINDOW_DATA_AT + 2] = 0xff,
        [WINDOW_DATA_AT + 3] = 0xff};
    const struct virtio_device *virtio = pci->virtio;
    const uint32_t multiplier = NOTIFY_MULTIPLIER;
    const uint32_t no_data = 0;
    pci_function_init(&pci->function,
                      &(struct pci_identity){
                          .vendor = VENDOR,
                          .device = (uint16_t)(DEVICE_BASE + virtio->ops->type),
                          .subsystem_vendor = VENDOR,
                          .subsystem = (uint16_t)(SUBSYSTEM_BASE + virtio->ops->type),
                          .class_code = virtio->ops->pci_class,
                          .revision = REVISION_MODERN});
    pci_function_add_bar(&pci->function, VIRTIO_PCI_BAR_INDEX, VIRTIO_PCI_BAR_BYTES);
    (void)add_structure(pci, CFG_COMMON, COMMON_AT, COMMON_BYTES, NULL, NULL);
    (void)add_structure(pci, CFG_ISR, ISR_AT, 1, NULL, NULL);
    (void)add_structure(pci, CFG_DEVICE, DEVICE_CONFIG_AT, PAGE, NULL, NULL);
    (void)add_structure(pci, CFG_NOTIFY, NOTIFY_AT,
                        NOTIFY_MULTIPLIER * virtio->queue_count, &multiplier, NULL);
    pci->window_at = add_structure(pci, CFG_PCI, 0, 0, &no_data, window_writable);
    msix_init(&pci->msix, &pci->function, virtio->queue_count + 1, VIRTIO_PCI_BAR_INDEX,
              MSIX_TABLE_AT, MSIX_PENDING_AT);
}

/* ---- the verbs ---- */

static int pci_init(struct device *device, struct err *err)
{
    return virtio_device_init(pci_of(device)->virtio, err);
}

static void pci_reset(struct device *device)
{
    struct virtio_pci *pci = pci_of(device);
    virtio_device_reset(pci->virtio);
    pci_function_reset(&pci->function);
    msix_reset(&pci->msix);
}

static void pci_start(struct device *device)
{
    virtio_device_start(pci_of(device)->virtio);
}

static void pci_stop(struct device *device)
{
    virtio_device_stop(pci_of(device)->virtio);
}

static bool pci_stop_begin(struct device *device)
{
    return virtio_device_stop_begin(pci_of(device)->virtio);
}

static int pci_may_save(struct device *device, struct err *err)
{
    return virtio_device_may_save(pci_of(device)->virtio, err);
}

static int pci_sync(struct device *device, struct err *err)
{
    return virtio_device_sync(pci_of(device)->virtio, err);
}

static void pci_save(struct device *device, struct bytes_writer *writer)
{
    const struct virtio_pci *pci = pci_of(device);
    bytes_write_text(writer, pci->virtio->ops->kind);
    bytes_write_u32(writer, pci->device_feature_select);
    bytes_write_u32(writer, pci->driver_feature_select);
    bytes_write_u16(writer, pci->queue_select);
    bytes_write_u16(writer, pci->config_vector);
    for (unsigned i = 0; i < pci->virtio->queue_count; i++) {
        bytes_write_u16(writer, pci->queue_vectors[i]);
    }
    bytes_write_u8(writer, pci->isr);
    pci_function_save(&pci->function, writer);
    msix_save(&pci->msix, writer);
    virtio_device_save(pci->virtio, writer);
}

static int registers_restore(struct virtio_pci *pci, struct bytes_reader *reader)
{
    pci->device_feature_select = bytes_read_u32(reader);
    pci->driver_feature_select = bytes_read_u32(reader);
    pci->queue_select = bytes_read_u16(reader);
    pci->config_vector = vector_or_none(pci, bytes_read_u16(reader));
    for (unsigned i = 0; i < pci->virtio->queue_count; i++) {
        pci->queue_vectors[i] = vector_or_none(pci, bytes_read_u16(reader));
    }
    pci->isr = bytes_read_u8(reader) & (ISR_QUEUE | ISR_CONFIG);
    return reader->error != 0 ? BERTH_ECORRUPT : 0;
}

static int pci_restore(struct device *device,
                       uint16_t version,
                       struct bytes_reader *reader,
                       struct err *err)
{
    struct virtio_pci *pci = pci_of(device);
    char kind[DEVICE_NAME_SIZE];
    bytes_read_text(reader, kind, sizeof(kind));
    if (reader->error != 0 || strcmp(kind, pci->virtio->ops->kind) != 0) {
        return err_set(err, BERTH_EINVALID, "it is not a %s", pci->virtio->ops->kind);
    }
    if (registers_restore(pci, reader) < 0) {
        return err_set(err, BERTH_ECORRUPT, "the registers make no sense");
    }
    if (pci_function_restore(&pci->function, reader) < 0) {
        return err_set(err, BERTH_ECORRUPT,
                       "the configuration space is another device's");
    }
    if (msix_restore(&pci->msix, reader) < 0) {
        return err_set(err, BERTH_ECORRUPT, "the interrupt vectors make no sense");
    }
    int r = virtio_device_restore(pci->virtio, version, reader, err);
    if (r == 0 && is_driven(pci)) {
        device_line_raise(&pci->function.moved, 0);
    }
    return r;
}

static void pci_free(struct device *device)
{
    struct virtio_pci *pci = pci_of(device);
    virtio_device_free(pci->virtio);
    free(pci);
}

static void pci_read(struct device *device,
                     unsigned region,
                     uint64_t offset,
                     void *ret_data,
                     unsigned size)
{
    if (region == VIRTIO_PCI_CONFIG) {
        space_read(pci_of(device), offset, ret_data, size);
    } else {
        bar_read(pci_of(device), offset, ret_data, size);
    }
}

static void pci_write(struct device *device,
                      unsigned region,
                      uint64_t offset,
                      const void *data,
                      unsigned size)
{
    if (region == VIRTIO_PCI_CONFIG) {
        space_write(pci_of(device), offset, data, size);
    } else {
        bar_write(pci_of(device), offset, data, size);
    }
}

static const struct device_ops virtio_pci_ops = {
    .kind = "virtio-pci",
    .state_version = STATE_VERSION,
    .init = pci_init,
    .reset = pci_reset,
    .start = pci_start,
    .stop = pci_stop,
    .stop_begin = pci_stop_begin,
    .may_save = pci_may_save,
    .sync = pci_sync,
    .save = pci_save,
    .restore = pci_restore,
    .free = pci_free,
    .read = pci_read,
    .write = pci_write,
};

int virtio_pci_new(struct virtio_device *take_virtio,
                   const char *name,
                   struct virtio_pci **ret_pci)
{
    struct virtio_pci *pci = calloc(1, sizeof(*pci));
    if (pci == NULL) {
        return -ENOMEM;
    }
    device_setup(&pci->device, &virtio_pci_ops, name);
    pci->virtio = take_virtio;
    pci->virtio->name = pci->device.name;
    pci->virtio->lock = &pci->device.lock;
    pci->virtio->queue_line = (struct device_line){on_queue_line, pci};
    pci->virtio->config_line = (struct device_line){on_config_line, pci};
    pci->virtio->reset_line = (struct device_line){on_reset_line, pci};
    pci->virtio->stop_line = (struct device_line){on_stop_line, pci};
    registers_reset(pci);
    function_setup(pci);
    pci->msix.changed = (struct device_line){on_vector_changed, pci};
    *ret_pci = pci;
    return 0;
}

bool virtio_pci_doorbell(const struct virtio_pci *pci,
                         unsigned queue,
                         uint64_t *ret_address)
{
    uint64_t bar;
    if (queue >= pci->virtio->queue_count || !is_driven(pci) ||
        !pci_function_bar(&pci->function, VIRTIO_PCI_BAR_INDEX, &bar)) {
        return false;
    }
    *ret_address = bar + NOTIFY_AT + (uint64_t)NOTIFY_MULTIPLIER * queue;
    return true;
}

bool virtio_pci_message(const struct virtio_pci *pci,
                        unsigned queue,
                        unsigned *ret_vector,
                        struct msix_message *ret_message)
{
    *ret_vector =
        queue < pci->virtio->queue_count ? pci->queue_vectors[queue] : PCI_NO_VECTOR;
    return msix_message(&pci->msix, *ret_vector, ret_message);
}

void virtio_pci_notify(struct virtio_pci *pci, unsigned queue)
{
    virtio_device_enter(pci->virtio);
    virtio_device_notify(pci->virtio, queue);
    virtio_device_leave(pci->virtio);
}
