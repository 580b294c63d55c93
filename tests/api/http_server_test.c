/* Goal: the server listens where it was told, speaks TLS on TCP and nothing else, and
 * ends at any moment. Method: real sockets; GnuTLS as the client. */
#include "api/http_server.h"
#include "http_fixture.h"

#include <gnutls/gnutls.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/stat.h>

static int connect_remote(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct timeval patience = {.tv_sec = REPLY_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(served_port(served));
    ck_assert_int_eq(connect(fd, (struct sockaddr *)(void *)&address, sizeof(address)),
                     0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
                     0);
    return fd;
}

static gnutls_session_t session;
static gnutls_certificate_credentials_t credentials;

/* 0, or what the handshake said. */
static int tls_open(int fd, const char *priorities)
{
    ck_assert_int_eq(gnutls_certificate_allocate_credentials(&credentials), 0);
    ck_assert_int_eq(gnutls_init(&session, GNUTLS_CLIENT), 0);
    ck_assert_int_eq(gnutls_priority_set_direct(session, priorities, NULL), 0);
    ck_assert_int_eq(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials),
                     0);
    gnutls_transport_set_int(session, fd);
    int r;
    do {
        r = gnutls_handshake(session);
    } while (r < 0 && !gnutls_error_is_fatal(r));
    return r;
}

static void tls_close(void)
{
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(credentials);
}

/* A GET over TLS into `reply`; token NULL: none. */
static int get_remote(const char *path, const char *token)
{
    char text[1024];
    size_t size = 0;
    char *answer_text = calloc(1, 1u << 20);
    int fd = connect_remote();
    ck_assert_int_eq(tls_open(fd, "NORMAL"), 0);
    snprintf(text, sizeof(text),
             "GET %s HTTP/1.1\r\nHost: h1\r\nConnection: close\r\n%s%s%s\r\n", path,
             token != NULL ? "Authorization: Bearer " : "", token != NULL ? token : "",
             token != NULL ? "\r\n" : "");
    ck_assert_int_eq(gnutls_record_send(session, text, strlen(text)),
                     (ssize_t)strlen(text));
    for (;;) {
        ssize_t got =
            gnutls_record_recv(session, answer_text + size, (1u << 20) - size - 1);
        if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        size += (size_t)got;
    }
    tls_close();
    (void)close(fd);
    reply_take(answer_text);
    free(answer_text);
    return reply.status;
}

static void start_tls(void)
{
    fixture_start_with(&(struct served_config){.tls = true});
}

START_TEST(the_socket_is_for_its_owner_alone)
{
    struct stat status;

    ck_assert_int_eq(stat(served_socket(served), &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0600);
}
END_TEST

START_TEST(a_dead_socket_is_replaced_and_the_end_takes_it_away)
{
    char path[300];
    snprintf(path, sizeof(path), "%s", served_socket(served));
    int before = connect_local(); /* still open when the server ends */
    served_stop(served);
    served = NULL;
    ck_assert_int_ne(access(path, F_OK), 0);

    temp_dir_write(&served_folder, "berthd.sock", "not even a socket");
    served = served_start(served_folder.path, NULL);
    ck_assert_int_eq(get("/healthz"), 200);
    (void)close(before);
}
END_TEST

START_TEST(over_tls_a_good_token_is_served_and_no_token_is_not)
{
    served_token(served, "ana", "berth-secret", ROLE_VIEWER, "", 0);

    ck_assert_int_eq(get_remote("/v1/hosts/h1", "berth-secret"), 200);
    ck_assert_int_eq(get_remote("/v1/self", "berth-secret"), 200);
    ck_assert_str_eq(said("subject"), "token:ana");
    ck_assert_int_eq(get_remote("/v1/hosts/h1", NULL), 401);
    ck_assert_str_eq(header("WWW-Authenticate"), "Bearer");
    ck_assert_int_eq(get_remote("/v1/hosts/h1", "berth-secreT"), 401);
    ck_assert_int_eq(get_remote("/healthz", NULL), 200); /* is for everybody */
}
END_TEST

START_TEST(plain_http_on_the_tls_port_gets_no_answer)
{
    int fd = connect_remote();
    (void)say(fd, "GET /healthz HTTP/1.1\r\nHost: h1\r\n\r\n");
    (void)shutdown(fd, SHUT_WR);
    char *text = hear(fd, NULL);

    ck_assert_ptr_null(strstr(text, "HTTP/1.1 200"));
    ck_assert_ptr_null(strstr(text, "berth"));
    free(text);
    (void)close(fd);
    ck_assert_int_eq(get_remote("/healthz", NULL), 200);
}
END_TEST

static const struct version {
    const char *priorities;
    bool spoken;
} versions[] = {
    {"NORMAL:-VERS-ALL:+VERS-TLS1.3", true},
    {"NORMAL:-VERS-ALL:+VERS-TLS1.2", true},
    {"NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT", false},
    {"NORMAL:-VERS-ALL:+VERS-TLS1.0:%COMPAT", false},
};

static void only_tls_that_still_counts_is_spoken_row(size_t i)
{
    int fd = connect_remote();
    int r = tls_open(fd, versions[i].priorities);

    ck_assert_msg((r == 0) == versions[i].spoken, "%s: %s", versions[i].priorities,
                  gnutls_strerror(r));
    tls_close();
    (void)close(fd);
}

START_TEST(only_tls_that_still_counts_is_spoken)
{
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        only_tls_that_still_counts_is_spoken_row(i);
    }
}
END_TEST

START_TEST(one_address_cannot_take_every_place)
{
    int fds[HTTP_CONNECTIONS_PER_ADDRESS + 8];
    unsigned closed = 0;
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        fds[i] = connect_remote();
    }
    for (size_t i = HTTP_CONNECTIONS_PER_ADDRESS; i < sizeof(fds) / sizeof(fds[0]); i++) {
        char byte;
        ssize_t got = recv(fds[i], &byte, 1, 0);
        closed += got == 0 || (got < 0 && errno != EAGAIN) ? 1 : 0;
    }
    ck_assert_uint_eq(closed, 8);
    ck_assert_int_eq(get("/healthz"), 200); /* the socket has places of its own */
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        (void)close(fds[i]);
    }
}
END_TEST

static void hold(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->hold_reads = true;
    served_knobs(server)->hold_proposals = true;
}

START_TEST(the_end_takes_waiting_clients_along)
{
    int watch = connect_local();
    ck_assert(say(watch, "GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n"));
    free(hear(watch, "event: bookmark"));
    int console = connect_local();
    served_vms(served, "vm", 1);
    ck_assert(say(console,
                  "GET /v1/tenants/default/vms/vm-00000/console HTTP/1.1\r\nHost: x\r\n"
                  "Connection: Upgrade\r\nUpgrade: berth-console\r\n\r\n"));
    free(hear(console, "login: "));
    served_do(served, hold, NULL);
    int barrier = connect_local();
    ck_assert(say(barrier, "GET /v1/hosts HTTP/1.1\r\nHost: x\r\n\r\n"));
    int upload = connect_local();
    ck_assert(say(upload,
                  "POST /v1/blobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"));
    served_stop(served);
    served = NULL;

    int fds[] = {watch, console, barrier, upload};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        char *rest = hear(fds[i], NULL); /* all of them end */
        ck_assert_ptr_null(strstr(rest, " 200 "));
        free(rest);
        (void)close(fds[i]);
    }
}
END_TEST

static const char *const addresses[] = {"",
                                        ":",
                                        "127.0.0.1",
                                        ":7443",
                                        "127.0.0.1:",
                                        "127.0.0.1:65536",
                                        "localhost:1",
                                        "127.0.0.1:7443x",
                                        "[::1]:7443",
                                        "127.0.0.256:1"};

static void an_address_that_is_none_is_refused_and_nothing_stays_open_row(size_t i)
{
    uv_loop_t loop;
    struct err err = {0};
    struct http_server *server = NULL;
    struct temp_dir dir;
    temp_dir_init(&dir);
    char *path = temp_dir_path(&dir, "sock");
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    const struct http_server_config config = {.socket_path = path,
                                              .listen_address = addresses[i]};
    const struct control_plane control = {0};

    ck_assert_int_eq(http_server_open(&loop, NULL, &control, &config, &server, &err),
                     BERTH_EINVALID);
    ck_assert_contains(err.text, "is no ip:port");
    ck_assert_ptr_null(server);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    ck_assert_int_ne(access(path, F_OK), 0);
    free(path);
    temp_dir_fini(&dir);
}

START_TEST(an_address_that_is_none_is_refused_and_nothing_stays_open)
{
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        an_address_that_is_none_is_refused_and_nothing_stays_open_row(i);
    }
}
END_TEST

START_TEST(a_socket_path_that_does_not_fit_is_refused)
{
    uv_loop_t loop;
    struct err err = {0};
    struct http_server *server = NULL;
    char path[200];
    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    const struct http_server_config config = {.socket_path = path};
    const struct control_plane control = {0};

    ck_assert_int_eq(http_server_open(&loop, NULL, &control, &config, &server, &err),
                     BERTH_EINVALID);
    ck_assert_contains(err.text, "too long");
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}
END_TEST

int main(void)
{
    TCase *local;
    Suite *suite = http_suite("http_server", &local);
    TCase *remote = tcase_create("tls");
    TCase *config = tcase_create("configuration");
    tcase_add_test(local, the_socket_is_for_its_owner_alone);
    tcase_add_test(local, a_dead_socket_is_replaced_and_the_end_takes_it_away);
    tcase_add_test(local, the_end_takes_waiting_clients_along);
    tcase_add_checked_fixture(remote, start_tls, fixture_stop);
    tcase_add_test(remote, over_tls_a_good_token_is_served_and_no_token_is_not);
    tcase_add_test(remote, plain_http_on_the_tls_port_gets_no_answer);
    tcase_add_test(remote, only_tls_that_still_counts_is_spoken);
    tcase_add_test(remote, one_address_cannot_take_every_place);
    tcase_set_timeout(remote, 300);
    suite_add_tcase(suite, remote);
    tcase_add_test(config, an_address_that_is_none_is_refused_and_nothing_stays_open);
    tcase_add_test(config, a_socket_path_that_does_not_fit_is_refused);
    suite_add_tcase(suite, config);
    return test_main_run(suite);
}
