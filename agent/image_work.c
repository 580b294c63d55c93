#include "agent/image_work.h"

#include "agent/disk_format.h"
#include "agent/disk_room.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse_number.h"

#include <curl/curl.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASH_BUFFER        (128u << 10) /* on the stack of the thread */
#define FETCH_REDIRECTS    5L
#define FETCH_SLOW_BYTES_S 1024L /* slower than this for FETCH_SLOW_S is stuck */
#define FETCH_SLOW_S       60L

static struct image_work *work_of(struct work_job *job)
{
    return LIST_ITEM(job, struct image_work, job);
}

static void work_fault(struct image_work *work, int code, const char *what)
{
    work->code = code == -ENOSPC || code == -EDQUOT ? BERTH_EDISKFULL : code;
    (void)snprintf(work->text, sizeof(work->text), "%s: %s", what,
                   err_sentence(work->code));
}

/* ---- fetching
 * ---------------------------------------------------------------------------------------
 */

struct fetch {
    struct image_work *work;
    CURL *curl;
    uint64_t came;
};

/* Announced or counted. 0, or the fault is in the work. */
static int fetch_check(struct fetch *fetch, uint64_t size, uint64_t more)
{
    struct image_work *work = fetch->work;
    char text[NUMBER_TEXT_SIZE];
    char left[NUMBER_TEXT_SIZE];
    if (size > work->size_max) {
        format_bytes_human(work->size_max, text);
        work->code = BERTH_ETOOLARGE;
        (void)snprintf(work->text, sizeof(work->text),
                       "fetch %.100s: it is more than this host takes, which is %s "
                       "(--image-cache)",
                       work->url, text);
        return work->code;
    }
    uint64_t room = disk_room(work->final_folder, work->reserve_bytes);
    if (more > room) {
        format_bytes_human(more, text);
        format_bytes_human(room, left);
        work->code = BERTH_EDISKFULL;
        (void)snprintf(work->text, sizeof(work->text),
                       "fetch: the disk of the image store is full: %s more are wanted, "
                       "%s are left",
                       text, left);
    }
    return work->code;
}

static size_t fetch_write(char *data, size_t one, size_t count, void *context)
{
    struct fetch *fetch = context;
    struct image_work *work = fetch->work;
    curl_off_t announced = -1;
    if (fetch->came == 0 &&
        curl_easy_getinfo(fetch->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced) ==
            CURLE_OK &&
        announced > 0 &&
        fetch_check(fetch, (uint64_t)announced, (uint64_t)announced) < 0) {
        work->needs_bytes = (uint64_t)announced;
        return 0;
    }
    fetch->came += one * count;
    if (fetch_check(fetch, fetch->came, one * count) < 0) {
        return 0;
    }
    int r = fd_write_full(work->fd, data, one * count);
    if (r < 0) {
        work_fault(work, r, "fetch");
    }
    return r == 0 ? one * count : 0;
}

/* Called about once a second, whatever the server does. */
static int fetch_look(void *context,
                      curl_off_t to_come,
                      curl_off_t came,
                      curl_off_t to_send,
                      curl_off_t sent)
{
    const struct fetch *fetch = context;
    (void)to_come;
    (void)came;
    (void)to_send;
    (void)sent;
    return work_job_cancelled(&fetch->work->job) ? 1 : 0;
}

static void fetch_options(struct fetch *fetch, char *problem)
{
    CURL *curl = fetch->curl;
    curl_easy_setopt(curl, CURLOPT_URL, fetch->work->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, FETCH_REDIRECTS);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)IMAGE_FETCH_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, FETCH_SLOW_BYTES_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, FETCH_SLOW_S);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, fetch_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, fetch);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, fetch_look);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, fetch);
}

void image_work_fetch(struct work_job *job)
{
    struct image_work *work = work_of(job);
    struct fetch fetch = {.work = work, .curl = curl_easy_init()};
    char problem[CURL_ERROR_SIZE] = "";
    long status = 0;
    if (fetch.curl == NULL) {
        work_fault(work, -ENOMEM, "fetch");
        return;
    }
    if (ftruncate(work->fd, 0) < 0 || lseek(work->fd, 0, SEEK_SET) < 0) {
        work_fault(work, -errno, "fetch");
        curl_easy_cleanup(fetch.curl);
        return;
    }
    fetch_options(&fetch, problem);
    CURLcode code = curl_easy_perform(fetch.curl);
    curl_easy_getinfo(fetch.curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(fetch.curl);
    if (code == CURLE_OK || work->code < 0) { /* the latter: ours, not the server's */
        return;
    }
    if (work_job_cancelled(job)) {
        work_fault(work, BERTH_ECLOSED, "fetch");
        return;
    }
    work->code = status == 404 ? BERTH_ENOTFOUND : BERTH_EUNREACHABLE;
    (void)snprintf(work->text, sizeof(work->text), "fetch %.100s: %.120s", work->url,
                   problem[0] != '\0' ? problem : curl_easy_strerror(code));
}

/* ---- finishing
 * --------------------------------------------------------------------------------------
 */

static int hash_file(struct image_work *work)
{
    uint8_t buffer[HASH_BUFFER];
    struct digest_stream stream;
    ssize_t size;
    if (lseek(work->fd, 0, SEEK_SET) < 0) {
        return -errno;
    }
    digest_start(&stream);
    work->size_bytes = 0;
    while ((size = fd_read_full(work->fd, buffer, HASH_BUFFER)) > 0) {
        digest_update(&stream, buffer, (size_t)size);
        work->size_bytes += (uint64_t)size;
        if (work_job_cancelled(&work->job)) {
            return BERTH_ECLOSED;
        }
    }
    digest_finish(&stream, &work->digest);
    return size < 0 ? (int)size : 0;
}

static bool is_expected(struct image_work *work)
{
    char got[DIGEST_HEX_SIZE];
    char wanted[DIGEST_HEX_SIZE];
    if (!work->expects || digest_equal(&work->digest, &work->expected)) {
        return true;
    }
    digest_format(&work->digest, got);
    digest_format(&work->expected, wanted);
    work->code = BERTH_ECORRUPT;
    work->keep_bad = false;
    (void)snprintf(work->text, sizeof(work->text),
                   "the content's SHA-256 is %.64s, not %.64s", got, wanted);
    return false;
}

/* Durable first, so that the name never stands for less than the content. */
static int give_name(struct image_work *work)
{
    char hex[DIGEST_HEX_SIZE];
    char path[IMAGE_PATH_SIZE + DIGEST_HEX_SIZE + 1];
    digest_format(&work->digest, hex);
    (void)snprintf(path, sizeof(path), "%s/%s", work->final_folder, hex);
    if (fchmod(work->fd, 0400) < 0 || fsync(work->fd) < 0 ||
        rename(work->tmp_path, path) < 0) {
        return -errno;
    }
    return fd_sync_folder(work->final_folder, NULL);
}

/* No image of a host's files, whatever role the content is to have. */
static bool is_harmless(struct image_work *work)
{
    enum disk_format format;
    struct err err = {0};
    int r = disk_format_read(work->fd, &format, &err);
    if (r < 0) {
        work->code = r;
        work->keep_bad = false;
        (void)snprintf(work->text, sizeof(work->text), "%.255s", err.text);
    }
    return r == 0;
}

void image_work_finish(struct work_job *job)
{
    struct image_work *work = work_of(job);
    int r = hash_file(work);
    if (r < 0) {
        work_fault(work, r, "read back");
        return;
    }
    if (!is_expected(work) || !is_harmless(work)) {
        return;
    }
    r = give_name(work);
    if (r < 0) {
        work_fault(work, r, "keep the file");
    }
}

void image_work_fini(struct image_work *work)
{
    fd_close(&work->fd);
    if (work->code < 0 && !work->keep_bad) {
        (void)unlink(work->tmp_path); /* gone already, or removed at the next start */
    }
    free(work->url);
}
