/* A server of answers written by hand on the UNIX socket, in place of a real one: what no
 * real one says in a test, such as of a lost host.
 *
 * folder_start and folder_stop are the fixture; between answers_start and answers_stop
 * each connection's first request is answered, either with the next of some bytes, or by
 * a table of routes, whose last row has no request. One server at a time.
 */
#pragma once

#include "berth_fixture.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ANSWER(type, body) \
    "HTTP/1.1 200 OK\r\nContent-Type: " type "\r\nConnection: close\r\n\r\n" body

#define ANSWER_JSON(body) ANSWER("application/json", body)

struct route {
    const char *request; /* how it begins: "GET /v1/version" */
    const char *answer;
};

static const char *const *answers;
static const struct route *routes;
static int listener = -1;
static pthread_t answering;

/* NULL: there are no more. */
static inline const char *answer_for(const char *request, unsigned index)
{
    if (answers != NULL) {
        return answers[index];
    }
    for (const struct route *route = routes; route->request != NULL; route++) {
        if (strncmp(request, route->request, strlen(route->request)) == 0) {
            return route->answer;
        }
    }
    return "HTTP/1.1 404 X\r\nConnection: close\r\n\r\n";
}

static inline void *answer_all(void *context)
{
    (void)context;
    for (unsigned i = 0; answers == NULL || answers[i] != NULL; i++) {
        char request[8192] = "";
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            return NULL;
        }
        if (recv(fd, request, sizeof(request) - 1, 0) > 0) {
            const char *answer = answer_for(request, i);
            (void)send(fd, answer, strlen(answer), MSG_NOSIGNAL);
        }
        (void)close(fd);
    }
    return NULL;
}

/* One of the two. */
static inline void answers_start(const char *const *texts, const struct route *table)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    answers = texts;
    routes = table;
    snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/berthd.sock",
             folder.path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(listener, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)(void *)&address, sizeof(address)),
                     0);
    ck_assert_int_eq(listen(listener, 16), 0);
    ck_assert_int_eq(pthread_create(&answering, NULL, answer_all, NULL), 0);
}

static inline void answers_stop(void)
{
    (void)shutdown(listener, SHUT_RDWR); /* it accepts no more, and ends */
    (void)pthread_join(answering, NULL);
    (void)close(listener);
    char *path = temp_dir_path(&folder, "berthd.sock");
    (void)unlink(path);
    free(path);
}

static inline void folder_start(void)
{
    temp_dir_init(&folder);
    environment_clean();
    (void)setenv("BERTH_STATE", folder.path, 1);
}

static inline void folder_stop(void)
{
    ran_drop();
    temp_dir_fini(&folder);
}
