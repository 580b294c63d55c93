#include "agent/program_spawn.h"

#include "agent/program_path.h"
#include "base/require.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <unistd.h>

/* Above what they are to become: none is overwritten before it has moved. */
static int files_set(posix_spawn_file_actions_t *files, const int *fds)
{
    int r = 0;
    for (int i = 0; r == 0 && i < PROGRAM_SPAWN_FDS; i++) {
        r = fds[i] >= 0
                ? -posix_spawn_file_actions_adddup2(files, fds[i], i)
                : -posix_spawn_file_actions_addopen(files, i, "/dev/null", O_RDWR, 0);
    }
    return r < 0 ? r
                 : -posix_spawn_file_actions_addclosefrom_np(files, PROGRAM_SPAWN_FDS);
}

static int attributes_set(posix_spawnattr_t *attributes)
{
    sigset_t all;
    sigset_t none;
    (void)sigfillset(&all); /* these two cannot fail */
    (void)sigemptyset(&none);
    int r = -posix_spawnattr_setflags(
        attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
    r = r < 0 ? r : -posix_spawnattr_setsigdefault(attributes, &all);
    return r < 0 ? r : -posix_spawnattr_setsigmask(attributes, &none);
}

static int spawn(const struct program_spawn *program, const char *path, pid_t *ret_pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    int r = -posix_spawn_file_actions_init(&files);
    if (r < 0) {
        return r;
    }
    r = -posix_spawnattr_init(&attributes);
    if (r < 0) {
        (void)posix_spawn_file_actions_destroy(&files); /* cannot fail */
        return r;
    }
    r = files_set(&files, program->fds);
    r = r < 0 ? r : attributes_set(&attributes);
    r = r < 0 ? r
              : -posix_spawnp(ret_pid, path, &files, &attributes, program->argv,
                              program->environment);
    (void)posix_spawn_file_actions_destroy(&files); /* cannot fail */
    (void)posix_spawnattr_destroy(&attributes);
    return r;
}

int program_spawn(const struct program_spawn *program, pid_t *ret_pid, struct err *err)
{
    char beside[PATH_MAX];
    const char *path = program->path;
    for (unsigned i = 0; i < PROGRAM_SPAWN_FDS; i++) {
        REQUIRE(program->fds[i] < 0 || program->fds[i] >= PROGRAM_SPAWN_FDS);
    }
    if (path == NULL) {
        (void)program_path_beside(program->name, beside); /* else by PATH */
        path = beside;
    }
    const int r = spawn(program, path, ret_pid);
    return r < 0 ? err_set(err, BERTH_ECHILD, "start %.100s: %s", path, err_sentence(r))
                 : 0;
}
