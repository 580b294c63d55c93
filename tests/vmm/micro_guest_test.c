/* Goal: the real berth-vmm, in its jail, lives through what a hostile guest does from
 * inside: it does not end, hang or grow, answers QMP, and each row of the guest finds
 * what it should. Method: the micro guest (tests/vmm/guest) on /dev/kvm, a group of its
 * rows a boot; what it cannot see itself is looked at here. 77 without a KVM;
 * tests/system/kvm_machine_test.sh runs this where there is a real one. With "planted"
 * the program has bugs that only such a guest can see, and has to be found out. With
 * "rounds 1000" a machine is moved so often. */
#include "base/parse_number.h"
#include "micro_host.h"
#include "support/small_fs.h"
#include "support/test_main.h"
#include "vmm/disk_overlay.h"
#include "vmm/planted_fault.h"

#ifdef __SANITIZE_THREAD__
#define GROWTH_KIB_MAX 65536 /* it remembers who was where */
#elif defined(__SANITIZE_ADDRESS__)
#define GROWTH_KIB_MAX \
    2048 /* one is what was freed and may be looked for (micro_host.h) */
#else
#define GROWTH_KIB_MAX 1024
#endif

static struct micro micro;
static long measured_kib;
static bool has_stormed;
static unsigned bad_count;

static void setup(void)
{
    micro_init(&micro);
    bad_count = 0;
    measured_kib = -1;
    has_stormed = false;
}

static void teardown(void)
{
    micro_fini(&micro);
}

/* ---- what the guest asks for ---- */

/* What it is asked at any time, and what it then says among other things. */
static const struct {
    const char *command;
    const char *words;
} questions[] = {
    {"{\"execute\":\"query-status\"}\n", "\"running\""},
    {"{\"execute\":\"query-version\"}\n", "\"package\":\"berth-vmm\""},
    {"{\"execute\":\"query-block\"}\n", "\"drv\":"},
    {"{\"execute\":\"query-blockstats\"}\n", "\"rd_latency_histogram\""},
    {"{\"execute\":\"query-stats\",\"arguments\":{\"target\":\"vcpu\"}}\n",
     "\"port_exits\""},
    {"{\"execute\":\"query-stats\",\"arguments\":{\"target\":\"vm\"}}\n", "["},
    {"{\"execute\":\"query-stats-schemas\"}\n", "\"port_exits_ns\""},
    {"{\"execute\":\"x-query-device-stats\"}\n", "\"driver\":\"virtio-net\""},
    {"{\"execute\":\"x-query-boot\"}\n", "\"phase\":\"first-byte\""},
};

static void query(void)
{
    for (size_t i = 0; i < sizeof(questions) / sizeof(questions[0]); i++) {
        const char *answer = micro_qmp(&micro, questions[i].command, -1);
        ck_assert_msg(strstr(answer, questions[i].words) != NULL, "%s", answer);
    }
}

/* Of the process that it is in now, which has read no kernel. */
static void came_in(void)
{
    const char *answer = micro_qmp(&micro, "{\"execute\":\"x-query-boot\"}\n", -1);
    ck_assert_msg(strstr(answer, "\"phase\":\"restored\"") != NULL &&
                      strstr(answer, "\"phase\":\"first-run\"") != NULL &&
                      strstr(answer, "\"phase\":\"loaded\"") == NULL,
                  "%s", answer);
}

/* Of one process: a guest that begins anew asks for it again. */
static void measure(void)
{
    query();
    if (measured_kib < 0) {
        measured_kib = micro_anonymous_kib(&micro);
    }
    ck_assert_int_gt(measured_kib, 0);
}

static void compare(void)
{
    query();
    const long grown = micro_anonymous_kib(&micro) - measured_kib;
    printf("  it has grown by %ld KiB\n", grown);
    ck_assert_msg(grown <= GROWTH_KIB_MAX, "%s it has grown by %ld KiB",
                  micro_told(&micro, ""), grown);
}

/* More packets than its wire holds, with the header that the device expects. */
static void flood(void)
{
    static const uint8_t packet[12 + 60] = {0};
    while (send(micro.streams[MICRO_NIC], packet, sizeof(packet),
                MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
}

static void stall_nic(void)
{
    micro.stalled[MICRO_NIC] = true;
}

static void go_nic(void)
{
    micro.stalled[MICRO_NIC] = false;
}

static void stall_console(void)
{
    micro.stalled[MICRO_CONSOLE] = true;
}

static void go_console(void)
{
    micro.stalled[MICRO_CONSOLE] = false;
}

static void leave_console(void)
{
    micro.stalled[MICRO_CONSOLE] = true;
    micro_close(&micro.streams[MICRO_CONSOLE]);
}

/* Until its packet comes the guest speaks to nobody. */
static void stall_serial(void)
{
    const uint64_t before = micro.heard_count[MICRO_NIC];
    micro.stalled[MICRO_SERIAL] = true;
    micro_type(&micro, 'g');
    while (micro.heard_count[MICRO_NIC] == before) {
        micro_wait(&micro);
    }
    compare();
    micro.stalled[MICRO_SERIAL] = false;
}

static void plug(void)
{
    (void)micro_qmp(&micro,
                    "{\"execute\":\"qom-set\",\"arguments\":{\"path\":\"vmem0\","
                    "\"property\":\"requested-size\",\"value\":4194304}}\n",
                    -1);
}

/* ---- devices that come and go ---- */

#define PLUG_TEXT 256u

/* A command; where it has an @ the id goes. */
static const char *plug_say(const char *form, const char *id, int fd, bool may_fail)
{
    char text[PLUG_TEXT];
    size_t size = 0;
    for (; *form != '\0'; form++) {
        const size_t length = *form == '@' ? strlen(id) : 1;
        ck_assert_uint_lt(size + length, sizeof(text));
        memcpy(text + size, *form == '@' ? id : form, length);
        size += length;
    }
    text[size] = '\0';
    return may_fail ? micro_qmp_send(&micro, text, fd) : micro_qmp(&micro, text, fd);
}

static void plug_disk_as(const char *id)
{
    const int fd = memfd_create("plugged", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, MICRO_DISK_BYTES), 0);
    (void)plug_say("{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"@\"}}\n", id, fd,
                   false);
    (void)plug_say("{\"execute\":\"blockdev-add\",\"arguments\":{\"driver\":\"raw\","
                   "\"node-name\":\"@\",\"file\":{\"driver\":\"file\",\"filename\":"
                   "\"@\"}}}\n",
                   id, -1, false);
    (void)plug_say("{\"execute\":\"device_add\",\"arguments\":{\"driver\":"
                   "\"virtio-blk-pci\",\"id\":\"@\",\"drive\":\"@\"}}\n",
                   id, -1, false);
    (void)close(fd);
}

static void plug_nic_as(const char *id)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    (void)plug_say("{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"@\"}}\n", id,
                   ends[0], false);
    (void)plug_say("{\"execute\":\"netdev_add\",\"arguments\":{\"type\":\"tap\",\"id\":"
                   "\"@\",\"fd\":\"@\"}}\n",
                   id, -1, false);
    (void)plug_say("{\"execute\":\"device_add\",\"arguments\":{\"driver\":"
                   "\"virtio-net-pci\",\"id\":\"@\",\"netdev\":\"@\",\"mac\":"
                   "\"52:54:00:00:00:09\"}}\n",
                   id, -1, false);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* Asks for it: false when there is none. */
static bool unplug_as(const char *id)
{
    const char *answer = plug_say(
        "{\"execute\":\"device_del\",\"arguments\":{\"id\":\"@\"}}\n", id, -1, true);
    ck_assert_msg(answer != NULL, "%s", micro_told(&micro, "no answer"));
    return strstr(answer, "DeviceNotFound") == NULL;
}

static void forget_disk(const char *id)
{
    (void)plug_say("{\"execute\":\"blockdev-del\",\"arguments\":{\"node-name\":\"@\"}}\n",
                   id, -1, false);
}

static void forget_nic(const char *id)
{
    (void)plug_say("{\"execute\":\"netdev_del\",\"arguments\":{\"id\":\"@\"}}\n", id, -1,
                   false);
}

static void plug_disk(void)
{
    plug_disk_as("disk");
}

static void plug_nic(void)
{
    plug_nic_as("nic");
}

static void unplug_disk(void)
{
    ck_assert(unplug_as("disk"));
}

static void unplug_nic(void)
{
    ck_assert(unplug_as("nic"));
}

/* The event was not heard yet; it names which. */
static void gone(void)
{
    const char *line;
    do {
        line = micro_qmp_line(&micro);
        ck_assert_msg(line != NULL, "%s no event", micro_told(&micro, ""));
    } while (strstr(line, "DEVICE_DELETED") == NULL);
    if (strstr(line, "\"device\":\"disk\"") != NULL) {
        forget_disk("disk");
    } else {
        forget_nic("nic");
    }
}

/* As fast as it can, and now and then it stands still. What so many devices had at once
 * the process may keep, for the next ones: it grows no more after the first time. */
static void storm(void)
{
    static const char *const ids[] = {"s0", "s1", "s2", "n0"};
    for (unsigned round = 0; round < 60; round++) {
        for (unsigned i = 0; i < 4; i++) {
            if (ids[i][0] == 'n') {
                plug_nic_as(ids[i]);
            } else {
                plug_disk_as(ids[i]);
            }
            if ((round + i) % 7 == 0) {
                (void)micro_qmp(&micro, "{\"execute\":\"stop\"}\n", -1);
                (void)unplug_as(ids[i]);
                (void)micro_qmp(&micro, "{\"execute\":\"cont\"}\n", -1);
            }
        }
        query();
        for (unsigned i = 0; i < 4; i++) {
            while (unplug_as(ids[i])) { /* until the guest has hit on it */
            }
            if (ids[i][0] == 'n') {
                forget_nic(ids[i]);
            } else {
                forget_disk(ids[i]);
            }
        }
    }
    if (!has_stormed) {
        measured_kib = micro_anonymous_kib(&micro);
    }
    has_stormed = true;
}

/* ---- moved while it works ---- */

static uint64_t round_count = 50;

/* The guest has gone on, and nothing was wrong. */
static void await_tick(void)
{
    const char *line;
    do {
        line = micro_hear(&micro);
        ck_assert_msg(line != NULL && strncmp(line, "bad ", 4) != 0, "%s%s",
                      micro_told(&micro, ""), line == NULL ? "it has ended" : line);
    } while (strcmp(line, "tick") != 0);
}

/* Stands still and goes on, and now and then in another process; each time it works. */
static void rounds(void)
{
    for (uint64_t i = 0; i < round_count; i++) {
        for (unsigned pause = 0; pause < 10; pause++) {
            (void)micro_qmp(&micro, "{\"execute\":\"stop\"}\n", -1);
            (void)micro_qmp(&micro, "{\"execute\":\"cont\"}\n", -1);
        }
        await_tick();
        micro_move(&micro, "rounds");
        await_tick();
        came_in();
    }
    micro_close(&micro.saved); /* a boot from here on is a boot */
    measured_kib = -1;
    measure();
}

/* To another process, which the guest has measured when it is there. */
static void move(void)
{
    micro_move(&micro, "");
    measured_kib = -1;
}

static const struct ask {
    const char *word;
    void (*act)(void);
} asks[] = {
    {"measure", measure},
    {"compare", compare},
    {"query", query},
    {"flood", flood},
    {"stall-nic", stall_nic},
    {"go-nic", go_nic},
    {"stall-console", stall_console},
    {"go-console", go_console},
    {"leave-console", leave_console},
    {"stall-serial", stall_serial},
    {"plug", plug},
    {"plug-disk", plug_disk},
    {"plug-nic", plug_nic},
    {"unplug-disk", unplug_disk},
    {"unplug-nic", unplug_nic},
    {"gone", gone},
    {"storm", storm},
    {"rounds", rounds},
    {"move", move},
};

static void obey(const char *word)
{
    for (size_t i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
        if (strcmp(asks[i].word, word) == 0) {
            asks[i].act();
            if (asks[i].act != stall_serial) { /* which has let it go on itself */
                micro_type(&micro, 'g');
            }
            return;
        }
    }
    ck_abort_msg("the guest asks for %s", word);
}

/* Hears the guest out: whether it came to the end of its group. */
static bool hear_out(void)
{
    const char *line;
    bool is_done = false;
    while ((line = micro_hear(&micro)) != NULL) {
        if (strncmp(line, "ask ", 4) == 0) {
            obey(line + 4);
        } else {
            bad_count += strncmp(line, "bad ", 4) == 0;
            is_done = is_done || strncmp(line, "done ", 5) == 0;
            if (strncmp(line, "bad ", 4) == 0 || strncmp(line, "ok ", 3) == 0 ||
                strncmp(line, "skip ", 5) == 0) {
                printf("  %s\n", line);
            }
            (void)fflush(stdout);
        }
    }
    return is_done;
}

static const char *const groups[] = {"bus",   "queue",  "disk", "net",    "console",
                                     "vsock", "memory", "cpu",  "rounds", "resets",
                                     "pair",  "steal",  "plug"};

static void live_through(const char *group)
{
    printf("%s:\n", group);
    micro_start(&micro, group);

    const bool is_done = hear_out();

    const int code = micro_ended(&micro);
    ck_assert_msg(is_done && code == 0 && bad_count == 0,
                  "%s %s: exit code %d, %u rows are bad, %s", micro_told(&micro, ""),
                  group, code, bad_count, is_done ? "done" : "not done");
}

START_TEST(the_monitor_lives_through_each_group_of_rows)
{
    live_through(groups[_i]);
}
END_TEST

START_TEST(a_guest_has_ram_on_both_sides_of_the_hole)
{
    micro.memory = "5GiB";
    live_through("large");
}
END_TEST

START_TEST(a_machine_is_moved_very_often)
{
    live_through("rounds");
}
END_TEST

/* An overlay over nothing in place of the raw disk. */
static void disk_be_overlay(void)
{
    static const struct digest none = {{0}};
    struct disk_file *file = NULL;
    char *path = temp_dir_path(&micro.dir, "disk");
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, (off_t)disk_overlay_file_size(MICRO_DISK_BYTES)), 0);
    ck_assert_int_eq(disk_file_new(fd, &file, NULL), 0);
    ck_assert_int_eq(disk_overlay_create(file, MICRO_DISK_BYTES, 0, &none, NULL), 0);
    disk_file_free(file);
    free(path);
    micro.format = "overlay";
}

static bool hear_until(const char *words)
{
    const char *line;
    do {
        line = micro_hear(&micro);
        if (line != NULL && strncmp(line, "ask ", 4) == 0) {
            obey(line + 4);
        }
    } while (line != NULL && strcmp(line, words) != 0);
    return line != NULL;
}

/* A disk is what it was made as, whatever is written into it; and it has what was
 * written, though the guest never flushes and powers itself off, or (_i of 2) is ended.
 */
START_TEST(an_images_header_in_a_disk_is_data_after_a_reboot)
{
    static const char *const boots[] = {"image", "image-after"};
    if (_i > 0) {
        disk_be_overlay();
    }
    for (unsigned i = 0; i < 2; i++) {
        measured_kib = -1;
        micro_start(&micro, boots[i]);
        const bool is_cut = _i == 2 && i == 0;
        const bool is_done =
            is_cut ? hear_until("ok an-images-header-is-written") : hear_out();
        if (is_cut) {
            ck_assert_int_eq(kill(micro.pid, SIGTERM), 0);
        }
        const int code = micro_ended(&micro);
        ck_assert_msg(is_done && code == 0 && bad_count == 0, "%s%s",
                      micro_told(&micro, ""), boots[i]);
    }
}
END_TEST

/* ---- a host without room ---- */

/* Its disk in a file system of its own, with room for a part of it; the folder. */
static int disk_without_room(void)
{
    const int folder = small_fs_open(2 * MICRO_DISK_BYTES);
    ck_assert_int_ge(folder, 0);
    const int fd = small_fs_file(folder, "disk", MICRO_DISK_BYTES);
    ck_assert_int_eq(posix_fallocate(fd, 0, MICRO_DISK_BYTES / 3), 0);
    small_fs_fill(folder, "ballast");
    micro.disk = fcntl(fd, F_DUPFD_CLOEXEC, 20);
    ck_assert_int_ge(micro.disk, 0);
    (void)close(fd);
    return folder;
}

static void hear_event(const char *name, const char *what)
{
    const char *line;
    do {
        line = micro_qmp_line(&micro);
        ck_assert_msg(line != NULL, "%s no %s", micro_told(&micro, ""), name);
    } while (strstr(line, "\"event\"") == NULL || strstr(line, "RESUME") != NULL);
    ck_assert_msg(strstr(line, name) != NULL && strstr(line, what) != NULL, "%s", line);
}

/* One write of the guest's is in the way, which is told of once each time. */
static void hear_that_it_stands_still(void)
{
    hear_event("BLOCK_IO_ERROR",
               "\"data\":{\"device\":\"d\",\"node-name\":\"d\",\"operation\":\"write\","
               "\"action\":\"stop\",\"nospace\":true,\"reason\":\"No space left on "
               "device\"}");
    hear_event("STOP", "");
    const char *answer = micro_qmp(&micro, "{\"execute\":\"query-status\"}\n", -1);
    ck_assert_msg(strstr(answer, "\"status\":\"io-error\",\"running\":false") != NULL,
                  "%s", answer);
}

static void refuse_to_be_saved(void)
{
    const int file = memfd_create("saved", MFD_CLOEXEC);
    (void)micro_qmp(&micro, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"s\"}}\n",
                    file);
    const char *answer = micro_qmp_send(
        &micro, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:s\"}}\n", -1);
    ck_assert_msg(answer != NULL && strstr(answer, "wait for room on the host") != NULL,
                  "%s", answer == NULL ? "no answer" : answer);
    (void)close(file);
}

/* A guest that begins anew waits for nothing. */
static void reset_and_run(void)
{
    (void)micro_qmp(&micro, "{\"execute\":\"system_reset\"}\n", -1);
    hear_event("RESET", "");
    const char *answer = micro_qmp(&micro, "{\"execute\":\"query-status\"}\n", -1);
    ck_assert_msg(strstr(answer, "\"status\":\"running\"") != NULL, "%s", answer);
}

/* It goes on by cont, or (_i of 1) ends where it is, and another begins on its disk, or
 * (2) begins anew. */
START_TEST(a_host_without_room_is_waited_for)
{
    int folder = disk_without_room();
    micro_start(&micro, "full");
    while (micro.qmp < 0) { /* until the guest has asked whether somebody listens */
        const char *line = micro_hear(&micro);
        ck_assert_msg(line != NULL, "%s", micro_told(&micro, "it has ended"));
        if (strncmp(line, "ask ", 4) == 0) {
            obey(line + 4);
        }
    }
    ck_assert_str_eq(micro_hear(&micro), "ok all-serve");
    ck_assert_str_eq(micro_hear(&micro), "begin no-room-is-slow");
    ck_assert_str_eq(micro_hear(&micro), "ask query");
    obey("query");

    hear_that_it_stands_still();
    refuse_to_be_saved();
    (void)micro_qmp(&micro, "{\"execute\":\"cont\"}\n", -1); /* in vain */
    hear_that_it_stands_still();
    ck_assert_int_eq(unlinkat(folder, "ballast", 0), 0);
    if (_i == 0) {
        (void)micro_qmp(&micro, "{\"execute\":\"cont\"}\n", -1);
    } else if (_i == 2) {
        reset_and_run();
    } else {
        ck_assert_int_eq(kill(micro.pid, SIGTERM), 0);
        ck_assert_int_eq(micro_ended(&micro), 0);
        measured_kib = -1;
        micro_start(&micro, "full");
    }
    const bool is_done = hear_out();

    const int code = micro_ended(&micro);
    ck_assert_msg(is_done && code == 0 && bad_count == 0, "%s exit code %d",
                  micro_told(&micro, ""), code);
    (void)close(folder);
}
END_TEST

/* ---- what may end a guest ---- */

enum { CODE_DONE = 0, CODE_PANIC = 3, CODE_SHUTDOWN = 4, CODE_BROKEN = 5 };

static const struct end_row {
    const char *group;
    int code;          /* how the program ends if the guest does not live through it */
    bool may_live;     /* what is in its way KVM may do */
    const char *spins; /* the row that may run for ever; NULL: none does */
} ends[] = {
    {"end-execute", CODE_BROKEN, true, NULL},
    {"end-exchange", CODE_BROKEN, true, NULL},
    {"end-vectors", CODE_BROKEN, true, NULL},
    {"end-strings", CODE_BROKEN, true, NULL},
    {"end-tables", CODE_SHUTDOWN, false, "begin tables-in-registers"},
    {"end-triple", CODE_SHUTDOWN, false, NULL},
    {"end-unplugged", CODE_BROKEN, true, NULL},
    {"end-panic", CODE_PANIC, false, NULL},
};

/* A guest that runs for ever and says nothing is one that may: as long as it does, the
 * monitor answers, and it goes when it is told to. */
static void outlast(const char *line)
{
    const char *heard;
    do {
        heard = micro_hear(&micro);
        if (heard != NULL && strncmp(heard, "ask ", 4) == 0) {
            obey(heard + 4);
        }
    } while (heard != NULL && strcmp(heard, line) != 0);
    for (unsigned i = 0; i < 1000; i++) {
        if (micro_qmp_send(&micro, "{\"execute\":\"query-status\"}\n", -1) == NULL) {
            return;
        }
    }
    printf("  it runs for ever\n");
    (void)micro_qmp_send(&micro, "{\"execute\":\"quit\"}\n", -1);
}

START_TEST(a_guest_that_ends_has_an_end_with_a_reason)
{
    const struct end_row *row = &ends[_i];
    printf("%s:\n", row->group);
    micro_start(&micro, row->group);

    if (row->spins != NULL) {
        outlast(row->spins);
    }
    const bool is_done = hear_out();

    const int code = micro_ended(&micro);
    char *log = temp_dir_read(&micro.dir, "log");
    const char *why = strstr(log, "the guest has ended");
    const bool was_told = row->spins != NULL && code == CODE_DONE;
    printf("  exit code %d, %s\n", code, why == NULL ? "no reason" : why);
    ck_assert_msg(why != NULL || was_told, "%s%s", micro_told(&micro, ""), row->group);
    ck_assert_msg(was_told ||
                      (is_done ? row->may_live && code == CODE_DONE : code == row->code),
                  "%s%s: exit code %d", micro_told(&micro, ""), row->group, code);
    free(log);
}
END_TEST

/* ---- bugs on purpose ---- */

struct plant_row {
    enum planted_fault fault;
    const char *group;
    unsigned bad_count; /* rows that have to say so, at least */
};

static const struct plant_row plants[] = {
    {PLANTED_NONE, "bus", 0},
    {PLANTED_NONE, "queue", 0},
    {PLANTED_BAR_STAYS, "bus", 1},
    {PLANTED_STRING_SHORT, "bus", 1},
    {PLANTED_QUEUE_SIZE_OPEN, "queue", 1},
    {PLANTED_HEAD_TWICE, "queue", 1},
    {PLANTED_RAM_OFF_BY_ONE, "queue", 1},
    {PLANTED_RANDOM_UNCAPPED, "queue", 1},
    {PLANTED_NONE, "plug", 0},
    {PLANTED_SLOT_UNASKED, "plug", 1},
};

START_TEST(the_guest_finds_what_is_planted)
{
    char fault[16];
    (void)snprintf(fault, sizeof(fault), "%d", (int)plants[_i].fault);
    micro.planted = fault;
    micro_start(&micro, plants[_i].group);

    const bool is_done = hear_out();

    const int code = micro_ended(&micro);
    printf("%s with fault %s: %u rows are bad, exit code %d\n", plants[_i].group, fault,
           bad_count, code);
    if (plants[_i].bad_count == 0) {
        ck_assert(is_done && code == 0 && bad_count == 0);
    } else {
        ck_assert_msg(bad_count >= plants[_i].bad_count || code != 0,
                      "%s nobody has seen fault %s", micro_told(&micro, ""), fault);
    }
}
END_TEST

static bool has_small_fs(void)
{
    const int folder = small_fs_open(MICRO_DISK_BYTES);
    if (folder < 0) {
        (void)puts(
            "no small file system can be made here (that is root's): a host without "
            "room is not tested");
        return false;
    }
    (void)close(folder);
    return true;
}

int main(int argc, char **argv)
{
    const bool is_planted = argc == 2 && strcmp(argv[1], "planted") == 0;
    const bool is_moved = argc == 3 && strcmp(argv[1], "rounds") == 0 &&
                          parse_u64(argv[2], &round_count, NULL) == 0;
    if (argc > 1 && !is_planted && !is_moved) {
        (void)fprintf(stderr, "usage: micro_guest_test [planted | rounds N]\n");
        return 2;
    }
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        return test_main_skip("there is no /dev/kvm that may be used");
    }
    Suite *suite = suite_create("micro_guest");
    TCase *tests = tcase_create("micro_guest");
    tcase_add_checked_fixture(tests, setup, teardown);
    if (is_moved) {
        tcase_set_timeout(tests, 0);
        tcase_add_test(tests, a_machine_is_moved_very_often);
    } else if (is_planted) {
        tcase_add_loop_test(tests, the_guest_finds_what_is_planted, 0,
                            (int)(sizeof(plants) / sizeof(plants[0])));
    } else {
        tcase_add_loop_test(tests, the_monitor_lives_through_each_group_of_rows, 0,
                            (int)(sizeof(groups) / sizeof(groups[0])));
        tcase_add_test(tests, a_guest_has_ram_on_both_sides_of_the_hole);
        tcase_add_loop_test(tests, an_images_header_in_a_disk_is_data_after_a_reboot, 0,
                            3);
        if (has_small_fs()) {
            tcase_add_loop_test(tests, a_host_without_room_is_waited_for, 0, 3);
        }
        tcase_add_loop_test(tests, a_guest_that_ends_has_an_end_with_a_reason, 0,
                            (int)(sizeof(ends) / sizeof(ends[0])));
    }
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
