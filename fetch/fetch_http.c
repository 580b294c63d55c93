#include "fetch/fetch_http.h"

#include <curl/curl.h>

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

_Static_assert(CURL_MAX_WRITE_SIZE <= FETCH_DATA_MAX, "what libcurl gives fits a packet");

struct download {
    int fd;
    CURL *curl;
    bool began;                   /* data has come */
    struct fetch_message message; /* being sent */
};

static bool announce(struct download *download)
{
    curl_off_t size = -1;
    if (curl_easy_getinfo(download->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &size) !=
            CURLE_OK ||
        size <= 0) {
        return true; /* the server did not say */
    }
    download->message.type = FETCH_SIZE;
    download->message.size_bytes = (uint64_t)size;
    return fetch_wire_send(download->fd, &download->message) == 0;
}

static size_t on_data(char *data, size_t one, size_t count, void *context)
{
    struct download *download = context;
    size_t size = one * count;
    if (size == 0) {
        return 0;
    }
    if (!download->began && !announce(download)) {
        return 0;
    }
    download->began = true;
    download->message.type = FETCH_DATA;
    download->message.data = data;
    download->message.data_size = size;
    return fetch_wire_send(download->fd, &download->message) == 0 ? size : 0;
}

/* Called about once a second, whatever the server does: is anybody there to hear us? */
static int on_look(void *context,
                   curl_off_t to_come,
                   curl_off_t came,
                   curl_off_t to_send,
                   curl_off_t sent)
{
    const struct download *download = context;
    struct pollfd look = {.fd = download->fd, .events = 0};
    (void)to_come;
    (void)came;
    (void)to_send;
    (void)sent;
    return poll(&look, 1, 0) > 0 ? 1 : 0;
}

static void options_set(struct download *download,
                        const struct fetch_message *ask,
                        char problem[CURL_ERROR_SIZE])
{
    CURL *curl = download->curl;
    curl_easy_setopt(curl, CURLOPT_URL, ask->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, FETCH_REDIRECTS);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)ask->timeout_s);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, FETCH_SLOW_BYTES_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, FETCH_SLOW_S);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, download);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_look);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, download);
}

static void
end_fill(struct fetch_message *end, enum fetch_outcome outcome, const char *why)
{
    end->type = FETCH_END;
    end->outcome = outcome;
    (void)snprintf(end->text, sizeof(end->text), "%s", why);
    for (char *at = end->text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *at = '?'; /* a server's words may be in it */
        }
    }
}

void fetch_http(int fd, const struct fetch_message *ask, struct fetch_message *ret_end)
{
    struct download download = {.fd = fd, .curl = curl_easy_init()};
    char problem[CURL_ERROR_SIZE] = "";
    long status = 0;
    if (download.curl == NULL) {
        end_fill(ret_end, FETCH_UNABLE, "libcurl cannot be used");
        return;
    }
    options_set(&download, ask, problem);
    CURLcode code = curl_easy_perform(download.curl);
    curl_easy_getinfo(download.curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(download.curl);
    if (code == CURLE_OK) {
        end_fill(ret_end, FETCH_DONE, "");
    } else {
        end_fill(ret_end, status == 404 ? FETCH_NOT_FOUND : FETCH_FAILED,
                 problem[0] != '\0' ? problem : curl_easy_strerror(code));
    }
}
