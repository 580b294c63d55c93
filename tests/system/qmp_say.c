/* qmp_say [-d FD] [-e TEXT] SOCKET COMMAND [ARGUMENTS]: one QMP command for a system
 * test; prints the answer, an object of JSON on one line, and ends with 0, or with 1 when
 * it is an error. ARGUMENTS is JSON. The open descriptor FD goes along with the command.
 * With -e it goes on until it is told an event that has this text in it, and prints that,
 * too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES 65536

/* The next line that begins like an answer; events and the greeting are passed over. */
static int answer(FILE *from, char line[LINE_MAX_BYTES])
{
    while (fgets(line, LINE_MAX_BYTES, from) != NULL) {
        if (strstr(line, "\"return\"") != NULL || strstr(line, "\"error\"") != NULL) {
            return strstr(line, "\"error\"") != NULL ? 1 : 0;
        }
    }
    (void)snprintf(line, LINE_MAX_BYTES, "the connection has ended\n");
    return 1;
}

/* The next event with this text. */
static int event(FILE *from, const char *text, char line[LINE_MAX_BYTES])
{
    while (fgets(line, LINE_MAX_BYTES, from) != NULL) {
        if (strstr(line, "\"event\"") != NULL && strstr(line, text) != NULL) {
            return 0;
        }
    }
    (void)snprintf(line, LINE_MAX_BYTES, "the connection has ended\n");
    return 1;
}

/* Sends the text, and a descriptor with it unless that is -1. */
static int say(int fd, char *text, int descriptor)
{
    union {
        struct cmsghdr part;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.part = {.cmsg_len = CMSG_LEN(sizeof(int)),
                          .cmsg_level = SOL_SOCKET,
                          .cmsg_type = SCM_RIGHTS}};
    struct iovec piece = {text, strlen(text)};
    struct msghdr header = {.msg_iov = &piece, .msg_iovlen = 1};
    if (descriptor >= 0) {
        memcpy(CMSG_DATA(&control.part), &descriptor, sizeof(descriptor));
        header.msg_control = &control;
        header.msg_controllen = sizeof(control.room);
    }
    return sendmsg(fd, &header, MSG_NOSIGNAL) == (ssize_t)piece.iov_len ? 0 : -1;
}

int main(int argc, char *argv[])
{
    int descriptor = -1;
    const char *wanted = NULL;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static char line[LINE_MAX_BYTES];
    for (; argc > 2 && argv[1][0] == '-'; argc -= 2, argv += 2) {
        if (strcmp(argv[1], "-d") == 0) {
            descriptor = (int)strtol(argv[2], NULL, 10);
        } else if (strcmp(argv[1], "-e") == 0) {
            wanted = argv[2];
        }
    }
    if (argc < 3 || strlen(argv[1]) >= sizeof(address.sun_path)) {
        (void)fputs("usage: qmp_say [-d FD] [-e TEXT] SOCKET COMMAND [ARGUMENTS]\n",
                    stderr);
        return 2;
    }
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[1]);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        perror(argv[1]);
        return 2;
    }
    FILE *peer = fdopen(fd, "r+");
    if (peer == NULL) {
        perror("fdopen");
        return 2;
    }
    (void)dprintf(fd, "{\"execute\":\"qmp_capabilities\"}\n");
    int code = answer(peer, line);
    if (code == 0) {
        static char text[LINE_MAX_BYTES];
        (void)snprintf(text, sizeof(text), "{\"execute\":\"%s\"%s%s}\n", argv[2],
                       argc > 3 ? ",\"arguments\":" : "", argc > 3 ? argv[3] : "");
        code = say(fd, text, descriptor) == 0 ? answer(peer, line) : 2;
    }
    (void)fputs(line, stdout);
    if (code == 0 && wanted != NULL) {
        code = event(peer, wanted, line);
        (void)fputs(line, stdout);
    }
    (void)fclose(peer);
    return code;
}
