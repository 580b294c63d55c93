#include "cli/backup_input.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "cli/passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

static int fail(struct cli *cli, const char *path, int code, const struct err *err)
{
    enum cli_exit exit = code == -ENOENT       ? EXIT_NOT_FOUND
                         : code == BERTH_EAUTH ? EXIT_AUTH
                                               : EXIT_FAILED;
    return code == -ENOENT ? cli_fail(cli, exit, "%s is not there", path)
                           : cli_fail(cli, exit, "%s: %s", path, err->text);
}

static int load(struct cli *cli,
                const char *path,
                const uint8_t *data,
                size_t size,
                struct backup_input *input)
{
    struct err err;
    input->state = state_new(NULL, NULL);
    int r = input->state == NULL ? err_sys(&err, -ENOMEM, "load")
                                 : backup_load(data, size, &input->info, &input->level,
                                               input->state, &err);
    return r < 0 ? fail(cli, path, r, &err) : EXIT_OK;
}

static int unbox(struct cli *cli,
                 const char *path,
                 const uint8_t *box,
                 size_t box_size,
                 struct backup_input *input)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    struct err err;
    int code = passphrase_get(cli, false, input->passphrase);
    if (code != EXIT_OK) {
        return code;
    }
    int r = secret_box_open(input->passphrase, box, box_size, &data, &size, &err);
    return r < 0 ? fail(cli, path, r, &err) : load(cli, path, data, size, input);
}

int backup_input_read(struct cli *cli, const char *path, struct backup_input *ret_input)
{
    CLEANUP_FREE uint8_t *data = NULL;
    struct err err;
    *ret_input = (struct backup_input){0};
    int r = fd_read_file(AT_FDCWD, path, BACKUP_SIZE_MAX, &data, &ret_input->size_bytes,
                         &err);
    if (r < 0) {
        return fail(cli, path, r, &err);
    }
    ret_input->encrypted = secret_box_is(data, ret_input->size_bytes);
    int code = ret_input->encrypted
                   ? unbox(cli, path, data, ret_input->size_bytes, ret_input)
                   : load(cli, path, data, ret_input->size_bytes, ret_input);
    if (code != EXIT_OK) {
        backup_input_fini(ret_input);
    }
    return code;
}

void backup_input_fini(struct backup_input *input)
{
    state_free(input->state);
    record_fini(&backup_info_record, &input->info);
    secret_wipe(input->passphrase, sizeof(input->passphrase));
    *input = (struct backup_input){0};
}
