#include "model/expression.h"

#include "base/parse_number.h"
#include "base/require.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WORD_SIZE 128 /* a fact, value or quoted text; longer words are refused */
/* Truth values wait on a bit set while a rule is evaluated, operators on an array while
 * it is compiled: neither outgrows the number of steps. */
#define STACK_MAX 64
_Static_assert(EXPRESSION_STEPS_MAX <= STACK_MAX, "the bit set holds every step's value");

enum fact {
    FACT_NAME = 0,
    FACT_LABEL,
    FACT_KVM,
    FACT_ENGINE,
    FACT_CORES,
    FACT_MEMORY,
    FACT_NUMA,
    FACT_COUNT
};

/* A step pushes a comparison, or replaces the topmost truth values by their combination.
 * A list is one EQUAL and then OR_EQUAL per further value. */
enum step_op {
    STEP_EQUAL = 0,
    STEP_OR_EQUAL,
    STEP_UNEQUAL,
    STEP_LESS,
    STEP_LESS_OR_EQUAL,
    STEP_GREATER,
    STEP_GREATER_OR_EQUAL,
    STEP_NOT,
    STEP_AND,
    STEP_OR,
    STEP_OPEN, /* a parenthesis: on the compiler's stack only */
};

enum fact_kind { FACT_OF_TEXT = 0, FACT_OF_NAMES, FACT_OF_NUMBER, FACT_OF_BYTES };

struct fact_row {
    const char *text;
    const char *const *names; /* of FACT_OF_NAMES */
    enum fact_kind kind;
    uint32_t first_value; /* of names */
};

#define LABEL_PREFIX "host.label."
#define ZONE_KEY     "zone"

static const struct fact_row fact_rows[FACT_COUNT] = {
    [FACT_NAME] = {"host.name", NULL, FACT_OF_TEXT, 0},
    [FACT_LABEL] = {LABEL_PREFIX, NULL, FACT_OF_TEXT, 0},
    [FACT_KVM] = {"host.kvm", kvm_kind_names, FACT_OF_NAMES, KVM_NONE},
    /* "auto" is a wish, no engine a host could offer. */
    [FACT_ENGINE] = {"host.engine", engine_names, FACT_OF_NAMES, ENGINE_QEMU},
    [FACT_CORES] = {"host.cpu.cores", NULL, FACT_OF_NUMBER, 0},
    [FACT_MEMORY] = {"host.memory", NULL, FACT_OF_BYTES, 0},
    [FACT_NUMA] = {"host.numa", NULL, FACT_OF_NUMBER, 0},
};

/* ---- words ---- */

enum token_kind {
    TOKEN_END = 0,
    TOKEN_WORD,
    TOKEN_QUOTED,
    TOKEN_NOT,
    TOKEN_AND,
    TOKEN_OR,
    TOKEN_IN,
    TOKEN_COMPARE, /* token.op says which */
    TOKEN_PAREN_OPEN,
    TOKEN_PAREN_CLOSE,
    TOKEN_LIST_OPEN,
    TOKEN_LIST_CLOSE,
    TOKEN_COMMA,
};

struct rule_token {
    enum token_kind kind;
    enum step_op op;
    unsigned column;
    char text[WORD_SIZE]; /* as written; the inside of a quoted text */
};

struct symbol {
    const char *text;
    enum token_kind kind;
    enum step_op op;
};

/* Longer symbols first. */
static const struct symbol symbols[] = {
    {"==", TOKEN_COMPARE, STEP_EQUAL},
    {"!=", TOKEN_COMPARE, STEP_UNEQUAL},
    {"<=", TOKEN_COMPARE, STEP_LESS_OR_EQUAL},
    {">=", TOKEN_COMPARE, STEP_GREATER_OR_EQUAL},
    {"<", TOKEN_COMPARE, STEP_LESS},
    {">", TOKEN_COMPARE, STEP_GREATER},
    {"(", TOKEN_PAREN_OPEN, STEP_OPEN},
    {")", TOKEN_PAREN_CLOSE, STEP_OPEN},
    {"[", TOKEN_LIST_OPEN, STEP_EQUAL},
    {"]", TOKEN_LIST_CLOSE, STEP_EQUAL},
    {",", TOKEN_COMMA, STEP_EQUAL},
};

static const struct symbol keywords[] = {
    {"not", TOKEN_NOT, STEP_NOT},
    {"and", TOKEN_AND, STEP_AND},
    {"or", TOKEN_OR, STEP_OR},
    {"in", TOKEN_IN, STEP_EQUAL},
};

struct compiler {
    const char *text;
    size_t position;
    struct rule_token token; /* the one looked at */
    struct expression *out;
    size_t texts_size;
    enum step_op stack[STACK_MAX];
    unsigned stack_count;
    unsigned *ret_column;
    struct err *err;
};

/* Reports what was wrong at the column; the reader of a rule counts from 1. */
static int fault(struct compiler *compiler, unsigned column, const char *message)
{
    if (compiler->ret_column != NULL) {
        *compiler->ret_column = column;
    }
    (void)err_set(compiler->err, BERTH_EINVALID, "column %u: %s", column, message);
    char *at = compiler->err != NULL ? compiler->err->text : NULL;
    for (; at != NULL && *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *at = '?'; /* quoted text may hold anything */
        }
    }
    return BERTH_EINVALID;
}

/* What was expected at the token looked at, and what is there instead. */
static int fault_expected(struct compiler *compiler, const char *expected)
{
    const struct rule_token *token = &compiler->token;
    char message[ERR_TEXT_SIZE / 2];
    (void)snprintf(message, sizeof(message), "expected %s, found %s%.64s%s", expected,
                   token->kind == TOKEN_END ? "" : "\"",
                   token->kind == TOKEN_END ? "the end" : token->text,
                   token->kind == TOKEN_END ? "" : "\""); /* may be cut */
    return fault(compiler, token->column, message);
}

static bool is_word_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') ||
           (byte != '\0' && strchr("_.-/:", byte) != NULL);
}

static int take_text(struct compiler *compiler, size_t start, size_t size)
{
    struct rule_token *token = &compiler->token;
    if (size >= sizeof(token->text)) {
        return fault(compiler, token->column, "this word is too long");
    }
    memcpy(token->text, compiler->text + start, size);
    token->text[size] = '\0';
    return 0;
}

static int read_quoted(struct compiler *compiler)
{
    char quote = compiler->text[compiler->position];
    size_t start = compiler->position + 1;
    const char *end = strchr(compiler->text + start, quote);
    if (end == NULL) {
        return fault(compiler, compiler->token.column, "this quote is never closed");
    }
    size_t size = (size_t)(end - compiler->text) - start;
    compiler->token.kind = TOKEN_QUOTED;
    compiler->position = start + size + 1;
    return take_text(compiler, start, size);
}

static int read_word(struct compiler *compiler)
{
    size_t start = compiler->position;
    while (is_word_byte(compiler->text[compiler->position])) {
        compiler->position++;
    }
    int r = take_text(compiler, start, compiler->position - start);
    compiler->token.kind = TOKEN_WORD;
    for (size_t i = 0; r == 0 && i < sizeof(keywords) / sizeof(keywords[0]); i++) {
        if (strcmp(compiler->token.text, keywords[i].text) == 0) {
            compiler->token.kind = keywords[i].kind;
            compiler->token.op = keywords[i].op;
        }
    }
    return r;
}

static int read_symbol(struct compiler *compiler)
{
    const char *at = compiler->text + compiler->position;
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        size_t size = strlen(symbols[i].text);
        if (strncmp(at, symbols[i].text, size) == 0) {
            compiler->token.kind = symbols[i].kind;
            compiler->token.op = symbols[i].op;
            int r = take_text(compiler, compiler->position, size);
            compiler->position += size;
            return r;
        }
    }
    if (*at == '=') {
        return fault(compiler, compiler->token.column, "a single \"=\": write \"==\"");
    }
    return fault(compiler, compiler->token.column,
                 "a character that has no meaning here");
}

static int next_token(struct compiler *compiler)
{
    while (compiler->text[compiler->position] == ' ' ||
           compiler->text[compiler->position] == '\t' ||
           compiler->text[compiler->position] == '\n') {
        compiler->position++;
    }
    char first = compiler->text[compiler->position];
    compiler->token.column = (unsigned)compiler->position + 1;
    compiler->token.text[0] = '\0';
    if (first == '\0') {
        compiler->token.kind = TOKEN_END;
        return 0;
    }
    if (first == '"' || first == '\'') {
        return read_quoted(compiler);
    }
    return is_word_byte(first) ? read_word(compiler) : read_symbol(compiler);
}

/* ---- comparisons ---- */

static int emit(struct compiler *compiler, struct expression_step step, unsigned column)
{
    struct expression *out = compiler->out;
    if (out->step_count == EXPRESSION_STEPS_MAX) {
        return fault(compiler, column, "the rule is too long from here on");
    }
    out->steps[out->step_count++] = step;
    return 0;
}

/* Keeps a copy of the text in the expression. */
static int keep_text(struct compiler *compiler, const char *text, uint16_t *ret_offset)
{
    size_t size = strlen(text) + 1;
    if (size > sizeof(compiler->out->texts) - compiler->texts_size) {
        return fault(compiler, compiler->token.column, "the rule holds too much text");
    }
    memcpy(compiler->out->texts + compiler->texts_size, text, size);
    *ret_offset = (uint16_t)compiler->texts_size;
    compiler->texts_size += size;
    return 0;
}

/* The fact the token names; a label's key goes into step->number. */
static int read_fact(struct compiler *compiler, struct expression_step *step)
{
    const char *text = compiler->token.text;
    const char *key = strcmp(text, "host." ZONE_KEY) == 0 ? ZONE_KEY : NULL;
    if (strncmp(text, LABEL_PREFIX, strlen(LABEL_PREFIX)) == 0) {
        key = text + strlen(LABEL_PREFIX);
    }
    if (key != NULL && key[0] != '\0' && strlen(key) < NAME_SIZE) {
        uint16_t offset = 0;
        int r = keep_text(compiler, key, &offset);
        step->fact = FACT_LABEL;
        step->number = offset;
        return r;
    }
    for (unsigned i = 0; i < FACT_COUNT; i++) {
        if (i != FACT_LABEL && strcmp(text, fact_rows[i].text) == 0) {
            step->fact = (uint8_t)i;
            return 0;
        }
    }
    return fault_expected(compiler,
                          "a fact: host.name, host.zone, host.label.KEY, host.kvm, "
                          "host.engine, host.cpu.cores, host.memory or host.numa");
}

static bool is_ordering(enum step_op op)
{
    return op >= STEP_LESS && op <= STEP_GREATER_OR_EQUAL;
}

/* The index of one of the fact's names. */
static int read_named_value(struct compiler *compiler, struct expression_step *step)
{
    const struct fact_row *row = &fact_rows[step->fact];
    char known[64] = "one of";
    for (uint32_t i = row->first_value; row->names[i] != NULL; i++) {
        if (strcmp(compiler->token.text, row->names[i]) == 0) {
            step->number = i;
            return 0;
        }
        size_t size = strlen(known);
        (void)snprintf(known + size, sizeof(known) - size, " %s", row->names[i]);
    }
    return fault_expected(compiler, known);
}

static int read_number_value(struct compiler *compiler, struct expression_step *step)
{
    const char *text = compiler->token.text;
    if (parse_u64(text, &step->number, NULL) == 0) {
        return 0;
    }
    if (fact_rows[step->fact].kind != FACT_OF_BYTES) {
        return fault_expected(compiler, "a number");
    }
    return parse_bytes(text, &step->number, NULL) == 0
               ? 0
               : fault_expected(compiler, "a size such as 64GiB");
}

/* Reads the value that the token holds into the step, and steps over it. */
static int read_value(struct compiler *compiler, struct expression_step *step)
{
    const struct rule_token *token = &compiler->token;
    uint64_t number = 0;
    int r = 0;
    if (token->kind != TOKEN_WORD && token->kind != TOKEN_QUOTED) {
        return fault_expected(compiler, "a value");
    }
    switch (fact_rows[step->fact].kind) {
    case FACT_OF_TEXT:
        if (is_ordering(step->op) && parse_u64(token->text, &number, NULL) < 0) {
            return fault_expected(compiler, "a number");
        }
        r = keep_text(compiler, token->text, &step->text);
        break;
    case FACT_OF_NAMES:
        r = read_named_value(compiler, step);
        break;
    default:
        r = read_number_value(compiler, step);
        break;
    }
    return r == 0 ? next_token(compiler) : r;
}

/* "[VALUE, ...]" of `FACT in`. */
static int read_list(struct compiler *compiler, struct expression_step step)
{
    int r = next_token(compiler);
    if (r == 0 && compiler->token.kind != TOKEN_LIST_OPEN) {
        return fault_expected(compiler, "\"[\"");
    }
    step.op = STEP_EQUAL;
    do {
        if (r == 0) {
            r = next_token(compiler); /* over the bracket or comma */
        }
        unsigned column = compiler->token.column;
        if (r == 0) {
            r = read_value(compiler, &step);
        }
        if (r == 0) {
            r = emit(compiler, step, column);
        }
        step.op = STEP_OR_EQUAL;
    } while (r == 0 && compiler->token.kind == TOKEN_COMMA);
    if (r == 0 && compiler->token.kind != TOKEN_LIST_CLOSE) {
        return fault_expected(compiler, "\",\" or \"]\"");
    }
    return r == 0 ? next_token(compiler) : r;
}

static int read_comparison(struct compiler *compiler)
{
    struct expression_step step = {0};
    unsigned column = compiler->token.column;
    int r = read_fact(compiler, &step);
    if (r == 0) {
        r = next_token(compiler);
    }
    if (r < 0) {
        return r;
    }
    if (compiler->token.kind == TOKEN_IN) {
        return read_list(compiler, step);
    }
    if (compiler->token.kind != TOKEN_COMPARE) {
        return fault_expected(compiler, "a comparison such as \"==\", or \"in\"");
    }
    step.op = (uint8_t)compiler->token.op;
    if (is_ordering(step.op) &&
        (fact_rows[step.fact].kind == FACT_OF_NAMES || step.fact == FACT_NAME)) {
        return fault(compiler, compiler->token.column,
                     "this fact has no order: use ==, != or in");
    }
    r = next_token(compiler);
    if (r == 0) {
        r = read_value(compiler, &step);
    }
    return r == 0 ? emit(compiler, step, column) : r;
}

/* ---- precedence: operators wait on a stack until what binds weaker comes ---- */

/* Moves waiting operators that bind at least as strongly into the steps. The enum is in
 * order of strength: NOT, AND, OR, and an open parenthesis stops everything. */
static int pop_operators(struct compiler *compiler, enum step_op until)
{
    int r = 0;
    while (r == 0 && compiler->stack_count > 0 &&
           compiler->stack[compiler->stack_count - 1] <= until) {
        enum step_op op = compiler->stack[--compiler->stack_count];
        r = emit(compiler, (struct expression_step){.op = (uint8_t)op},
                 compiler->token.column);
    }
    return r;
}

static int push_operator(struct compiler *compiler)
{
    if (compiler->stack_count == STACK_MAX) {
        return fault(compiler, compiler->token.column, "the rule is nested too deeply");
    }
    compiler->stack[compiler->stack_count++] = compiler->token.op;
    return next_token(compiler);
}

static int close_paren(struct compiler *compiler)
{
    int r = pop_operators(compiler, STEP_OR);
    if (r < 0) {
        return r;
    }
    if (compiler->stack_count == 0) {
        return fault(compiler, compiler->token.column, "this \")\" closes nothing");
    }
    compiler->stack_count--; /* the open one */
    return next_token(compiler);
}

/* Reads "not", "(" and comparisons, up to and with one comparison. */
static int read_operand(struct compiler *compiler)
{
    int r = 0;
    while (r == 0 && (compiler->token.kind == TOKEN_NOT ||
                      compiler->token.kind == TOKEN_PAREN_OPEN)) {
        r = push_operator(compiler);
    }
    if (r < 0) {
        return r;
    }
    if (compiler->token.kind != TOKEN_WORD) {
        return fault_expected(compiler, "a fact such as host.zone, \"not\" or \"(\"");
    }
    return read_comparison(compiler);
}

static int compile(struct compiler *compiler)
{
    int r = next_token(compiler);
    while (r == 0) {
        r = read_operand(compiler);
        while (r == 0 && compiler->token.kind == TOKEN_PAREN_CLOSE) {
            r = close_paren(compiler);
        }
        if (r < 0 || compiler->token.kind == TOKEN_END) {
            break;
        }
        if (compiler->token.kind != TOKEN_AND && compiler->token.kind != TOKEN_OR) {
            return fault_expected(compiler, "\"and\", \"or\" or the end");
        }
        r = pop_operators(compiler, compiler->token.op);
        if (r == 0) {
            r = push_operator(compiler);
        }
    }
    if (r == 0) {
        r = pop_operators(compiler, STEP_OR);
    }
    if (r == 0 && compiler->stack_count > 0) {
        return fault_expected(compiler, "\")\"");
    }
    return r;
}

const char *expression_fact(unsigned index)
{
    return index == FACT_LABEL  ? "host." ZONE_KEY /* the one label with a word */
           : index < FACT_COUNT ? fact_rows[index].text
                                : NULL;
}

int expression_compile(const char *text,
                       struct expression *ret_expression,
                       unsigned *ret_column,
                       struct err *err)
{
    struct expression expression = {0};
    struct compiler compiler = {
        .text = text, .out = &expression, .ret_column = ret_column, .err = err};
    if (strlen(text) > EXPRESSION_TEXT_MAX) {
        return fault(&compiler, EXPRESSION_TEXT_MAX + 1,
                     "the rule is too long from here on");
    }
    int r = compile(&compiler);
    if (r == 0) {
        *ret_expression = expression;
    }
    return r;
}

/* ---- facts of a host ---- */

static uint64_t fact_number(enum fact fact, const struct host *host)
{
    switch (fact) {
    case FACT_KVM:
        return host->status.kvm;
    case FACT_CORES:
        return host->status.cores;
    case FACT_MEMORY:
        return host->status.memory_bytes;
    case FACT_NUMA:
        return host->status.numa_nodes;
    default:
        return 0;
    }
}

/* The text of a name or label fact, NULL when the host has none. */
static const char *fact_text(const struct expression *expression,
                             const struct expression_step *step,
                             const struct host *host)
{
    if (step->fact == FACT_NAME) {
        return host->meta.name;
    }
    return label_value(&host->meta.labels, expression->texts + step->number);
}

static bool compare_numbers(enum step_op op, uint64_t left, uint64_t right)
{
    switch (op) {
    case STEP_LESS:
        return left < right;
    case STEP_LESS_OR_EQUAL:
        return left <= right;
    case STEP_GREATER:
        return left > right;
    case STEP_GREATER_OR_EQUAL:
        return left >= right;
    default:
        return left == right;
    }
}

/* Labels are equal as texts, and are ordered as numbers when they are numbers. */
static bool compare_texts(enum step_op op, const char *left, const char *right)
{
    uint64_t left_number = 0;
    uint64_t right_number = 0;
    if (left == NULL) {
        return false;
    }
    if (!is_ordering(op)) {
        return strcmp(left, right) == 0;
    }
    return parse_u64(left, &left_number, NULL) == 0 &&
           parse_u64(right, &right_number, NULL) == 0 &&
           compare_numbers(op, left_number, right_number);
}

static bool step_holds(const struct expression *expression,
                       const struct expression_step *step,
                       const struct host *host)
{
    bool holds = false;
    if (step->fact == FACT_ENGINE) {
        holds = (host->status.engines & ENGINE_BIT(step->number)) != 0;
    } else if (fact_rows[step->fact].kind == FACT_OF_TEXT) {
        holds = compare_texts(step->op, fact_text(expression, step, host),
                              expression->texts + step->text);
    } else {
        holds = compare_numbers(step->op, fact_number(step->fact, host), step->number);
    }
    return step->op == STEP_UNEQUAL ? !holds : holds;
}

bool expression_holds(const struct expression *expression, const struct host *host)
{
    uint64_t stack = 0; /* truth values, the topmost in bit 0 */
    unsigned depth = 0;
    for (uint32_t i = 0; i < expression->step_count; i++) {
        const struct expression_step *step = &expression->steps[i];
        uint64_t top = stack & 1;
        switch (step->op) {
        case STEP_NOT:
            stack ^= 1;
            break;
        case STEP_AND:
        case STEP_OR:
            REQUIRE(depth >= 2);
            depth--;
            stack >>= 1;
            stack = step->op == STEP_AND ? stack & ~(top ^ 1) : stack | top;
            break;
        case STEP_OR_EQUAL:
            stack |= step_holds(expression, step, host) ? 1 : 0;
            break;
        default:
            depth++;
            stack = stack << 1 | (step_holds(expression, step, host) ? 1 : 0);
            break;
        }
    }
    REQUIRE(depth == 1);
    return (stack & 1) != 0;
}

bool expression_wants_label(const struct expression *expression,
                            const char **ret_key,
                            const char **ret_value)
{
    const struct expression_step *first = &expression->steps[0];
    bool wants = expression->step_count > 0 && first->op == STEP_EQUAL &&
                 first->fact == FACT_LABEL;
    for (uint32_t i = 1; i < expression->step_count && wants; i++) {
        wants = expression->steps[i].op == STEP_OR_EQUAL; /* in [...] */
    }
    if (wants) {
        *ret_key = expression->texts + first->number;
        *ret_value = expression->texts + first->text;
    }
    return wants;
}

/* ---- explanation ---- */

/* Whether an earlier step asks for the same fact. */
static bool seen_before(const struct expression *expression, uint32_t index)
{
    const struct expression_step *step = &expression->steps[index];
    for (uint32_t i = 0; i < index; i++) {
        const struct expression_step *earlier = &expression->steps[i];
        if (earlier->op < STEP_NOT && earlier->fact == step->fact &&
            (step->fact != FACT_LABEL || strcmp(expression->texts + earlier->number,
                                                expression->texts + step->number) == 0)) {
            return true;
        }
    }
    return false;
}

static void fact_name(const struct expression *expression,
                      const struct expression_step *step,
                      char *ret_text,
                      size_t capacity)
{
    const char *key = step->fact == FACT_LABEL ? expression->texts + step->number : "";
    (void)snprintf(ret_text, capacity, "%s%s", fact_rows[step->fact].text, key);
}

static void engines_text(uint32_t engines, char *ret_text, size_t capacity)
{
    size_t size = 0;
    (void)snprintf(ret_text, capacity, "none");
    for (uint32_t i = ENGINE_QEMU; i < ENGINE_COUNT; i++) {
        if ((engines & ENGINE_BIT(i)) != 0 && size < capacity) {
            int length = snprintf(ret_text + size, capacity - size, "%s%s",
                                  size > 0 ? " and " : "", engine_names[i]);
            size += length > 0 ? (size_t)length : 0;
        }
    }
}

/* What the host has to say about a step's fact. */
static void fact_value(const struct expression *expression,
                       const struct expression_step *step,
                       const struct host *host,
                       char *ret_text,
                       size_t capacity)
{
    const char *text = NULL;
    char number[NUMBER_TEXT_SIZE];
    switch (step->fact) {
    case FACT_NAME:
    case FACT_LABEL:
        text = fact_text(expression, step, host);
        (void)snprintf(ret_text, capacity, "%s", text != NULL ? text : "not set");
        break;
    case FACT_KVM:
        (void)snprintf(ret_text, capacity, "%s",
                       host->status.kvm <= KVM_NATIVE ? kvm_kind_names[host->status.kvm]
                                                      : "unknown");
        break;
    case FACT_ENGINE:
        engines_text(host->status.engines, ret_text, capacity);
        break;
    case FACT_MEMORY:
        format_bytes(host->status.memory_bytes, number);
        (void)snprintf(ret_text, capacity, "%s", number);
        break;
    default:
        (void)snprintf(ret_text, capacity, "%" PRIu64, fact_number(step->fact, host));
        break;
    }
}

void expression_explain(const struct expression *expression,
                        const char *text,
                        const struct host *host,
                        char *ret_text,
                        size_t capacity)
{
    unsigned facts = 0;
    for (uint32_t i = 0; i < expression->step_count; i++) {
        facts +=
            expression->steps[i].op < STEP_NOT && !seen_before(expression, i) ? 1 : 0;
    }
    /* Texts that do not fit are cut: this is for people. */
    size_t size = 0;
    const char *gap = " (";
    int length = snprintf(ret_text, capacity, "%s", text);
    for (uint32_t i = 0; length >= 0; i++) {
        size += (size_t)length;
        if (size >= capacity) {
            return;
        }
        while (i < expression->step_count &&
               (expression->steps[i].op >= STEP_NOT || seen_before(expression, i))) {
            i++;
        }
        if (i >= expression->step_count) {
            break;
        }
        char name[WORD_SIZE];
        char value[WORD_SIZE];
        fact_name(expression, &expression->steps[i], name, sizeof(name));
        fact_value(expression, &expression->steps[i], host, value, sizeof(value));
        length = snprintf(ret_text + size, capacity - size, "%s%s%sis %s", gap,
                          facts > 1 ? name : "", facts > 1 ? " " : "", value);
        gap = ", ";
    }
    (void)snprintf(ret_text + size, capacity - size, "%s", facts > 0 ? ")" : "");
}
