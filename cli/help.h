/* Help and reference, printed from the command table.
 *
 * Threads: pure. The topics are texts of this file; docs/cli.md is help_reference's
 * output and a test holds it to that.
 */
#pragma once

#include "cli/cli.h"

void help_overview(FILE *stream);
void help_command(FILE *stream, const struct cli_command *command);
/* The commands that begin with that word and have a second one, or false when there are
 * none. */
bool help_family(FILE *stream, const char *word);
/* The topic's text, or false when there is none of that name. */
bool help_topic(FILE *stream, const char *name);
/* The topics' names: the count, at most max. */
unsigned help_topic_names(const char **ret_names, unsigned max);
/* The whole reference as Markdown. */
void help_reference(FILE *stream);
