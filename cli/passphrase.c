#include "cli/passphrase.h"

#include <string.h>
#include <termios.h>
#include <unistd.h>

static int ask(struct cli *cli, const char *prompt, char ret_text[PASSPHRASE_SIZE_MAX])
{
    struct termios shown;
    bool hidden = tcgetattr(STDIN_FILENO, &shown) == 0;
    struct termios quiet = shown;
    fputs(prompt, cli->err);
    (void)fflush(cli->err); /* the answer shows whether it was read */
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    hidden = hidden && tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) == 0;
    bool read = fgets(ret_text, PASSPHRASE_SIZE_MAX, stdin) != NULL;
    if (hidden) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
        fputc('\n', cli->err);
    }
    size_t length = read ? strcspn(ret_text, "\r\n") : 0;
    if (length == 0 || ret_text[length] == '\0') {
        secret_wipe(ret_text, PASSPHRASE_SIZE_MAX);
        return cli_fail(cli, EXIT_USAGE, "a passphrase of 1 to %d bytes is needed",
                        PASSPHRASE_SIZE_MAX - 2);
    }
    ret_text[length] = '\0';
    return EXIT_OK;
}

int passphrase_get(struct cli *cli, bool twice, char ret_passphrase[PASSPHRASE_SIZE_MAX])
{
    const char *path = cli_flag(cli, "passphrase-file");
    char again[PASSPHRASE_SIZE_MAX];
    struct err err;
    if (path != NULL) {
        return passphrase_read_file(path, ret_passphrase, &err) < 0
                   ? cli_fail(cli, EXIT_USAGE, "%s", err.text)
                   : EXIT_OK;
    }
    if (!cli->in_tty || !cli->err_tty) {
        return cli_fail(cli, EXIT_USAGE,
                        "a passphrase is needed, and there is no terminal to ask: "
                        "--passphrase-file FILE");
    }
    int code = ask(cli, "Passphrase: ", ret_passphrase);
    if (code != EXIT_OK || !twice) {
        return code;
    }
    code = ask(cli, "Again: ", again);
    if (code == EXIT_OK && strcmp(again, ret_passphrase) != 0) {
        code = cli_fail(cli, EXIT_USAGE, "the two are not the same");
    }
    secret_wipe(again, sizeof(again));
    if (code != EXIT_OK) {
        secret_wipe(ret_passphrase, PASSPHRASE_SIZE_MAX);
    }
    return code;
}
