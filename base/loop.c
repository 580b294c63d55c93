#include "base/loop.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/require.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What is still in the pipes when a child has ended is read in at most this many steps: a
 * process that it left behind may go on writing for ever. */
#define DRAIN_STEPS_MAX 32

/* ---- timer ---- */

struct loop_timer {
    uv_timer_t handle; /* data: the loop_timer; one-shot, set anew at each interval */
    uv_check_t check;  /* likewise; begun by a slack */
    unsigned handles;  /* still to be closed */
    uint64_t interval_ms;
    uint64_t slack_ms; /* 0: none */
    uint64_t due_ms;   /* with a slack: from when on any turn will do */
    bool armed;
    void (*fn)(void *context);
    void *context;
};

static void timer_handle_closed(uv_handle_t *handle)
{
    struct loop_timer *timer = handle->data;
    if (--timer->handles == 0) {
        free(timer);
    }
}

/* To the next multiple of the interval that is at least half of one away: what repeats
 * often fires at the same moments, and a host with many timers wakes seldom. */
static uint64_t timer_wait_ms(const struct loop_timer *timer)
{
    uint64_t interval_ms = timer->interval_ms;
    uint64_t wait_ms = interval_ms - uv_now(timer->handle.loop) % interval_ms;
    return wait_ms < (interval_ms + 1) / 2 ? wait_ms + interval_ms : wait_ms;
}

static void timer_fired(uv_timer_t *handle);

static void timer_arm(struct loop_timer *timer, uint64_t wait_ms)
{
    timer->due_ms = uv_now(timer->handle.loop) + wait_ms;
    timer->armed = true;
    REQUIRE(uv_timer_start(&timer->handle, timer_fired, wait_ms + timer->slack_ms, 0) ==
            0);
}

static void timer_arm_again(struct loop_timer *timer)
{
    timer_arm(timer, timer->slack_ms > 0 ? timer->interval_ms : timer_wait_ms(timer));
}

static void timer_fired(uv_timer_t *handle)
{
    struct loop_timer *timer = handle->data;
    timer->armed = false;
    if (timer->interval_ms > 0) {
        timer_arm_again(timer);
    }
    timer->fn(timer->context); /* may close the timer */
}

/* The loop has waited, and is awake for whatever reason. */
static void timer_checked(uv_check_t *check)
{
    struct loop_timer *timer = check->data;
    if (timer->armed && uv_now(check->loop) >= timer->due_ms) {
        (void)uv_timer_stop(&timer->handle); /* cannot fail */
        timer_fired(&timer->handle);
    }
}

struct loop_timer *loop_timer_new(uv_loop_t *loop,
                                  uint64_t first_ms,
                                  uint64_t interval_ms,
                                  void (*fn)(void *context),
                                  void *context)
{
    REQUIRE(fn != NULL);
    struct loop_timer *timer = calloc(1, sizeof(*timer));
    if (timer == NULL) {
        return NULL;
    }
    timer->fn = fn;
    timer->context = context;
    REQUIRE(uv_timer_init(loop, &timer->handle) == 0);
    timer->handle.data = timer;
    timer->check.data = timer;
    timer->handles = 1;
    loop_timer_again(timer, first_ms, interval_ms);
    return timer;
}

void loop_timer_again(struct loop_timer *timer, uint64_t first_ms, uint64_t interval_ms)
{
    /* The loop's idea of now is as old as its last step. */
    uv_update_time(timer->handle.loop);
    timer->interval_ms = interval_ms;
    timer_arm(timer, first_ms);
}

void loop_timer_defer(struct loop_timer *timer)
{
    REQUIRE(timer->interval_ms > 0);
    uv_update_time(timer->handle.loop);
    timer_arm_again(timer);
}

void loop_timer_slacken(struct loop_timer *timer, uint64_t slack_ms)
{
    REQUIRE(slack_ms > 0 && timer->slack_ms == 0);
    REQUIRE(uv_check_init(timer->handle.loop, &timer->check) == 0);
    REQUIRE(uv_check_start(&timer->check, timer_checked) == 0);
    uv_unref((uv_handle_t *)&timer->check); /* the timer alone keeps the loop alive */
    timer->handles++;
    timer->slack_ms = slack_ms;
    if (timer->armed) {
        const uint64_t now_ms = uv_now(timer->handle.loop);
        timer_arm(timer, timer->due_ms > now_ms ? timer->due_ms - now_ms : 0);
    }
}

struct loop_timer *loop_timer_close(struct loop_timer *timer)
{
    if (timer != NULL) {
        uv_close((uv_handle_t *)&timer->handle, timer_handle_closed);
        if (timer->slack_ms > 0) {
            uv_close((uv_handle_t *)&timer->check, timer_handle_closed);
        }
    }
    return NULL;
}

/* ---- batch ---- */

struct loop_batch {
    uv_prepare_t prepare; /* data: the loop_batch; both active while fn is due */
    uv_idle_t idle;   /* asked for in the prepare phase itself: the loop must not wait */
    unsigned handles; /* still to be closed */
    void (*fn)(void *context);
    void *context;
};

static void batch_handle_closed(uv_handle_t *handle)
{
    struct loop_batch *batch = handle->data;
    if (--batch->handles == 0) {
        free(batch);
    }
}

static void batch_waits(uv_idle_t *handle)
{
    (void)handle; /* being active is all it does */
}

static void batch_due(uv_prepare_t *handle)
{
    struct loop_batch *batch = handle->data;
    (void)uv_prepare_stop(&batch->prepare); /* neither can fail */
    (void)uv_idle_stop(&batch->idle);
    batch->fn(batch->context); /* may close the batch */
}

struct loop_batch *
loop_batch_new(uv_loop_t *loop, void (*fn)(void *context), void *context)
{
    REQUIRE(fn != NULL);
    struct loop_batch *batch = calloc(1, sizeof(*batch));
    if (batch == NULL) {
        return NULL;
    }
    batch->fn = fn;
    batch->context = context;
    REQUIRE(uv_prepare_init(loop, &batch->prepare) == 0);
    REQUIRE(uv_idle_init(loop, &batch->idle) == 0);
    batch->prepare.data = batch->idle.data = batch;
    batch->handles = 2;
    return batch;
}

void loop_batch_ask(struct loop_batch *batch)
{
    /* Started already, both stay as they are. */
    REQUIRE(uv_prepare_start(&batch->prepare, batch_due) == 0);
    REQUIRE(uv_idle_start(&batch->idle, batch_waits) == 0);
}

struct loop_batch *loop_batch_close(struct loop_batch *batch)
{
    if (batch != NULL) {
        uv_close((uv_handle_t *)&batch->prepare, batch_handle_closed);
        uv_close((uv_handle_t *)&batch->idle, batch_handle_closed);
    }
    return NULL;
}

/* ---- post ---- */

static void free_handle_data(uv_handle_t *handle)
{
    free(handle->data);
}

struct loop_post {
    uv_async_t handle; /* data: the loop_post */
    void (*fn)(void *context);
    void *context;
};

static void post_arrived(uv_async_t *handle)
{
    struct loop_post *post = handle->data;
    post->fn(post->context); /* may close the post */
}

struct loop_post *loop_post_new(uv_loop_t *loop, void (*fn)(void *context), void *context)
{
    REQUIRE(fn != NULL);
    struct loop_post *post = calloc(1, sizeof(*post));
    if (post == NULL) {
        return NULL;
    }
    post->fn = fn;
    post->context = context;
    if (uv_async_init(loop, &post->handle, post_arrived) < 0) {
        free(post); /* a failed init leaves nothing in the loop */
        return NULL;
    }
    post->handle.data = post;
    return post;
}

void loop_post_send(struct loop_post *post)
{
    REQUIRE(uv_async_send(&post->handle) == 0);
}

struct loop_post *loop_post_close(struct loop_post *post)
{
    if (post != NULL) {
        uv_close((uv_handle_t *)&post->handle, free_handle_data);
    }
    return NULL;
}

/* ---- child ----
 *
 *     running --exit--> finished (done called) --all handles closed--> freed
 *        \--close--> abandoned (killed, silent) --exit--> finished --> freed
 *
 * The process handle stays open until the exit arrives, for only then is the child
 * reaped.
 */

struct child_output {
    uv_pipe_t pipe; /* data: the loop_child */
    size_t size;
    char text[LOOP_CHILD_OUTPUT_MAX + 1]; /* the NUL */
};

struct loop_child {
    uv_process_t process; /* data of every handle: the loop_child */
    uv_timer_t deadline;
    struct child_output output;
    struct child_output errors;
    unsigned open_handles;
    bool timed_out;
    bool finished; /* done is running or has run */
    void (*done)(void *context,
                 const struct loop_child_result *result); /* NULL: abandoned */
    void *context;
    char overflow[4096]; /* where output beyond the limit is read to */
};

static void child_handle_closed(uv_handle_t *handle)
{
    struct loop_child *child = handle->data;
    REQUIRE(child->open_handles > 0);
    child->open_handles--;
    if (child->open_handles == 0) {
        free(child);
    }
}

static void child_close_handles(struct loop_child *child)
{
    uv_close((uv_handle_t *)&child->process, child_handle_closed);
    uv_close((uv_handle_t *)&child->deadline, child_handle_closed);
    uv_close((uv_handle_t *)&child->output.pipe, child_handle_closed);
    uv_close((uv_handle_t *)&child->errors.pipe, child_handle_closed);
}

static struct child_output *child_output_of(struct loop_child *child, uv_handle_t *handle)
{
    return handle == (uv_handle_t *)&child->output.pipe ? &child->output : &child->errors;
}

/* Where the next bytes go: behind what is kept, or away when that is full. */
static uv_buf_t child_place(struct loop_child *child, struct child_output *output)
{
    size_t left = LOOP_CHILD_OUTPUT_MAX - output->size;
    return left > 0 ? uv_buf_init(output->text + output->size, (unsigned)left)
                    : uv_buf_init(child->overflow, sizeof(child->overflow));
}

static void child_keep(struct child_output *output, size_t count)
{
    if (output->size < LOOP_CHILD_OUTPUT_MAX) {
        output->size += count;
    }
}

static void child_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
    (void)suggested;
    struct loop_child *child = handle->data;
    *ret_buffer = child_place(child, child_output_of(child, handle));
}

static void child_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    (void)buffer;
    if (count > 0) {
        struct loop_child *child = stream->data;
        child_keep(child_output_of(child, (uv_handle_t *)stream), (size_t)count);
    } else if (count < 0) {
        (void)uv_read_stop(stream); /* the end; the exit tells the rest */
    }
}

/* Takes what the child had written before it ended. Its end of file is not waited for: a
 * process that it left behind may hold the pipe. */
static void child_drain(struct loop_child *child, struct child_output *output)
{
    uv_os_fd_t fd = -1;
    (void)uv_read_stop((uv_stream_t *)&output->pipe);
    if (uv_fileno((uv_handle_t *)&output->pipe, &fd) < 0) {
        return; /* the stream has met an error and is closed */
    }
    for (unsigned step = 0; step < DRAIN_STEPS_MAX; step++) {
        uv_buf_t place = child_place(child, output);
        ssize_t count = read(fd, place.base, place.len); /* libuv's pipes do not block */
        if (count <= 0 && !(count < 0 && errno == EINTR)) {
            return;
        }
        if (count > 0) {
            child_keep(output, (size_t)count);
        }
    }
}

static void child_report(struct loop_child *child, int64_t exit_status, int signal_number)
{
    struct loop_child_result result = {
        .exit_status = (int)exit_status,
        .signal_number = signal_number,
        .output = child->output.text,
        .errors = child->errors.text,
    };
    if (child->timed_out) {
        result.code = BERTH_ETIMEOUT;
    } else if (exit_status != 0 || signal_number != 0) {
        result.code = BERTH_ECHILD;
    }
    child->output.text[child->output.size] = '\0';
    child->errors.text[child->errors.size] = '\0';
    child->done(child->context, &result);
}

static void child_exited(uv_process_t *process, int64_t exit_status, int signal_number)
{
    struct loop_child *child = process->data;
    child->finished = true;
    if (child->done != NULL) {
        child_drain(child, &child->output);
        child_drain(child, &child->errors);
        child_report(child, exit_status, signal_number);
    }
    child_close_handles(child);
}

/* The whole group: a shell's children as well. */
static void child_kill(struct loop_child *child)
{
    (void)kill(-child->process.pid, SIGKILL); /* it may have ended a moment ago */
}

static void child_expired(uv_timer_t *timer)
{
    struct loop_child *child = timer->data;
    child->timed_out = true;
    child_kill(child);
}

/* A descriptor from which the child reads the input: memory, not a pipe, so that a child
 * that does not read costs nothing and raises no SIGPIPE here. */
static int child_input(const char *input, struct err *err)
{
    CLEANUP_FD int fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0) {
        return err_sys(err, -errno, "make the input of a helper program");
    }
    int r = fd_write_full(fd, input, strlen(input));
    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0) {
        r = -errno;
    }
    return r < 0 ? err_sys(err, r, "write the input of a helper program") : TAKE_FD(fd);
}

static char **copy_arguments(const char *const *argv)
{
    size_t count = 0;
    while (argv[count] != NULL) {
        count++;
    }
    char **copy = cleanup_new(count + 1, sizeof(*copy));
    if (copy != NULL) {
        memcpy(copy, argv, count * sizeof(*copy)); /* libuv's type lacks the const */
    }
    return copy;
}

static int
child_spawn(uv_loop_t *loop, struct loop_child *child, char **argv, int input_fd)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
         .data.stream = (uv_stream_t *)&child->output.pipe},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
         .data.stream = (uv_stream_t *)&child->errors.pipe},
    };
    if (input_fd >= 0) {
        stdio[0] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = input_fd};
    }
    const uv_process_options_t options = {
        .exit_cb = child_exited,
        .file = argv[0],
        .args = argv,
        .flags = UV_PROCESS_DETACHED, /* a group of its own, to be killed whole */
        .stdio_count = 3,
        .stdio = stdio,
    };
    return uv_spawn(loop, &child->process, &options);
}

static struct loop_child *child_new(uv_loop_t *loop)
{
    struct loop_child *child = calloc(1, sizeof(*child));
    if (child != NULL) {
        REQUIRE(uv_timer_init(loop, &child->deadline) == 0);
        REQUIRE(uv_pipe_init(loop, &child->output.pipe, 0) == 0);
        REQUIRE(uv_pipe_init(loop, &child->errors.pipe, 0) == 0);
        child->deadline.data = child;
        child->output.pipe.data = child;
        child->errors.pipe.data = child;
        child->process.data = child;
        child->open_handles = 4;
    }
    return child;
}

struct loop_child *loop_child_run(uv_loop_t *loop,
                                  const char *const *argv,
                                  const char *input,
                                  uint64_t timeout_ms,
                                  void (*done)(void *context,
                                               const struct loop_child_result *result),
                                  void *context,
                                  struct err *err)
{
    REQUIRE(argv[0] != NULL);
    REQUIRE(done != NULL);
    CLEANUP_FREE char **arguments = copy_arguments(argv);
    CLEANUP_FD int input_fd = input != NULL ? child_input(input, err) : -1;
    if (input != NULL && input_fd < 0) {
        return NULL;
    }
    struct loop_child *child = arguments != NULL ? child_new(loop) : NULL;
    if (child == NULL) {
        (void)err_sys(err, -ENOMEM, "run %s", argv[0]);
        return NULL;
    }
    int r = child_spawn(loop, child, arguments, input_fd);
    if (r < 0) {
        (void)err_sys(err, r, "run %s", argv[0]);
        child_close_handles(child); /* uv_spawn has initialised the process in any case */
        return NULL;
    }
    child->done = done;
    child->context = context;
    uv_update_time(loop);
    REQUIRE(uv_timer_start(&child->deadline, child_expired, timeout_ms, 0) == 0);
    REQUIRE(uv_read_start((uv_stream_t *)&child->output.pipe, child_alloc, child_read) ==
            0);
    REQUIRE(uv_read_start((uv_stream_t *)&child->errors.pipe, child_alloc, child_read) ==
            0);
    return child;
}

struct loop_child *loop_child_close(struct loop_child *child)
{
    if (child != NULL && !child->finished && child->done != NULL) {
        child->done = NULL;
        child_kill(child);
    }
    return NULL;
}
