/* Goal: limits are said in QMP's words, whole, and to the device that is meant. Method: a
 * scripted peer at a control socket hears what is said. */
#include "agent/qmp_limits.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct temp_dir dir;
static uv_loop_t loop;
static struct loop_timer *tick;
static struct qmp_client *client;
static FILE *peer;
static bool ready;

static void on_tick(void *context)
{
    (void)context;
}

static void on_ready(void *context)
{
    (void)context;
    ready = true;
}

static void on_event(void *context, const char *name, const json_t *data)
{
    (void)context;
    (void)name;
    (void)data;
}

static void on_closed(void *context, const struct err *reason)
{
    (void)context;
    ck_abort_msg("%s", reason->text);
}

static void
on_reply(void *context, int code, const json_t *result, const struct err *error)
{
    (void)context;
    (void)code;
    (void)result;
    (void)error;
}

static void say(const char *text)
{
    ck_assert_int_eq(fd_write_full(fileno(peer), text, strlen(text)), 0);
}

/* The next command. */
static json_t *heard(void)
{
    struct pollfd poll_fd = {.fd = fileno(peer), .events = POLLIN};
    char *line = NULL;
    size_t size = 0;
    json_t *message = NULL;
    while (poll(&poll_fd, 1, 0) == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    ssize_t length = getline(&line, &size, peer);
    ck_assert_int_gt((int)length, 0);
    ck_assert_int_eq(json_parse(line, (size_t)length, &message, NULL), 0);
    free(line);
    return message;
}

static void setup(void)
{
    static const struct qmp_handlers handlers = {
        .ready = on_ready, .event = on_event, .closed = on_closed};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct err err = {0};
    char text[64];
    (void)signal(SIGPIPE, SIG_IGN);
    temp_dir_init(&dir);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    tick = loop_timer_new(&loop, 5, 5, on_tick, NULL);
    char *path = temp_dir_path(&dir, "qmp.sock");
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)(void *)&address, sizeof(address)),
                     0);
    ck_assert_int_eq(listen(listener, 1), 0);
    client = qmp_client_open(&loop, path, 20000, &handlers, NULL, &err);
    ck_assert_msg(client != NULL, "%s", err.text);
    free(path);
    struct pollfd poll_fd = {.fd = listener, .events = POLLIN};
    while (poll(&poll_fd, 1, 0) == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    peer = fdopen(accept(listener, NULL, NULL), "r");
    ck_assert_ptr_nonnull(peer);
    setvbuf(peer, NULL, _IONBF, 0); /* so that poll sees what is left */
    fd_close(&listener);
    say("{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n");
    json_t *capabilities = heard();
    (void)snprintf(text, sizeof(text), "{\"return\": {}, \"id\": %d}\r\n",
                   (int)json_member_u64(capabilities, "id", 0));
    json_decref(capabilities);
    say(text);
    while (!ready) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void teardown(void)
{
    client = qmp_client_close(client);
    tick = loop_timer_close(tick);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    (void)fclose(peer);
    temp_dir_fini(&dir);
}

static const struct engine_limits limits = {
    .disks = {{"data", {500, 600, MIB, 2 * MIB}}, {"root", {0}}},
    .disk_count = 2,
    .nics = {{70, 80, 125000, 0}},
    .nic_count = 1,
};

static void ck_heard(const char *want)
{
    json_t *message = heard();
    (void)json_object_del(message, "id");
    char *text = json_dumps(message, JSON_COMPACT | JSON_SORT_KEYS);
    ck_assert_str_eq(text, want);
    free(text);
    json_decref(message);
}

#define NO_WAYS                                                        \
    "\"bps_rd\":0,\"bps_wr\":0,\"id\":\"%s\",\"iops\":%d,\"iops_max\"" \
    ":%d,\"iops_rd\":0,\"iops_wr\":0},\"execute\":\"block_set_io_throttle\"}"

static void ck_disk(const char *device, const struct engine_limit *limit)
{
    char want[512];
    (void)snprintf(want, sizeof(want),
                   "{\"arguments\":{\"bps\":%d,\"bps_max\":%d," NO_WAYS,
                   (int)limit->bytes, (int)limit->bytes_burst, device,
                   (int)limit->operations, (int)limit->operations_burst);
    ck_heard(want);
}

START_TEST(disks_and_nics_are_told_by_name_and_place)
{
    ck_assert_int_eq(qmp_limits_tell(client, &limits, NULL, true, on_reply, NULL, NULL),
                     0);

    ck_disk("data", &limits.disks[0].limit);
    ck_disk("root", &limits.disks[1].limit); /* no limit is one as well */
    ck_heard("{\"arguments\":{\"bps\":125000,\"bps_max\":0,\"direction\":\"receive\","
             "\"id\":\"nic0\",\"iops\":70,\"iops_max\":80},"
             "\"execute\":\"x-nic-set-throttle\"}");
    ck_heard("{\"arguments\":{\"bps\":125000,\"bps_max\":0,\"direction\":\"transmit\","
             "\"id\":\"nic0\",\"iops\":70,\"iops_max\":80},"
             "\"execute\":\"x-nic-set-throttle\"}");
}
END_TEST

#define BLOCK(qdev, file) "{'qdev':'" qdev "','inserted':{'file':'" file "'}}"

START_TEST(disks_without_a_name_are_found_by_their_files)
{
    static const char text[] =
        "[{'qdev':'/empty'}," BLOCK("/m/root", "/s/7/disk-root.qcow2") "," BLOCK(
            "/m/other", "/s/7/disk-data2.qcow2") "," BLOCK("/m/disk-data/backend",
                                                           "/images/0123") "]";
    char *plain = strdup(text);
    for (char *at = plain; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    json_t *blocks = json_loads(plain, 0, NULL);
    free(plain);
    ck_assert_ptr_nonnull(blocks);

    ck_assert_int_eq(
        qmp_limits_tell(client, &limits, blocks, false, on_reply, NULL, NULL), 0);

    ck_disk("/m/disk-data/backend", &limits.disks[0].limit); /* it is only read */
    ck_disk("/m/root", &limits.disks[1].limit);
    json_decref(blocks);
}
END_TEST

START_TEST(a_disk_that_is_not_there_is_named)
{
    json_t *blocks = json_array();
    struct err err = {0};

    ck_assert_int_eq(
        qmp_limits_tell(client, &limits, blocks, false, on_reply, NULL, &err),
        BERTH_ENOTFOUND);

    ck_assert_str_eq(err.text, "it has no disk data");
    json_decref(blocks);
}
END_TEST

START_TEST(the_most_devices_are_told_at_once)
{
    struct engine_limits most = {.disk_count = DISKS_MAX, .nic_count = NICS_MAX};
    for (unsigned i = 0; i < DISKS_MAX; i++) {
        (void)snprintf(most.disks[i].name, NAME_SIZE, "d%u", i);
    }
    ck_assert_int_eq(qmp_limits_tell(client, &most, NULL, true, on_reply, NULL, NULL), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("qmp_limits");
    TCase *tests = tcase_create("qmp_limits");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, disks_and_nics_are_told_by_name_and_place);
    tcase_add_test(tests, disks_without_a_name_are_found_by_their_files);
    tcase_add_test(tests, a_disk_that_is_not_there_is_named);
    tcase_add_test(tests, the_most_devices_are_told_at_once);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
