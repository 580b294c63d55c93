/* Completion of command lines by shells: a script made from the command table.
 *
 * Shapes: completion_bash prints commands, flags and what each command takes as cases of
 * a bash function; names of objects it asks `berth ls -o name` for when TAB is pressed,
 * for a second at most and in silence. zsh reads the same script through bashcompinit.
 * Threads: pure. Errors: those of the stream.
 */
#pragma once

#include <stdio.h>

void completion_bash(FILE *stream);
void completion_zsh(FILE *stream);
