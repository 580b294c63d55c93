#include "cli/asking.h"

bool asking_can(const struct cli *cli)
{
    return cli->in_tty && cli->err_tty;
}

bool asking_yes(struct cli *cli, const char *question)
{
    char answer[16] = "";
    fprintf(cli->err, "%s [y/N] ", question);
    (void)fflush(cli->err); /* the answer shows whether it was read */
    return fgets(answer, sizeof(answer), stdin) != NULL &&
           (answer[0] == 'y' || answer[0] == 'Y');
}

int asking_confirm(struct cli *cli, const char *what, const char *nothing)
{
    if (cli->yes) {
        return EXIT_OK;
    }
    if (!asking_can(cli)) {
        return cli_fail(cli, EXIT_USAGE, "%s needs --yes where nobody can be asked; %s",
                        what, nothing);
    }
    return asking_yes(cli, "Go on?") ? (int)EXIT_OK
                                     : cli_fail(cli, EXIT_FAILED, "%s", nothing);
}
