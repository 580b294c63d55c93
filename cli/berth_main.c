/* berth: the command line. Streams in, exit code out. */
#include "base/version.h"
#include "cli/cli.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static struct cli cli;
    if (argc == 2 &&
        strcmp(argv[1], "--version") == 0) { /* this program's, asks no host */
        return printf("berth %s\n", BERTH_VERSION) > 0 ? 0 : 1;
    }
    cli.out = stdout;
    cli.err = stderr;
    cli.in_tty = isatty(STDIN_FILENO) == 1;
    cli.out_tty = isatty(STDOUT_FILENO) == 1;
    cli.err_tty = isatty(STDERR_FILENO) == 1;
    /* Tables print UTF-8 and know its widths, whatever the user's locale; without this
     * one they show what is no ASCII as \xNN. */
    (void)setlocale(LC_CTYPE, "C.UTF-8"); // NOLINT(concurrency-mt-unsafe): one thread
    (void)signal(SIGPIPE, SIG_DFL);       /* `berth ls | head` ends quietly */
    return cli_main(&cli, argc, argv);
}
