/* What the tests of config share: whole files, faults as text, objects as documents.
 *
 * Errors: a file that cannot be read fails the test. Memory handed out is the caller's.
 */
#pragma once

#include "base/cleanup.h"
#include "config/config.h"
#include "model/document.h"

#include <check.h>

#include <stdlib.h>
#include <string.h>

/* The file's bytes and a NUL; NULL when there is no such file. */
static inline char *fixture_file(const char *path, size_t *ret_size)
{
    FILE *stream = fopen(path, "rbe");
    char *text = malloc(2 * CONFIG_SIZE_MAX);
    if (stream == NULL) {
        free(text);
        return NULL;
    }
    *ret_size = fread(text, 1, 2 * CONFIG_SIZE_MAX - 1, stream);
    text[*ret_size] = '\0';
    (void)fclose(stream); /* only read */
    return text;
}

static inline int fixture_read(const char *text, struct config *ret_config)
{
    return config_read("a.yaml", text, strlen(text), ret_config);
}

/* The faults as they are printed. */
static inline char *fixture_faults(const struct config *config)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    config_print_each(config, stream);
    config_print_sum(config->error_count, config->warning_count, stream);
    ck_assert_int_eq(fclose(stream), 0);
    return text;
}

/* The objects as a JSON array of documents. */
static inline json_t *fixture_documents(const struct config *config)
{
    json_t *documents = json_array();
    for (unsigned i = 0; i < config->object_count; i++) {
        const struct config_object *object = &config->objects[i];
        json_array_append_new(documents,
                              document_of(object->kind, object->object, false));
    }
    return documents;
}

/* Compares with a golden file; with BERTH_WRITE_DOCS set, writes it instead. */
static inline void fixture_check_golden(const char *path, const char *text)
{
    size_t size = 0;
    if (getenv("BERTH_WRITE_DOCS") != NULL) { // NOLINT(concurrency-mt-unsafe)
        FILE *stream = fopen(path, "wbe");
        ck_assert_ptr_nonnull(stream);
        ck_assert_int_ge(fputs(text, stream), 0);
        ck_assert_int_eq(fclose(stream), 0);
        return;
    }
    CLEANUP_FREE char *wanted = fixture_file(path, &size);
    ck_assert_msg(wanted != NULL, "%s is missing", path);
    unsigned line = 1;
    size_t start = 0; // of that line, in both
    size_t i = 0;
    for (; wanted[i] == text[i] && text[i] != '\0'; i++) {
        if (text[i] == '\n') {
            line++;
            start = i + 1;
        }
    }
    // The line alone: a page is longer than what Check takes as a message.
    ck_assert_msg(wanted[i] == text[i], "%s, line %u, says:\n%.*s\nbut it is:\n%.*s",
                  path, line, (int)strcspn(wanted + start, "\n"), wanted + start,
                  (int)strcspn(text + start, "\n"), text + start);
}
