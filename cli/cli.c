#include "cli/cli.h"

#include "cli/connection.h"
#include "cli/help.h"
#include "cli/plain_text.h"

#include <stdarg.h>

/* Of one message; a path may be as long as it can be. What is beyond is cut off. */
#define MESSAGE_SIZE 8192

/* What the text is about was named by others, or is a server's word. */
__attribute__((format(printf, 2, 0))) static void
print_plain(FILE *stream, const char *format, va_list arguments)
{
    char text[MESSAGE_SIZE];
    int length = vsnprintf(text, sizeof(text), format, arguments);
    size_t size = length < 0                      ? 0
                  : (size_t)length < sizeof(text) ? (size_t)length
                                                  : sizeof(text) - 1;
    (void)fwrite(text, 1, plain_text(text, size), stream);
    fputc('\n', stream);
}

int cli_fail(struct cli *cli, enum cli_exit code, const char *format, ...)
{
    va_list arguments;
    (void)fflush(cli->out); /* what comes first is read first; cli_main sees faults */
    va_start(arguments, format);
    fputs("berth: ", cli->err);
    print_plain(cli->err, format, arguments);
    va_end(arguments);
    return (int)code;
}

void cli_note(struct cli *cli, const char *format, ...)
{
    va_list arguments;
    if (cli->quiet) {
        return;
    }
    (void)fflush(cli->out);
    va_start(arguments, format);
    print_plain(cli->err, format, arguments);
    va_end(arguments);
    (void)fflush(cli->err); /* progress that nobody reads is no fault */
}

/* Before anything is done: a script would take the silence for a document. */
static int check_format(struct cli *cli)
{
    enum cli_documents documents = cli->command->documents;
    if (cli->format < FORMAT_JSON || documents == DOCUMENTS_ALL ||
        (documents == DOCUMENTS_UNNAMED && cli->format != FORMAT_NAME)) {
        return EXIT_OK;
    }
    return documents == DOCUMENTS_NONE
               ? cli_fail(cli, EXIT_USAGE,
                          "berth %s gives no document: -o %s is not for it; its exit "
                          "code says what came of it",
                          cli->command->name, cli_format_names[cli->format])
               : cli_fail(cli, EXIT_USAGE,
                          "what berth %s gives has no name: -o json or yaml",
                          cli->command->name);
}

int cli_main(struct cli *cli, int argc, char **argv)
{
    int code = cli_parse(cli, argc, argv);
    if (code == EXIT_OK && cli->command == NULL) {
        help_overview(cli->out);
    } else if (code == EXIT_OK && cli->help) {
        help_command(cli->out, cli->command);
    } else if (code == EXIT_OK) {
        code = check_format(cli);
        code = code == EXIT_OK ? cli->command->run(cli) : code;
    }
    connection_close(cli);
    if ((fflush(cli->out) != 0 || ferror(cli->out)) && code == EXIT_OK) {
        code = EXIT_FAILED; /* a full disk behind a pipe */
    }
    return code;
}
