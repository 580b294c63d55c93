/* berth: the command line. Streams in, exit code out. */
#include "cli/cli.h"

#include <signal.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static struct cli cli;
    cli.out = stdout;
    cli.err = stderr;
    cli.in_tty = isatty(STDIN_FILENO) == 1;
    cli.out_tty = isatty(STDOUT_FILENO) == 1;
    cli.err_tty = isatty(STDERR_FILENO) == 1;
    (void)signal(SIGPIPE, SIG_DFL); /* `berth ls | head` ends quietly */
    return cli_main(&cli, argc, argv);
}
