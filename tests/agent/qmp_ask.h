/* One question to a VM's program over QMP, by a client of the test's own: for what the
 * agent has no word. The program takes one client at a time, so the supervisor that has
 * the VM is closed before. */
#pragma once

#include "base/fd.h"
#include "base/json.h"
#include "support/test_main.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The next message that is no event. */
static inline json_t *qmp_ask_hear(FILE *peer)
{
    char *line = NULL;
    size_t size = 0;
    json_t *message = NULL;
    do {
        json_decref(message);
        ssize_t length = getline(&line, &size, peer);
        ck_assert_int_gt((int)length, 0);
        ck_assert_int_eq(json_parse(line, (size_t)length, &message, NULL), 0);
    } while (json_object_get(message, "event") != NULL);
    free(line);
    return message;
}

/* What the command without arguments returns. */
static inline json_t *qmp_ask(const char *path, const char *command)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[128];
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)(void *)&address, sizeof(address)),
                     0);
    FILE *peer = fdopen(fd, "r");
    ck_assert_ptr_nonnull(peer);
    json_decref(qmp_ask_hear(peer));
    (void)snprintf(text, sizeof(text),
                   "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"%s\"}\n", command);
    ck_assert_int_eq(fd_write_full(fd, text, strlen(text)), 0);
    json_decref(qmp_ask_hear(peer));
    json_t *message = qmp_ask_hear(peer);
    json_t *result = json_incref(json_object_get(message, "return"));
    ck_assert_msg(result != NULL, "%s is refused", command);
    json_decref(message);
    (void)fclose(peer);
    return result;
}
