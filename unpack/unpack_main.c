/* berth-unpack: writes the ELF kernel within a bzImage, stdin, to an empty file, stdout,
 * for berthd, which starts it. See unpack/README.md. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse_number.h"
#include "base/version.h"
#include "unpack/unpack_kernel.h"
#include "unpack/unpack_rights.h"
#include "vmm/kernel_image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum exit_code {
    EXIT_UNPACKED = 0,
    EXIT_FAULT = 1, /* stderr says why in one line */
    EXIT_USAGE = 2,
    EXIT_NOTHING = 3, /* there is nothing to unpack */
};

static int usage(FILE *out, int code)
{
    (void)fprintf(out,
                  "usage: berth-unpack PARENT ROOM\n"
                  "       berth-unpack --version | --help\n\n"
                  "Writes the kernel within a packed one (a regular file as stdin, "
                  "to read only) "
                  "to an empty\nregular file, stdout, of at most ROOM bytes, for berthd, "
                  "which starts it and is process\nPARENT. Runs as a user of its own, "
                  "without rights.\n");
    return code;
}

static int came(void *context, const void *data, size_t size)
{
    (void)context;
    return fd_write_full(STDOUT_FILENO, data, size);
}

static int unpack(uint64_t size, uint64_t room, struct err *err)
{
    const struct unpack_sink sink = {.came = came, .bytes_max = room};
    struct kernel_image image;
    CLEANUP_FREE uint8_t *file = cleanup_new((size_t)size + 1, 1);
    if (file == NULL) {
        return err_sys(err, -ENOMEM, "read it");
    }
    const ssize_t got = fd_read_full(STDIN_FILENO, file, (size_t)size);
    if (got < 0) {
        return err_sys(err, (int)got, "read it");
    }
    int r = unpack_kernel(file, (size_t)got, &sink, err);
    if (r < 0 && err->text[0] == '\0') {
        return err_sys(err, r, "write what is in it");
    }
    if (r != 0) {
        return r;
    }
    r = kernel_image_read(STDOUT_FILENO, &image, err);
    return r == 0 && image.format != KERNEL_PVH
               ? err_set(err, BERTH_EINVALID, "a kernel within a kernel")
               : r;
}

/* PARENT and ROOM. */
static bool takes_words(char **argv, uint64_t *ret_parent, uint64_t *ret_room)
{
    return parse_u64(argv[1], ret_parent, NULL) == 0 && *ret_parent <= INT32_MAX &&
           parse_u64(argv[2], ret_room, NULL) == 0 && *ret_room > 0;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    uint64_t parent;
    uint64_t room;
    struct stat from;
    struct stat to;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("berth-unpack %s\n", BERTH_VERSION);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        return usage(stdout, 0);
    }
    if (argc != 3 || !takes_words(argv, &parent, &room) ||
        (fcntl(STDIN_FILENO, F_GETFL) & O_ACCMODE) != O_RDONLY ||
        fstat(STDIN_FILENO, &from) != 0 || !S_ISREG(from.st_mode) ||
        fstat(STDOUT_FILENO, &to) != 0 || !S_ISREG(to.st_mode) || to.st_size != 0) {
        return usage(stderr, EXIT_USAGE);
    }
    int r = unpack_rights_drop((pid_t)parent, room, &err);
    if (r == 0) {
        r = (uint64_t)from.st_size > UNPACK_FILE_MAX
                ? err_set(&err, BERTH_ETOOLARGE, "a kernel file of over %lluMiB",
                          (unsigned long long)(UNPACK_FILE_MAX >> 20))
                : unpack((uint64_t)from.st_size, room, &err);
    }
    if (r < 0) {
        (void)fd_write_full(STDERR_FILENO, err.text, strlen(err.text)); /* or unsaid */
    }
    _exit(r < 0 ? EXIT_FAULT : r == UNPACK_NOTHING ? EXIT_NOTHING : EXIT_UNPACKED);
}
