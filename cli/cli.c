#include "cli/cli.h"

#include "cli/connection.h"
#include "cli/help.h"

#include <stdarg.h>

int cli_fail(struct cli *cli, enum cli_exit code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("berth: ", cli->err);
    (void)vfprintf(cli->err, format, arguments);
    fputc('\n', cli->err);
    va_end(arguments);
    return (int)code;
}

void cli_note(struct cli *cli, const char *format, ...)
{
    va_list arguments;
    if (cli->quiet) {
        return;
    }
    va_start(arguments, format);
    (void)vfprintf(cli->err, format, arguments);
    fputc('\n', cli->err);
    va_end(arguments);
    (void)fflush(cli->err); /* progress that nobody reads is no fault */
}

int cli_main(struct cli *cli, int argc, char **argv)
{
    int code = cli_parse(cli, argc, argv);
    if (code == EXIT_OK && cli->command == NULL) {
        help_overview(cli->out);
    } else if (code == EXIT_OK && cli->help) {
        help_command(cli->out, cli->command);
    } else if (code == EXIT_OK) {
        code = cli->command->run(cli);
    }
    connection_close(cli);
    if (fflush(cli->out) != 0 && code == EXIT_OK) {
        code = EXIT_FAILED; /* a full disk behind a pipe */
    }
    return code;
}
