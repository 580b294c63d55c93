#include "net/forwarding.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file_atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SWITCH_PATH   "/proc/sys/net/ipv4/ip_forward"
#define BOOT_PATH     "/proc/sys/kernel/random/boot_id"
#define NAMESPACE     "/proc/self/ns/net"
#define NOTE_SIZE_MAX 128

static int note_path(const char *state_folder, char ret_path[PATH_MAX], struct err *err)
{
    int length = snprintf(ret_path, PATH_MAX, "%s/" FORWARDING_NOTE, state_folder);
    return length > 0 && length < PATH_MAX
               ? 0
               : err_sys(err, -ENAMETOOLONG, "%s", state_folder);
}

/* "<boot> net:[4026531840]\n": where the switch is that the note speaks of. */
static int note_text(char ret_text[NOTE_SIZE_MAX], struct err *err)
{
    CLEANUP_FREE uint8_t *boot = NULL;
    size_t size = 0;
    char space[NOTE_SIZE_MAX / 2] = {0};

    int r = fd_read_file(AT_FDCWD, BOOT_PATH, NOTE_SIZE_MAX, &boot, &size, err);
    if (r < 0) {
        return r;
    }
    if (readlink(NAMESPACE, space, sizeof(space) - 1) < 0) {
        return err_sys(err, -errno, "read " NAMESPACE);
    }
    (void)snprintf(ret_text, NOTE_SIZE_MAX, "%.*s %s\n",
                   (int)strcspn((const char *)boot, "\n"), (const char *)boot, space);
    return 0;
}

static int switch_write(const char *value, struct err *err)
{
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, SWITCH_PATH, O_WRONLY, 0, err);
    int r = fd < 0 ? fd : fd_write_full(fd, value, strlen(value));
    return fd < 0 || r == 0 ? r : err_sys(err, r, "write " SWITCH_PATH);
}

bool forwarding_is_on(void)
{
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    return fd_read_file(AT_FDCWD, SWITCH_PATH, 16, &text, &size, NULL) == 0 && size > 0 &&
           text[0] == '1';
}

bool forwarding_is_ours(const char *state_folder)
{
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    char path[PATH_MAX];
    char here[NOTE_SIZE_MAX];
    return note_path(state_folder, path, NULL) == 0 && note_text(here, NULL) == 0 &&
           fd_read_file(AT_FDCWD, path, NOTE_SIZE_MAX, &text, &size, NULL) == 0 &&
           strcmp((const char *)text, here) == 0;
}

int forwarding_switch_on(const char *state_folder, struct err *err)
{
    char path[PATH_MAX];
    char text[NOTE_SIZE_MAX];
    if (forwarding_is_on()) {
        return 0; /* somebody else was first: it is theirs */
    }
    int r = note_path(state_folder, path, err);
    r = r == 0 ? note_text(text, err) : r;
    r = r == 0 ? file_atomic_write(path, text, strlen(text), 0600, err) : r;
    return r == 0 ? switch_write("1", err) : r;
}

int forwarding_switch_back(const char *state_folder, struct err *err)
{
    char path[PATH_MAX];
    int r = note_path(state_folder, path, err);
    if (r == 0 && forwarding_is_ours(state_folder) && forwarding_is_on()) {
        r = switch_write("0", err);
    }
    if (r < 0) {
        return r;
    }
    return unlink(path) == 0 || errno == ENOENT ? 0
                                                : err_sys(err, -errno, "remove %s", path);
}
