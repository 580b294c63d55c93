/* qmp_say SOCKET COMMAND [ARGUMENTS]: one QMP command for a system test; prints the
 * answer, an object of JSON on one line, and ends with 0, or with 1 when it is an error.
 * ARGUMENTS is JSON. */
#include <stdio.h>
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

int main(int argc, char *argv[])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static char line[LINE_MAX_BYTES];
    if (argc < 3 || strlen(argv[1]) >= sizeof(address.sun_path)) {
        (void)fputs("usage: qmp_say SOCKET COMMAND [ARGUMENTS]\n", stderr);
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
        (void)dprintf(fd, "{\"execute\":\"%s\"%s%s}\n", argv[2],
                      argc > 3 ? ",\"arguments\":" : "", argc > 3 ? argv[3] : "");
        code = answer(peer, line);
    }
    (void)fputs(line, stdout);
    (void)fclose(peer);
    return code;
}
