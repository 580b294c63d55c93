/* Goal: every device is driven by the same table under its lock, and takes back only what
 * its own kind has written. */
#include "base/bytes.h"
#include "base/err.h"
#include "support/test_main.h"
#include "vmm/device.h"

#include <check.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct lamp {
    struct device device;
    uint32_t brightness;
    bool running;
    bool locked_always; /* every verb has found the lock taken */
};

static void look_at_lock(struct lamp *lamp)
{
    if (pthread_mutex_trylock(&lamp->device.lock) != EBUSY) {
        lamp->locked_always = false;
    }
}

static void lamp_reset(struct device *device)
{
    struct lamp *lamp = (struct lamp *)device;
    look_at_lock(lamp);
    lamp->brightness = 0;
}

static void lamp_start(struct device *device)
{
    struct lamp *lamp = (struct lamp *)device;
    look_at_lock(lamp);
    lamp->running = true;
}

static void lamp_stop(struct device *device)
{
    struct lamp *lamp = (struct lamp *)device;
    look_at_lock(lamp);
    lamp->running = false;
}

static int lamp_sync(struct device *device, struct err *err)
{
    ck_assert_int_eq(pthread_mutex_trylock(&device->lock), 0); /* nobody waits for it */
    ck_assert_int_eq(pthread_mutex_unlock(&device->lock), 0);
    return ((struct lamp *)device)->brightness > 100 ? err_set(err, -EIO, "too bright")
                                                     : 0;
}

static void lamp_save(struct device *device, struct bytes_writer *writer)
{
    look_at_lock((struct lamp *)device);
    bytes_write_u32(writer, ((struct lamp *)device)->brightness);
}

static int lamp_restore(struct device *device,
                        uint16_t version,
                        struct bytes_reader *reader,
                        struct err *err)
{
    look_at_lock((struct lamp *)device);
    const uint32_t brightness = bytes_read_u32(reader);
    if (brightness > 100) {
        return err_set(err, BERTH_ECORRUPT, "brightness %u, version %u", brightness,
                       version);
    }
    ((struct lamp *)device)->brightness = brightness;
    return 0;
}

static void lamp_free(struct device *device)
{
    free(device);
}

static void lamp_read(struct device *device,
                      unsigned region,
                      uint64_t offset,
                      void *ret_data,
                      unsigned size)
{
    struct lamp *lamp = (struct lamp *)device;
    look_at_lock(lamp);
    if (region == 1 && offset == 4 && size == 4) {
        memcpy(ret_data, &lamp->brightness, size);
    }
}

static void lamp_write(struct device *device,
                       unsigned region,
                       uint64_t offset,
                       const void *data,
                       unsigned size)
{
    struct lamp *lamp = (struct lamp *)device;
    look_at_lock(lamp);
    if (region == 1 && offset == 4 && size == 4) {
        memcpy(&lamp->brightness, data, size);
    }
}

static const struct device_ops lamp_ops = {
    .kind = "lamp",
    .state_version = 3,
    .reset = lamp_reset,
    .start = lamp_start,
    .stop = lamp_stop,
    .sync = lamp_sync,
    .save = lamp_save,
    .restore = lamp_restore,
    .free = lamp_free,
    .read = lamp_read,
    .write = lamp_write,
};

static struct lamp *lamp_new(const char *name)
{
    struct lamp *lamp = calloc(1, sizeof(*lamp));
    ck_assert_ptr_nonnull(lamp);
    device_setup(&lamp->device, &lamp_ops, name);
    lamp->locked_always = true;
    return lamp;
}

START_TEST(verbs_but_sync_run_under_the_lock)
{
    struct lamp *lamp = lamp_new("lamp0");
    uint32_t value = 42;
    uint32_t seen = 0;

    ck_assert_int_eq(device_init(&lamp->device, NULL), 0);
    device_start(&lamp->device);
    ck_assert(lamp->running);
    device_write(&lamp->device, 1, 4, &value, 4);
    device_read(&lamp->device, 1, 4, &seen, 4);
    device_stop(&lamp->device);

    ck_assert(!lamp->running);
    ck_assert_uint_eq(seen, 42);
    ck_assert_int_eq(device_sync(&lamp->device, NULL), 0);
    ck_assert(lamp->locked_always);
    device_reset(&lamp->device);
    ck_assert_uint_eq(lamp->brightness, 0);
    device_free(&lamp->device);
}
END_TEST

START_TEST(a_verb_that_fails_names_the_device)
{
    struct lamp *lamp = lamp_new("lamp0");
    struct err err = {0};
    lamp->brightness = 101;

    ck_assert_int_eq(device_sync(&lamp->device, &err), -EIO);

    ck_assert_str_eq(err.text, "lamp lamp0: too bright");
    device_free(&lamp->device);
}
END_TEST

START_TEST(accesses_that_no_bus_makes_read_ones)
{
    struct lamp *lamp = lamp_new("lamp0");
    uint8_t data[16];
    uint8_t ones[16];
    memset(ones, 0xff, sizeof(ones));

    memset(data, 0, sizeof(data));
    device_read(&lamp->device, 1, 4, data, 16);
    ck_assert_mem_eq(data, ones, 16);
    device_read(&lamp->device, 1, UINT64_MAX - 3, data, 8);
    ck_assert_mem_eq(data, ones, 8);
    device_write(&lamp->device, 1, UINT64_MAX - 3, data, 8);
    device_read(&lamp->device, 0, 4, data, 4);
    ck_assert_mem_eq(data, ones, 4);

    ck_assert_uint_eq(lamp->brightness, 0);
    device_free(&lamp->device);
}
END_TEST

static int take(struct lamp *lamp, const struct bytes_writer *writer, size_t size)
{
    struct bytes_reader reader;
    struct err err = {0};
    bytes_reader_init(&reader, writer->data, size);
    return device_restore(&lamp->device, &reader, &err);
}

START_TEST(state_goes_to_the_same_kind_and_name_only)
{
    struct lamp *from = lamp_new("lamp0");
    struct lamp *to = lamp_new("lamp0");
    struct lamp *other = lamp_new("lamp1");
    struct bytes_writer writer;
    bytes_writer_init(&writer, 1024);
    from->brightness = 77;

    device_save(&from->device, &writer);

    ck_assert_int_eq(writer.error, 0);
    ck_assert_int_eq(take(to, &writer, writer.size), 0);
    ck_assert_uint_eq(to->brightness, 77);
    ck_assert_int_eq(take(other, &writer, writer.size), BERTH_EINVALID);
    ck_assert_uint_eq(other->brightness, 0);
    for (size_t size = 0; size < writer.size; size++) {
        ck_assert_int_eq(take(to, &writer, size), BERTH_ECORRUPT);
    }
    bytes_write_u8(&writer, 0);
    ck_assert_int_eq(take(to, &writer, writer.size), BERTH_ECORRUPT);
    bytes_writer_fini(&writer);
    device_free(&from->device);
    device_free(&to->device);
    device_free(&other->device);
}
END_TEST

START_TEST(the_last_two_versions_are_taken)
{
    static const int results[] = {BERTH_EUNSUPPORTED, BERTH_EUNSUPPORTED, 0, 0,
                                  BERTH_EUNSUPPORTED};
    struct lamp *lamp = lamp_new("lamp0");
    for (uint16_t version = 0; version < 5; version++) {
        struct bytes_writer writer;
        bytes_writer_init(&writer, 1024);
        bytes_write_text(&writer, "lamp");
        bytes_write_text(&writer, "lamp0");
        bytes_write_u16(&writer, version);
        bytes_write_u32(&writer, version);

        ck_assert_int_eq(take(lamp, &writer, writer.size), results[version]);

        bytes_writer_fini(&writer);
    }
    device_free(&lamp->device);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device");
    TCase *tests = tcase_create("device");
    tcase_add_test(tests, verbs_but_sync_run_under_the_lock);
    tcase_add_test(tests, a_verb_that_fails_names_the_device);
    tcase_add_test(tests, accesses_that_no_bus_makes_read_ones);
    tcase_add_test(tests, state_goes_to_the_same_kind_and_name_only);
    tcase_add_test(tests, the_last_two_versions_are_taken);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
