/* Clients that write through an API as fast as they are answered, to Berth or to etcd,
 * with the same program, over TLS and a connection each:
 *
 *   api_load_bench berth URL,... TOKEN CLIENTS SECONDS    PUT of a small template each
 *   api_load_bench etcd URL,... - CLIENTS SECONDS         gRPC Put of as many bytes
 *   api_load_bench disk FOLDER                            what the disk needs for a write
 *
 * Prints one line of words and numbers: how many writes in how many seconds, their rate,
 * their latency in ms, those that failed, and the longest time without an answer of
 * success (its pause, and in Unix time in ms until when; after the strike, when there is
 * one). With --kill PID or --end PID that process is sent SIGKILL or SIGTERM after half
 * of the time, `struck` is when (Unix time in ms), and `after` the time from then to the
 * first success of a write that began later. A write that failed is tried again at once;
 * each write of a client goes to the next URL.
 */
#include "base/clock.h"
#include "base/require.h"

#include <curl/curl.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VALUE_SIZE  256 /* of a write's body, about */
#define CLIENTS_MAX 512
#define URLS_MAX    16
#define WRITES_MAX  (1u << 22)
#define CALL_MS     8000L
#define POLL_MS     100
#define SYNCS       300
#define SYNC_SIZE   4096

enum system { SYSTEM_BERTH, SYSTEM_ETCD };

struct client {
    CURL *curl;
    struct curl_slist *headers;
    unsigned number;
    unsigned url;
    unsigned writes;
    uint64_t begin_ns;
    char answer[128]; /* its beginning */
    size_t answer_size;
    char body[VALUE_SIZE * 2];
};

static struct {
    enum system system;
    const char *urls[URLS_MAX];
    unsigned url_count;
    unsigned client_count;
    uint64_t end_ns;
    uint64_t last_ok_ns;
    uint64_t pause_ns;
    uint64_t pause_wall_ms; /* when it ended */
    pid_t victim;
    int victim_signal;
    uint64_t strike_ns; /* 0: not yet */
    uint64_t strike_wall_ms;
    uint64_t after_ns;
    unsigned failed;
    char first_failure[200];
    unsigned count;
    uint64_t latency_ns[WRITES_MAX];
    struct client clients[CLIENTS_MAX];
} run;

static uint64_t now_ns(void)
{
    return clock_now_ns(clock_system());
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static double quantile_ms(const uint64_t *sorted, unsigned count, unsigned permille)
{
    return count == 0
               ? 0.0
               : (double)sorted[(uint64_t)(count - 1) * permille / 1000] / NS_PER_MS;
}

/* ---- the disk: as Berth's log writes, and as etcd's does ---- */

static void disk_row(const char *folder, const char *what, int flags)
{
    char path[512];
    uint64_t took_ns[SYNCS];
    void *block = NULL;
    (void)snprintf(path, sizeof(path), "%s/probe", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
    REQUIRE(fd >= 0 && posix_memalign(&block, SYNC_SIZE, SYNC_SIZE) == 0);
    memset(block, 7, SYNC_SIZE);
    REQUIRE(posix_fallocate(fd, 0, (off_t)SYNCS * SYNC_SIZE) == 0 && fsync(fd) == 0);
    for (unsigned i = 0; i < SYNCS; i++) {
        uint64_t begin_ns = now_ns();
        REQUIRE(pwrite(fd, block, SYNC_SIZE, (off_t)i * SYNC_SIZE) == SYNC_SIZE);
        REQUIRE((flags & O_DSYNC) != 0 || fdatasync(fd) == 0);
        took_ns[i] = now_ns() - begin_ns;
    }
    qsort(took_ns, SYNCS, sizeof(took_ns[0]), compare);
    printf("%s p50 %.2f p99 %.2f max %.2f ms\n", what, quantile_ms(took_ns, SYNCS, 500),
           quantile_ms(took_ns, SYNCS, 990), quantile_ms(took_ns, SYNCS, 1000));
    free(block);
    (void)close(fd);
    (void)unlink(path);
}

static int disk_main(const char *folder)
{
    disk_row(folder, "4 KiB O_DIRECT O_DSYNC", O_DIRECT | O_DSYNC);
    disk_row(folder, "4 KiB write fdatasync", 0);
    return 0;
}

/* ---- one write ---- */

static size_t take_answer(char *data, size_t size, size_t count, void *context)
{
    struct client *client = context;
    size_t room = sizeof(client->answer) - 1 - client->answer_size;
    size_t part = size * count < room ? size * count : room;
    memcpy(client->answer + client->answer_size, data, part);
    client->answer_size += part;
    client->answer[client->answer_size] = '\0';
    return size * count;
}

/* A template that is like many: what changes is a label. */
static size_t berth_body(struct client *client)
{
    int size =
        snprintf(client->body, sizeof(client->body),
                 "{\"apiVersion\":\"berth/v1\",\"kind\":\"Template\",\"metadata\":{"
                 "\"name\":\"load-%u\",\"tenant\":\"default\",\"labels\":{\"turn\":"
                 "\"t%u-%u\",\"app\":\"a-name-of-usual-length\"}},\"spec\":{\"image\":"
                 "\"none\",\"engine\":\"fake\",\"memory\":{\"size\":\"64MiB\"}}}",
                 client->number, client->number, client->writes);
    REQUIRE(size > 0 && (size_t)size < sizeof(client->body));
    return (size_t)size;
}

/* PutRequest{key = 1, value = 2} behind gRPC's five bytes: not compressed, the length. */
static size_t etcd_body(struct client *client)
{
    char key[32];
    size_t key_size = (size_t)snprintf(key, sizeof(key), "load-%u", client->number);
    uint8_t *at = (uint8_t *)client->body;
    size_t size = 2 + key_size + 3 + VALUE_SIZE;
    const uint8_t head[] = {
        0, 0, 0, (uint8_t)(size >> 8), (uint8_t)size, 0x0a, (uint8_t)key_size};
    const uint8_t value_head[] = {0x12, (VALUE_SIZE & 0x7f) | 0x80, VALUE_SIZE >> 7};
    memcpy(at, head, sizeof(head));
    at += sizeof(head);
    memcpy(at, key, key_size);
    at += key_size;
    memcpy(at, value_head, sizeof(value_head));
    at += sizeof(value_head);
    memset(at, 'v', VALUE_SIZE);
    (void)snprintf((char *)at, VALUE_SIZE, "t%u-%u", client->number, client->writes);
    return 5 + size;
}

static void begin(CURLM *multi, struct client *client)
{
    char url[256];
    client->writes++;
    client->url = (client->url + 1) % run.url_count;
    size_t size = run.system == SYSTEM_BERTH ? berth_body(client) : etcd_body(client);
    if (run.system == SYSTEM_BERTH) {
        (void)snprintf(url, sizeof(url), "%s/v1/tenants/default/templates/load-%u",
                       run.urls[client->url], client->number);
    } else {
        (void)snprintf(url, sizeof(url), "%s/etcdserverpb.KV/Put", run.urls[client->url]);
    }
    client->answer_size = 0;
    client->answer[0] = '\0';
    curl_easy_setopt(client->curl, CURLOPT_URL, url);
    curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, client->body);
    curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE, (long)size);
    client->begin_ns = now_ns();
    REQUIRE(curl_multi_add_handle(multi, client->curl) == CURLM_OK);
}

static void note_failure(struct client *client, CURLcode code, long status)
{
    if (run.failed++ == 0) {
        (void)snprintf(run.first_failure, sizeof(run.first_failure), "%s, status %ld %s",
                       curl_easy_strerror(code), status, client->answer);
    }
}

static void note_success(const struct client *client)
{
    uint64_t at_ns = now_ns();
    bool counts = run.victim == 0 ? run.last_ok_ns != 0 : run.strike_ns != 0;
    if (counts && at_ns - run.last_ok_ns > run.pause_ns) {
        run.pause_ns = at_ns - run.last_ok_ns;
        run.pause_wall_ms = clock_wall_ms(clock_system());
    }
    run.last_ok_ns = at_ns;
    if (run.strike_ns != 0 && run.after_ns == 0 && client->begin_ns >= run.strike_ns) {
        run.after_ns = at_ns - run.strike_ns;
    }
    if (run.count < WRITES_MAX) {
        run.latency_ns[run.count++] = at_ns - client->begin_ns;
    }
}

/* gRPC says in a trailer how it went; what was put is answered with a header that is not
 * empty, an error with nothing. */
static bool is_done(const struct client *client, CURLcode code, long status)
{
    return code == CURLE_OK && (status == 200 || status == 201) &&
           (run.system == SYSTEM_BERTH || client->answer_size > 5);
}

static void take_done(CURLM *multi)
{
    int left = 0;
    for (const CURLMsg *message;
         (message = curl_multi_info_read(multi, &left)) != NULL;) {
        struct client *client = NULL;
        long status = 0;
        CURLcode code = message->data.result;
        CURL *curl = message->easy_handle;
        curl_easy_getinfo(curl, CURLINFO_PRIVATE, &client);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        curl_multi_remove_handle(multi, curl);
        if (is_done(client, code, status)) {
            note_success(client);
        } else {
            note_failure(client, code, status);
        }
        if (now_ns() < run.end_ns) {
            begin(multi, client);
        }
    }
}

/* ---- all of them ---- */

static void open_client(unsigned number, const char *token)
{
    struct client *client = &run.clients[number];
    char line[256];
    client->number = number;
    client->url = number % run.url_count;
    client->curl = curl_easy_init();
    REQUIRE(client->curl != NULL);
    CURL *curl = client->curl;
    if (run.system == SYSTEM_BERTH) {
        (void)snprintf(line, sizeof(line), "Authorization: Bearer %s", token);
        client->headers = curl_slist_append(client->headers, line);
        client->headers =
            curl_slist_append(client->headers, "Content-Type: application/json");
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "PUT");
        curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    } else {
        client->headers =
            curl_slist_append(client->headers, "Content-Type: application/grpc");
        client->headers = curl_slist_append(client->headers, "TE: trailers");
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "POST");
        curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    }
    client->headers = curl_slist_append(client->headers, "Expect:");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, client->headers);
    curl_easy_setopt(curl, CURLOPT_PRIVATE, client);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(curl, CURLOPT_CAINFO, NULL); /* or each connection reads it first */
    curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, CALL_MS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, client);
}

static void print_result(uint64_t begin_ns)
{
    double seconds = (double)(now_ns() - begin_ns) / NS_PER_S;
    qsort(run.latency_ns, run.count, sizeof(run.latency_ns[0]), compare);
    printf("n %u seconds %.1f rate %.0f p50 %.2f p99 %.2f max %.2f failed %u pause %.0f "
           "until %llu",
           run.count, seconds, run.count / seconds,
           quantile_ms(run.latency_ns, run.count, 500),
           quantile_ms(run.latency_ns, run.count, 990),
           quantile_ms(run.latency_ns, run.count, 1000), run.failed,
           (double)run.pause_ns / NS_PER_MS, (unsigned long long)run.pause_wall_ms);
    if (run.strike_ns != 0) {
        printf(" struck %llu after %.0f", (unsigned long long)run.strike_wall_ms,
               (double)run.after_ns / NS_PER_MS);
    }
    printf("\n");
    if (run.failed > 0) {
        (void)fprintf(stderr, "the first failure: %s\n", run.first_failure);
    }
}

static int load_main(const char *token, uint64_t seconds)
{
    curl_global_init(CURL_GLOBAL_ALL);
    CURLM *multi = curl_multi_init();
    REQUIRE(multi != NULL);
    /* a connection for each client: that is what clients are */
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)CLIENTS_MAX * 2);
    uint64_t begin_ns = now_ns();
    run.end_ns = begin_ns + seconds * NS_PER_S;
    for (unsigned i = 0; i < run.client_count; i++) {
        open_client(i, token);
        begin(multi, &run.clients[i]);
    }
    for (int running = 1; running > 0 || now_ns() < run.end_ns;) {
        REQUIRE(curl_multi_perform(multi, &running) == CURLM_OK);
        take_done(multi);
        if (run.victim != 0 && run.strike_ns == 0 &&
            now_ns() >= begin_ns + seconds * NS_PER_S / 2) {
            run.strike_ns = now_ns();
            run.strike_wall_ms = clock_wall_ms(clock_system());
            REQUIRE(kill(run.victim, run.victim_signal) == 0);
        }
        REQUIRE(curl_multi_poll(multi, NULL, 0, POLL_MS, NULL) == CURLM_OK);
    }
    take_done(multi);
    print_result(begin_ns);
    for (unsigned i = 0; i < run.client_count; i++) {
        curl_multi_remove_handle(multi, run.clients[i].curl);
        curl_easy_cleanup(run.clients[i].curl);
        curl_slist_free_all(run.clients[i].headers);
    }
    curl_multi_cleanup(multi);
    return run.count > 0 ? 0 : 1;
}

static uint64_t number_of(const char *text, uint64_t max)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || value == 0 || value > max) {
        (void)fprintf(stderr, "%s is no number from 1 to %llu\n", text,
                      (unsigned long long)max);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    bool strikes =
        argc == 8 && (strcmp(argv[6], "--kill") == 0 || strcmp(argv[6], "--end") == 0);
    if (argc == 3 && strcmp(argv[1], "disk") == 0) {
        return disk_main(argv[2]);
    }
    if ((argc != 6 && !strikes) ||
        (strcmp(argv[1], "berth") != 0 && strcmp(argv[1], "etcd") != 0)) {
        (void)fprintf(stderr, "usage: api_load_bench berth|etcd URL,... TOKEN CLIENTS "
                              "SECONDS [--kill PID | --end PID]\n"
                              "       api_load_bench disk FOLDER\n");
        return 2;
    }
    run.system = strcmp(argv[1], "berth") == 0 ? SYSTEM_BERTH : SYSTEM_ETCD;
    char *rest = NULL;
    for (char *url = strtok_r(argv[2], ",", &rest);
         url != NULL && run.url_count < URLS_MAX; url = strtok_r(NULL, ",", &rest)) {
        run.urls[run.url_count++] = url;
    }
    REQUIRE(run.url_count > 0);
    run.client_count = (unsigned)number_of(argv[4], CLIENTS_MAX);
    if (strikes) {
        run.victim = (pid_t)number_of(argv[7], 1u << 30);
        run.victim_signal = strcmp(argv[6], "--kill") == 0 ? SIGKILL : SIGTERM;
    }
    return load_main(argv[3], number_of(argv[5], 3600));
}
