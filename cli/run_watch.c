/* watch: changes as they come. */
#include "base/parse_number.h"
#include "cli/object_name.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/sight.h"
#include "cli/watching.h"

#define KINDS_MAX 8

int run_watch(struct cli *cli)
{
    const struct kind_info *kinds[KINDS_MAX];
    const char *text = cli_flag(cli, "since");
    uint64_t since = 0;
    bool hosts_only = cli->word_count > 0; /* which all may see */
    struct err err;
    if (text != NULL && parse_u64(text, &since, &err) < 0) {
        return cli_fail(cli, EXIT_USAGE, "--since: %s", err.text);
    }
    for (unsigned i = 0; i < cli->word_count; i++) {
        kinds[i] = object_kind(cli, cli->words[i]);
        if (kinds[i] == NULL) {
            return EXIT_USAGE;
        }
        hosts_only = hosts_only && kinds[i]->kind == KIND_HOST;
    }
    if (!hosts_only && !output_is_document(cli)) {
        sight_note(cli);
    }
    return watching_run(cli, kinds, cli->word_count, since);
}
