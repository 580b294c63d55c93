#include "cli/completion.h"

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/help.h"
#include "model/objects.h"

#include <stdbool.h>
#include <string.h>

#define TOPICS_MAX 32

/* What a command's words are, by what its usage line calls them. */
static const struct {
    const char *argument;
    const char *action; /* of _berth_offer */
} arguments[] = {
    {"KIND/NAME", "object"},     {"[KIND", "kind"}, {"VM", "vm"},
    {"GROUP", "group"},          {"HOST", "host"},  {"FILE", "file"},
    {"[COMMAND|TOPIC]", "help"}, {"[VM]", "vm"},    {"SNAPSHOT", "snapshot"},
};

static const char head[] =
    "# Completion of berth. Made by `berth completion`; names come from the cluster.\n"
    "_berth_names() { # KIND: names of its objects, without their tenants; asked as the "
    "line\n"
    "    # will be, with its --server, --state, -t and so on\n"
    "    timeout 1 berth ls \"$1\" -o name -q \"${_berth_asked[@]}\" </dev/null "
    "2>/dev/null |\n"
    "        sed 's,.*/,,' |\n"
    "        LC_ALL=C grep -xE '[A-Za-z0-9][A-Za-z0-9._-]*'\n"
    "}\n";

/* What a server sends, and what files are called, is data: `compgen -W` would expand it
 * as the shell's own words. */
static const char tail[] =
    "_berth_pick() { # PREFIX WORD: offers the lines that begin with WORD, as they are\n"
    "    local line\n"
    "    while IFS= read -r line; do\n"
    "        if [[ $line == \"$2\"* ]]; then COMPREPLY+=(\"$1$line\"); fi\n"
    "    done\n"
    "}\n"
    "_berth_offer() { # ACTION WORD\n"
    "    local kind=${2%%/*}\n"
    "    case $1 in\n"
    "    kind) COMPREPLY=($(compgen -W \"$_berth_kinds\" -- \"$2\")) ;;\n"
    "    vm | group | host | tenant | snapshot) _berth_pick '' \"$2\" < <(_berth_names "
    "\"$1\") ;;\n"
    "    object)\n"
    "        if [[ $2 == */* ]]; then\n"
    "            _berth_pick \"$kind/\" \"${2#*/}\" < <(_berth_names \"$kind\")\n"
    "        else\n"
    "            COMPREPLY=($(compgen -S / -W \"$_berth_kinds\" -- \"$2\"))\n"
    "            compopt -o nospace 2>/dev/null\n"
    "        fi ;;\n"
    "    help) COMPREPLY=($(compgen -W \"$(_berth_next '') $_berth_topics\" -- \"$2\")) "
    ";;\n"
    "    file)\n"
    "        _berth_pick '' '' < <(compgen -f -- \"$2\")\n"
    "        compopt -o filenames 2>/dev/null ;;\n"
    "    esac\n"
    "}\n"
    "_berth_words() { # the words before the cursor: bash divides https://h1:7443 and "
    "a=b\n"
    "    local at part glue=no\n"
    "    _berth_before=()\n"
    "    for ((at = 1; at < COMP_CWORD; at++)); do\n"
    "        part=${COMP_WORDS[at]//[\\\"\\']/}\n"
    "        if [[ ${#_berth_before[@]} -gt 0 && ($glue = yes || $part =~ ^[:=]+$) ]]; "
    "then\n"
    "            _berth_before[-1]+=$part\n"
    "        else\n"
    "            _berth_before+=(\"$part\")\n"
    "        fi\n"
    "        if [[ $part =~ ^[:=]+$ ]]; then glue=yes; else glue=no; fi\n"
    "    done\n"
    "}\n"
    "_berth_ask() { # FLAG VALUE: kept when it says whom to ask, and for what\n"
    "    case $1 in\n"
    "    --server | --state | --token | --pin | --tenant | -t) _berth_asked+=(\"$1\" "
    "\"$2\") ;;\n"
    "    esac\n"
    "}\n"
    "_berth() {\n"
    "    local word=${COMP_WORDS[COMP_CWORD]} command='' said='' part flag "
    "flag_value=no\n"
    "    local _berth_before _berth_asked=()\n"
    "    COMPREPLY=()\n"
    "    _berth_words\n"
    "    for part in \"${_berth_before[@]}\"; do\n"
    "        if [[ $flag_value != no ]]; then\n"
    "            _berth_ask \"$flag\" \"$part\"\n"
    "            flag_value=no\n"
    "        elif [[ $part == --*=* ]]; then\n"
    "            _berth_ask \"${part%%=*}\" \"${part#*=}\"\n"
    "        elif [[ $part == -* ]]; then\n"
    "            flag=$part\n"
    "            flag_value=$(_berth_flag_value \"$command\" \"$part\")\n"
    "        else\n"
    "            said=\"$said${said:+ }$part\"\n"
    "            if [[ -n $(_berth_flags \"$said\") ]]; then command=$said; fi\n"
    "        fi\n"
    "    done\n"
    "    if [[ $flag_value != no ]]; then\n"
    "        case $flag_value in\n"
    "        KIND) _berth_offer kind \"$word\" ;;\n"
    "        TENANT) _berth_offer tenant \"$word\" ;;\n"
    "        FORMAT) COMPREPLY=($(compgen -W \"$_berth_formats\" -- \"$word\")) ;;\n"
    "        ROLE) COMPREPLY=($(compgen -W 'viewer operator admin' -- \"$word\")) ;;\n"
    "        FILE | DIR) _berth_offer file \"$word\" ;;\n"
    "        esac\n"
    "    elif [[ $word == -* ]]; then\n"
    "        COMPREPLY=($(compgen -W \"$(_berth_flags \"$command\") $_berth_global\" -- "
    "\"$word\"))\n"
    "    elif [[ -z $command ]]; then\n"
    "        COMPREPLY=($(compgen -W \"$(_berth_next \"$said\")\" -- \"$word\"))\n"
    "    elif [[ $command == help && -n ${said#help} ]]; then\n"
    "        COMPREPLY=($(compgen -W \"$(_berth_next \"${said#help }\")\" -- "
    "\"$word\"))\n"
    "    else\n"
    "        _berth_offer \"$(_berth_takes \"$command\")\" \"$word\"\n"
    "    fi\n"
    "}\n"
    "complete -F _berth berth\n";

static void print_kinds(FILE *stream)
{
    const char *space = "";
    fputs("_berth_kinds='", stream);
    for (int kind = 1; kind < KIND_COUNT; kind++) {
        fprintf(stream, "%s%s", space, kind_info((enum kind)kind)->word);
        space = " ";
    }
    fputs("'\n_berth_formats='", stream);
    for (unsigned i = 0; cli_format_names[i] != NULL; i++) {
        fprintf(stream, "%s%s", i > 0 ? " " : "", cli_format_names[i]);
    }
    fputs("'\n_berth_topics='", stream);
    const char *topics[TOPICS_MAX];
    unsigned count = help_topic_names(topics, TOPICS_MAX);
    for (unsigned i = 0; i < count; i++) {
        fprintf(stream, "%s ", topics[i]);
    }
    fputs("topics reference'\n", stream);
}

static void print_flags(const struct cli_flag_spec *flags, FILE *stream)
{
    for (unsigned i = 0; flags[i].name != NULL; i++) {
        fprintf(stream, "%s--%s", i > 0 ? " " : "", flags[i].name);
    }
}

/* The flags of each command; something for each, which tells that it is one. */
static void print_command_flags(FILE *stream)
{
    fputs("_berth_global='", stream);
    print_flags(cli_global_flags, stream);
    fputs("'\n_berth_flags() { # COMMAND\n    case $1 in\n", stream);
    for (const struct cli_command *row = cli_commands; row->name != NULL; row++) {
        fprintf(stream, "    '%s') echo '", row->name);
        print_flags(row->flags, stream);
        fputs(row->flags[0].name == NULL ? "--help' ;;\n" : "' ;;\n", stream);
    }
    fputs("    esac\n}\n", stream);
}

static void
print_flag_values(const char *command, const struct cli_flag_spec *flags, FILE *stream)
{
    for (; flags->name != NULL; flags++) {
        fprintf(stream, "    '%s --%s'", command, flags->name);
        if (flags->letter != 0) {
            fprintf(stream, " | '%s -%c'", command, flags->letter);
        }
        fprintf(stream, ") echo %s ;;\n",
                flags->argument == NULL                ? "no"
                : strchr(flags->argument, '=') != NULL ? "TEXT"
                                                       : flags->argument);
    }
}

/* What the value of a flag is called, or no: the command's own flags first. */
static void print_values(FILE *stream)
{
    fputs("_berth_flag_value() { # COMMAND FLAG\n    case \"$1 $2\" in\n", stream);
    for (const struct cli_command *row = cli_commands; row->name != NULL; row++) {
        print_flag_values(row->name, row->flags, stream);
    }
    fputs("    *) case \" $2\" in\n", stream);
    print_flag_values("", cli_global_flags, stream);
    fputs("    *) echo no ;;\n    esac ;;\n    esac\n}\n", stream);
}

/* The words that may follow: first words for none, second words after such a first. */
static void print_next(FILE *stream)
{
    fputs("_berth_next() { # WORDS\n    local name last=''\n    for name in", stream);
    for (const struct cli_command *row = cli_commands; row->name != NULL; row++) {
        fprintf(stream, " '%s'", row->name);
    }
    fputs("; do\n"
          "        name=\"$name \"\n"
          "        if [[ -z $1 ]]; then\n"
          "            if [[ ${name%% *} != \"$last\" ]]; then echo \"${name%% *}\"; fi\n"
          "            last=${name%% *}\n"
          "        elif [[ $name == \"$1 \"* ]]; then echo \"${name#\"$1 \"}\"; fi\n"
          "    done\n}\n",
          stream);
}

static void print_takes(FILE *stream)
{
    fputs("_berth_takes() { # COMMAND\n    case $1 in\n", stream);
    for (const struct cli_command *row = cli_commands; row->name != NULL; row++) {
        for (size_t i = 0; row->arguments != NULL && i < ARRAY_COUNT(arguments); i++) {
            size_t size = strlen(arguments[i].argument);
            if (strncmp(row->arguments, arguments[i].argument, size) == 0) {
                fprintf(stream, "    '%s') echo %s ;;\n", row->name, arguments[i].action);
                break;
            }
        }
    }
    fputs("    esac\n}\n", stream);
}

void completion_bash(FILE *stream)
{
    fputs(head, stream);
    print_kinds(stream);
    print_command_flags(stream);
    print_values(stream);
    print_next(stream);
    print_takes(stream);
    fputs(tail, stream);
}

void completion_zsh(FILE *stream)
{
    fputs("autoload -Uz +X bashcompinit && bashcompinit\n", stream);
    completion_bash(stream);
}
