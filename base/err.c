#include "base/err.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#ifdef __clang_analyzer__ /* the header wraps them */
#undef err_set
#undef err_sys
#undef err_wrap
#endif

/* Linux's own numbers end at 133; the search for a name stops here. */
#define ERRNO_MAX 256

struct error_row {
    int code;
    const char *name;
    const char *sentence;
    enum err_class class;
};

static const struct error_row error_rows[] = {
#define BERTH_ERROR_ROW(code, number, class, sentence) \
    {code, #code, sentence, ERR_CLASS_##class},
    BERTH_ERRORS(BERTH_ERROR_ROW)
#undef BERTH_ERROR_ROW
};

struct errno_row {
    int number;
    enum err_class class;
};

/* What is not named here is the machine's business. */
static const struct errno_row errno_rows[] = {
    {EAGAIN, ERR_CLASS_RETRY},      {EINTR, ERR_CLASS_RETRY},
    {ETIMEDOUT, ERR_CLASS_RETRY},   {EBUSY, ERR_CLASS_RETRY},
    {ECANCELED, ERR_CLASS_RETRY},   {ECONNREFUSED, ERR_CLASS_RETRY},
    {ECONNRESET, ERR_CLASS_RETRY},  {ECONNABORTED, ERR_CLASS_RETRY},
    {ENETUNREACH, ERR_CLASS_RETRY}, {EHOSTUNREACH, ERR_CLASS_RETRY},
    {ENOBUFS, ERR_CLASS_RETRY},     {EINPROGRESS, ERR_CLASS_RETRY},
    {EINVAL, ERR_CLASS_BUG},        {EFAULT, ERR_CLASS_BUG},
    {EBADF, ERR_CLASS_BUG},         {EDOM, ERR_CLASS_BUG},
    {ERANGE, ERR_CLASS_BUG},        {EDEADLK, ERR_CLASS_BUG},
    {ENOTSOCK, ERR_CLASS_BUG},      {EDESTADDRREQ, ERR_CLASS_BUG},
};

static const struct error_row *error_row_find(int code)
{
    for (size_t i = 0; i < ARRAY_COUNT(error_rows); i++) {
        if (error_rows[i].code == code) {
            return &error_rows[i];
        }
    }
    return NULL;
}

/* The system's errno for a code, or -1 when it cannot be one. */
static int system_number(int code)
{
    return code < 0 && code > -ERRNO_MAX ? -code : -1;
}

/* Ends text, of which `size` bytes are used, before a character that was cut in two. */
static void trim_partial_character(char *text, size_t size)
{
    size_t start = size;
    while (start > 0 && size - start < 4 &&
           ((unsigned char)text[start - 1] & 0xc0) == 0x80) {
        start--;
    }
    if (start == 0) {
        return;
    }
    unsigned char lead = (unsigned char)text[start - 1];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (want > 1 && size - (start - 1) < want) {
        text[start - 1] = '\0';
    }
}

/* Appends to text (capacity ERR_TEXT_SIZE) behind `size` bytes; the new size. */
static size_t append(char *text, size_t size, const char *more)
{
    size_t left = ERR_TEXT_SIZE - 1 - size;
    size_t length = strlen(more);
    size_t taken = length <= left ? length : left;
    memcpy(text + size, more, taken);
    text[size + taken] = '\0';
    if (taken < length) {
        trim_partial_character(text, size + taken);
        return strlen(text);
    }
    return size + taken;
}

/* Formats into a buffer of its own, for the arguments may point into the err that is
 * filled. */
static size_t format_text(char text[ERR_TEXT_SIZE], const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
static size_t format_text(char text[ERR_TEXT_SIZE], const char *format, va_list arguments)
{
    int length = vsnprintf(text, ERR_TEXT_SIZE, format, arguments);
    if (length < 0) {
        text[0] = '\0';
        return 0;
    }
    if (length >= ERR_TEXT_SIZE) {
        trim_partial_character(text, ERR_TEXT_SIZE - 1);
    }
    return strlen(text);
}

int err_set(struct err *err, int code, const char *format, ...)
{
    if (err == NULL) {
        return code;
    }
    char text[ERR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    size_t size = format_text(text, format, arguments);
    va_end(arguments);
    err->code = code;
    memcpy(err->text, text, size + 1);
    return code;
}

int err_sys(struct err *err, int code, const char *format, ...)
{
    if (err == NULL) {
        return code;
    }
    char text[ERR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    size_t size = format_text(text, format, arguments);
    va_end(arguments);
    size = append(text, size, ": ");
    size = append(text, size, err_sentence(code));
    err->code = code;
    memcpy(err->text, text, size + 1);
    return code;
}

int err_wrap(struct err *err, int code, const char *format, ...)
{
    if (err == NULL) {
        return code;
    }
    if (err->code == 0) { /* the callee gave only a code */
        err->code = code;
        err->text[0] = '\0';
        (void)append(err->text, 0, err_sentence(code));
    }
    char text[ERR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    size_t size = format_text(text, format, arguments);
    va_end(arguments);
    size = append(text, size, ": ");
    size = append(text, size, err->text);
    memcpy(err->text, text, size + 1);
    return err->code;
}

const char *err_name(int code)
{
    if (code == 0) {
        return "OK";
    }
    const struct error_row *row = error_row_find(code);
    if (row != NULL) {
        return row->name;
    }
    const char *name = strerrorname_np(system_number(code));
    return name != NULL ? name : "UNKNOWN";
}

const char *err_sentence(int code)
{
    if (code == 0) {
        return "no error";
    }
    const struct error_row *row = error_row_find(code);
    if (row != NULL) {
        return row->sentence;
    }
    const char *sentence = strerrordesc_np(system_number(code));
    return sentence != NULL ? sentence : "an unknown error";
}

enum err_class err_class(int code)
{
    const struct error_row *row = error_row_find(code);
    if (row != NULL) {
        return row->class;
    }
    int number = system_number(code);
    for (size_t i = 0; i < ARRAY_COUNT(errno_rows); i++) {
        if (errno_rows[i].number == number) {
            return errno_rows[i].class;
        }
    }
    return strerrorname_np(number) != NULL ? ERR_CLASS_ENVIRONMENT : ERR_CLASS_BUG;
}

int err_code(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(error_rows); i++) {
        if (strcmp(error_rows[i].name, name) == 0) {
            return error_rows[i].code;
        }
    }
    for (int number = 1; number < ERRNO_MAX; number++) {
        const char *candidate = strerrorname_np(number);
        if (candidate != NULL && strcmp(candidate, name) == 0) {
            return -number;
        }
    }
    return 0;
}
