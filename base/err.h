/* Errors: one code space, a class that says whose move is next, and a text that grows
 * upwards.
 *
 * Shapes: a call returns 0 or a non-negative result, or a negative code: -Exxx from the
 * system, or one of the BERTH_E* codes below (-1000 and down). Where the caller needs
 * words as well it passes a `struct err *`, always the last parameter; it is filled where
 * the fault is seen and wrapped on the way up ("start vm web-3: attach disk root: no such
 * file"). A NULL `struct err *` is allowed everywhere and means that the caller wants the
 * code alone. Ownership: struct err is a plain value; nothing here allocates. Threads:
 * any; no shared state. Limits: ERR_TEXT_SIZE; longer texts are cut at a character
 * boundary.
 */
#pragma once

#include <stdarg.h>

#define ERR_TEXT_SIZE 512 /* a sentence, an id and two wrapped layers */

/* Whose move is next; API status, CLI exit code and log level derive from it. */
enum err_class {
    ERR_CLASS_RETRY =
        1,          /* try again, perhaps elsewhere: leadership, time-outs, full queues */
    ERR_CLASS_USER, /* the request has to change */
    ERR_CLASS_ENVIRONMENT, /* disk, network, kernel, another program */
    ERR_CLASS_BUG,         /* our own mistake */
};

/* X(code, number, class, sentence) */
#define BERTH_ERRORS(X)                                                          \
    X(BERTH_ENOTLEADER, -1000, RETRY, "this host is not the leader")             \
    X(BERTH_ENOLEADER, -1001, RETRY, "no leader is known")                       \
    X(BERTH_ETIMEOUT, -1002, RETRY, "timed out")                                 \
    X(BERTH_EUNKNOWN, -1003, RETRY, "the outcome is unknown")                    \
    X(BERTH_EFULL, -1004, RETRY, "a queue or limit is full")                     \
    X(BERTH_EBUSY, -1005, RETRY, "busy with another request")                    \
    X(BERTH_ECLOSED, -1006, RETRY, "closed")                                     \
    X(BERTH_EUNREACHABLE, -1007, RETRY, "the peer cannot be reached")            \
    X(BERTH_EINVALID, -1020, USER, "the input is not valid")                     \
    X(BERTH_ENOTFOUND, -1021, USER, "not found")                                 \
    X(BERTH_EEXISTS, -1022, USER, "exists already")                              \
    X(BERTH_ECONFLICT, -1023, USER, "the object has changed in the meantime")    \
    X(BERTH_EQUOTA, -1024, USER, "the quota does not allow it")                  \
    X(BERTH_ENOCAPACITY, -1025, USER, "no host fits")                            \
    X(BERTH_EAUTH, -1026, USER, "not authenticated")                             \
    X(BERTH_EFORBIDDEN, -1027, USER, "not allowed")                              \
    X(BERTH_EINUSE, -1028, USER, "still in use")                                 \
    X(BERTH_EREUSED, -1029, USER, "the request id was used for another request") \
    X(BERTH_ESTALE, -1030, USER, "the epoch is stale")                           \
    X(BERTH_EPHASE, -1031, USER, "the phase does not allow it")                  \
    X(BERTH_EUNSUPPORTED, -1032, USER, "not supported")                          \
    X(BERTH_ETOOLARGE, -1033, USER, "too large")                                 \
    X(BERTH_ELEVEL, -1034, USER, "the cluster's level does not allow it")        \
    X(BERTH_ECORRUPT, -1050, ENVIRONMENT, "the data is corrupt")                 \
    X(BERTH_EPROTO, -1051, ENVIRONMENT, "the message is malformed")              \
    X(BERTH_EDISKFULL, -1052, ENVIRONMENT, "the disk is full")                   \
    X(BERTH_ECHILD, -1053, ENVIRONMENT, "a helper program failed")               \
    X(BERTH_EBUG, -1090, BUG, "internal error")

enum berth_error {
#define BERTH_ERROR_ENUM(code, number, class, sentence) code = number,
    BERTH_ERRORS(BERTH_ERROR_ENUM)
#undef BERTH_ERROR_ENUM
};

struct err {
    int code;                 /* 0: nothing went wrong; else negative */
    char text[ERR_TEXT_SIZE]; /* NUL-terminated */
};

/* Fills *err (may be NULL) with code and text; returns code, so that a fault is one line:
 * `return err_set(err, BERTH_EINVALID, "memory: %s is too small", text);` */
int err_set(struct err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As err_set, with the system's text for `code` (-errno or BERTH_E*) appended after ": ".
 */
int err_sys(struct err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "<formatted>: " before the text that *err already holds; returns err->code (or
 * `code` when err is NULL), so `return err_wrap(err, r, "open state folder %s", path);`
 */
int err_wrap(struct err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* An analyser does not look into another file: this is what it may know of the returns.
 */
#define ERR_RETURNS(function, err, code, ...)           \
    __extension__({                                     \
        const int err_code = (code);                    \
        (void)(function)((err), err_code, __VA_ARGS__); \
        err_code;                                       \
    })
#define err_set(err, code, ...)  ERR_RETURNS(err_set, err, code, __VA_ARGS__)
#define err_sys(err, code, ...)  ERR_RETURNS(err_sys, err, code, __VA_ARGS__)
#define err_wrap(err, code, ...) ERR_RETURNS(err_wrap, err, code, __VA_ARGS__)
#endif

/* Symbolic name ("BERTH_ENOTLEADER", "ENOENT"), sentence and class of a code; never NULL.
 * 0 is "OK". ENOSPC, EIO and the like are ENVIRONMENT; EAGAIN, ETIMEDOUT are RETRY;
 * unknown codes are BUG. */
const char *err_name(int code);
const char *err_sentence(int code);
enum err_class err_class(int code);

/* The code with that symbolic name, or 0 when there is none (the inverse of err_name, for
 * the wire). */
int err_code(const char *name);
