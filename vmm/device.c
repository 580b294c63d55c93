#include "vmm/device.h"

#include "base/require.h"

#include <stdio.h>
#include <string.h>

#define KIND_SIZE 32u

void device_setup(struct device *device, const struct device_ops *ops, const char *name)
{
    REQUIRE(ops->kind != NULL && strlen(ops->kind) < KIND_SIZE && ops->state_version > 0);
    device->ops = ops;
    (void)snprintf(device->name, sizeof(device->name), "%s", name);
    pthread_mutex_init(&device->lock, NULL); /* cannot fail without attributes */
}

/* Of a verb that can fail. */
static int wrapped(const struct device *device, int code, struct err *err)
{
    return code < 0 ? err_wrap(err, code, "%s %s", device->ops->kind, device->name)
                    : code;
}

/* NULL: the device has none. */
static int verb_try(struct device *device,
                    int (*call)(struct device *device, struct err *err),
                    struct err *err)
{
    pthread_mutex_lock(&device->lock);
    const int r = call != NULL ? call(device, err) : 0;
    pthread_mutex_unlock(&device->lock);
    return wrapped(device, r, err);
}

int device_init(struct device *device, struct err *err)
{
    return verb_try(device, device->ops->init, err);
}

int device_may_save(struct device *device, struct err *err)
{
    return verb_try(device, device->ops->may_save, err);
}

int device_sync(struct device *device, struct err *err)
{
    const int r = device->ops->sync != NULL ? device->ops->sync(device, err) : 0;
    return wrapped(device, r, err);
}

/* Runs a verb that can neither fail nor be given anything. */
static void verb(struct device *device, void (*call)(struct device *device))
{
    if (call != NULL) {
        pthread_mutex_lock(&device->lock);
        call(device);
        pthread_mutex_unlock(&device->lock);
    }
}

void device_reset(struct device *device)
{
    verb(device, device->ops->reset);
}

void device_start(struct device *device)
{
    if (device->is_leaving) {
        return;
    }
    pthread_mutex_lock(&device->lock);
    device->stops = false;
    if (device->ops->start != NULL) {
        device->ops->start(device);
    }
    pthread_mutex_unlock(&device->lock);
}

void device_stop(struct device *device)
{
    pthread_mutex_lock(&device->lock);
    if (device->ops->stop != NULL) {
        device->ops->stop(device);
    }
    device->stops = false;
    pthread_mutex_unlock(&device->lock);
}

bool device_stop_begin(struct device *device)
{
    if (device->ops->stop_begin == NULL) {
        device_stop(device);
        return false;
    }
    pthread_mutex_lock(&device->lock);
    const bool stops = device->ops->stop_begin(device);
    device->stops = stops;
    pthread_mutex_unlock(&device->lock);
    return stops;
}

bool device_stops(struct device *device)
{
    pthread_mutex_lock(&device->lock);
    const bool stops = device->stops;
    pthread_mutex_unlock(&device->lock);
    return stops;
}

void device_stop_end(struct device *device)
{
    if (device->stops) {
        device->stops = false;
        device_line_raise(&device->stopped, 0);
    }
}

void device_save(struct device *device, struct bytes_writer *writer)
{
    bytes_write_text(writer, device->ops->kind);
    bytes_write_text(writer, device->name);
    bytes_write_u16(writer, device->ops->state_version);
    if (device->ops->save != NULL) {
        pthread_mutex_lock(&device->lock);
        device->ops->save(device, writer);
        pthread_mutex_unlock(&device->lock);
    }
}

/* Reads the version after checking whose state follows. */
static int section_head(const struct device *device,
                        struct bytes_reader *reader,
                        uint16_t *ret_version,
                        struct err *err)
{
    char kind[KIND_SIZE];
    char name[DEVICE_NAME_SIZE];
    bytes_read_text(reader, kind, sizeof(kind));
    bytes_read_text(reader, name, sizeof(name));
    const uint16_t version = bytes_read_u16(reader);
    if (reader->error != 0) {
        return err_set(err, BERTH_ECORRUPT, "the state of %s is cut short", device->name);
    }
    if (strcmp(kind, device->ops->kind) != 0 || strcmp(name, device->name) != 0) {
        return err_set(err, BERTH_EINVALID, "%s %s cannot take the state of another",
                       device->ops->kind, device->name);
    }
    if (version == 0 || version > device->ops->state_version ||
        version + 1u < device->ops->state_version) {
        return err_set(err, BERTH_EUNSUPPORTED, "%s %s: state version %u, known is %u",
                       kind, name, version, device->ops->state_version);
    }
    *ret_version = version;
    return 0;
}

int device_restore(struct device *device, struct bytes_reader *reader, struct err *err)
{
    uint16_t version = 0;
    int r = section_head(device, reader, &version, err);
    if (r < 0) {
        return r;
    }
    if (device->ops->restore != NULL) {
        pthread_mutex_lock(&device->lock);
        r = device->ops->restore(device, version, reader, err);
        pthread_mutex_unlock(&device->lock);
    }
    if (r == 0 && bytes_reader_end(reader) != 0) {
        r = err_set(err, BERTH_ECORRUPT, "the state is cut short or too long");
    }
    return r < 0 ? err_wrap(err, r, "%s %s", device->ops->kind, device->name) : 0;
}

void device_free(struct device *device)
{
    if (device == NULL) {
        return;
    }
    device_stop(device);
    pthread_mutex_destroy(&device->lock);
    device->ops->free(device);
}

void device_read(struct device *device,
                 unsigned region,
                 uint64_t offset,
                 void *ret_data,
                 unsigned size)
{
    memset(ret_data, 0xff, size); /* what a bus reads where nobody answers */
    if (device->ops->read == NULL || size == 0 || size > DEVICE_ACCESS_MAX ||
        offset > UINT64_MAX - size) {
        return;
    }
    pthread_mutex_lock(&device->lock);
    device->ops->read(device, region, offset, ret_data, size);
    pthread_mutex_unlock(&device->lock);
}

void device_write(struct device *device,
                  unsigned region,
                  uint64_t offset,
                  const void *data,
                  unsigned size)
{
    if (device->ops->write == NULL || size == 0 || size > DEVICE_ACCESS_MAX ||
        offset > UINT64_MAX - size) {
        return;
    }
    pthread_mutex_lock(&device->lock);
    device->ops->write(device, region, offset, data, size);
    pthread_mutex_unlock(&device->lock);
}
