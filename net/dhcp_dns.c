#include "net/dhcp_dns.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/parse_number.h"
#include "base/proc_stat.h"
#include "base/require.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SMALL_FILE_MAX  65536u
#define STOP_TIMEOUT_MS 1000
#define LOCAL_TTL_S     5 /* names move with VMs; resolvers must not keep them long */

static const char *const file_names[] = {"dnsmasq.conf", "hosts", "names",
                                         "leases",       "pid",   "instance"};

/* ---- texts ---- */

void dhcp_dns_path(const struct network_host *host,
                   uint32_t vni,
                   const char *file,
                   char path[DHCP_DNS_PATH_SIZE])
{
    (void)snprintf(path, DHCP_DNS_PATH_SIZE, "%s/networks/%u%s%s", host->state_folder,
                   vni, file != NULL ? "/" : "", file != NULL ? file : "");
}

static void write_path(struct bytes_writer *writer,
                       const struct network_host *host,
                       uint32_t vni,
                       const char *option,
                       const char *file)
{
    char path[DHCP_DNS_PATH_SIZE];

    dhcp_dns_path(host, vni, file, path);
    bytes_write_format(writer, "%s=%s\n", option, path);
}

static void write_config(struct bytes_writer *writer,
                         const struct network_host *host,
                         const struct network_want *want,
                         const char *user)
{
    char bridge[NETWORK_IFNAME_SIZE];
    char gateway[IPV4_TEXT_SIZE];
    char network[IPV4_TEXT_SIZE];
    char mask[IPV4_TEXT_SIZE];
    char forwarder[IPV4_TEXT_SIZE];

    network_bridge_name(want->vni, bridge);
    format_ipv4(want->gateway, gateway);
    format_ipv4(want->cidr.address, network);
    format_ipv4(UINT32_MAX << (32 - want->cidr.prefix_bits), mask);

    bytes_write_format(writer, "user=%s\n", user);
    bytes_write_format(writer, "interface=%s\nexcept-interface=lo\nbind-interfaces\n",
                       bridge);
    bytes_write_format(writer,
                       "no-hosts\nno-resolv\nno-poll\ndomain-needed\nbogus-priv\n");
    bytes_write_format(writer, "local=/%s/\ndomain=%s\nlocal-ttl=%d\ncache-size=1000\n",
                       want->zone, want->zone, LOCAL_TTL_S);
    for (size_t i = 0; i < want->forwarder_count; i++) {
        format_ipv4(want->forwarders[i], forwarder);
        bytes_write_format(writer, "server=%s\n", forwarder);
    }
    bytes_write_format(writer, "dhcp-range=%s,static,%s," DHCP_DNS_LEASE_TEXT "\n",
                       network, mask);
    bytes_write_format(writer,
                       "dhcp-authoritative\ndhcp-ignore=tag:!known\ndhcp-ignore-names\n"
                       "no-ping\nquiet-dhcp\n");
    bytes_write_format(writer, "dhcp-lease-max=%d\n", NETWORK_PORTS_MAX);
    bytes_write_format(writer, "dhcp-option=option:router,%s\n", gateway);
    bytes_write_format(writer, "dhcp-option=option:dns-server,%s\n", gateway);
    bytes_write_format(writer, "dhcp-option=option:domain-search,%s\n", want->zone);
    bytes_write_format(writer, "dhcp-option=option:mtu,%u\n", want->mtu);
    write_path(writer, host, want->vni, "dhcp-hostsfile", "hosts");
    write_path(writer, host, want->vni, "addn-hosts", "names");
    write_path(writer, host, want->vni, "dhcp-leasefile", "leases");
    write_path(writer, host, want->vni, "pid-file", "pid");
}

static void write_hosts(struct bytes_writer *writer, const struct network_want *want)
{
    char mac[MAC_TEXT_SIZE];
    char ipv4[IPV4_TEXT_SIZE];

    for (size_t i = 0; i < want->port_count; i++) {
        format_mac(want->ports[i].mac, mac);
        format_ipv4(want->ports[i].ipv4, ipv4);
        bytes_write_format(writer, "%s,%s,%s\n", mac, ipv4, want->ports[i].vm_name);
    }
}

static void write_names(struct bytes_writer *writer, const struct network_want *want)
{
    char ipv4[IPV4_TEXT_SIZE];

    for (size_t i = 0; i < want->name_count; i++) {
        format_ipv4(want->names[i].ipv4, ipv4);
        bytes_write_format(writer, "%s %s.%s\n", ipv4, want->names[i].name, want->zone);
    }
}

static uint64_t text_hash(const char *first, const char *second)
{
    struct digest_stream stream;
    struct digest digest;
    uint64_t hash = 0;

    digest_start(&stream);
    digest_update(&stream, first, strlen(first) + 1);
    digest_update(&stream, second, strlen(second) + 1);
    digest_finish(&stream, &digest);
    memcpy(&hash, digest.bytes, sizeof(hash));
    return hash != 0 ? hash : 1; /* 0 says "unknown" */
}

int dhcp_dns_render(const struct network_host *host,
                    const struct network_want *want,
                    const char *user,
                    struct dhcp_dns_texts *ret_texts,
                    struct err *err)
{
    struct bytes_writer writer;
    struct dhcp_dns_texts texts = {0};

    REQUIRE(host != NULL && want != NULL && user != NULL);
    bytes_writer_init(&writer, DHCP_DNS_TEXT_MAX);
    write_config(&writer, host, want, user);
    int r = bytes_writer_take_text(&writer, &texts.config);
    if (r == 0) {
        bytes_write_format(&writer, "# leases of network %u\n", want->vni);
        write_hosts(&writer, want);
        r = bytes_writer_take_text(&writer, &texts.hosts);
    }
    if (r == 0) {
        bytes_write_format(&writer, "# names of network %u\n", want->vni);
        write_names(&writer, want);
        r = bytes_writer_take_text(&writer, &texts.names);
    }
    bytes_writer_fini(&writer);
    if (r != 0) {
        dhcp_dns_texts_fini(&texts);
        return err_sys(err, r, "network %s: render DHCP and DNS files", want->name);
    }
    texts.config_hash = text_hash(texts.config, "");
    texts.hosts_hash = text_hash(texts.hosts, texts.names);
    *ret_texts = texts;
    return 0;
}

void dhcp_dns_texts_fini(struct dhcp_dns_texts *texts)
{
    free(texts->config);
    free(texts->hosts);
    free(texts->names);
    *texts = (struct dhcp_dns_texts){0};
}

/* One line of the lease file: "<expiry> <mac> <address> <name> <client id>". Others say
 * nothing here. */
static bool lease_parse(const char *line, uint64_t *ret_mac, uint32_t *ret_ipv4)
{
    char mac[MAC_TEXT_SIZE];
    char ipv4[IPV4_TEXT_SIZE];

    return sscanf(line, "%*u %17s %15s", mac, ipv4) == 2 &&
           parse_mac(mac, ret_mac, NULL) == 0 && parse_ipv4(ipv4, ret_ipv4, NULL) == 0;
}

bool dhcp_dns_lease_conflict(const char *leases, const struct network_want *want)
{
    for (const char *line = leases; line != NULL && *line != '\0';) {
        uint64_t mac = 0;
        uint32_t ipv4 = 0;
        if (lease_parse(line, &mac, &ipv4)) {
            for (size_t i = 0; i < want->port_count; i++) {
                if (want->ports[i].ipv4 == ipv4 && want->ports[i].mac != mac) {
                    return true;
                }
            }
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return false;
}

/* ---- files ---- */

const char *dhcp_dns_user(const struct network_host *host)
{
    char path[DHCP_DNS_PATH_SIZE];
    struct stat status;

    (void)snprintf(path, sizeof(path), "%s", host->state_folder);
    for (;;) {
        /* What is not there yet will be made passable by dhcp_dns_write. */
        if (stat(path, &status) == 0 && (status.st_mode & S_IXOTH) == 0) {
            return "root";
        }
        char *slash = strrchr(path, '/');
        if (slash == NULL || slash == path) {
            return "nobody";
        }
        *slash = '\0';
    }
}

/* Replaced by rename so that dnsmasq never reads half a file; not synced, since it is
 * made anew from the cluster's state after a crash. */
static int write_file(const struct network_host *host,
                      uint32_t vni,
                      const char *file,
                      const char *text,
                      struct err *err)
{
    char path[DHCP_DNS_PATH_SIZE];
    char temporary[DHCP_DNS_PATH_SIZE + 8];

    dhcp_dns_path(host, vni, file, path);
    (void)snprintf(temporary, sizeof(temporary), "%s.new", path);
    CLEANUP_FD int fd =
        fd_open_at(AT_FDCWD, temporary, O_WRONLY | O_CREAT | O_TRUNC, 0644, err);
    if (fd < 0) {
        return fd;
    }
    int r = fd_write_full(fd, text, strlen(text));
    if (r == 0 && (fchmod(fd, 0644) != 0 || rename(temporary, path) != 0)) {
        r = -errno;
    }
    if (r != 0) {
        (void)unlink(temporary);
        return err_sys(err, r, "write %s", path);
    }
    return 0;
}

static int make_folder(const char *path, struct err *err)
{
    if (mkdir(path, 0755) != 0 && errno != EEXIST) {
        return err_sys(err, -errno, "make folder %s", path);
    }
    /* dnsmasq reads its files again after it has dropped root, whatever our umask is. */
    if (chmod(path, 0755) != 0) {
        return err_sys(err, -errno, "set mode of %s", path);
    }
    return 0;
}

int dhcp_dns_write(const struct network_host *host,
                   uint32_t vni,
                   const struct dhcp_dns_texts *texts,
                   bool all,
                   struct err *err)
{
    char path[DHCP_DNS_PATH_SIZE];
    int r = 0;

    if (all) {
        (void)snprintf(path, sizeof(path), "%s/networks", host->state_folder);
        r = make_folder(path, err);
        if (r == 0) {
            dhcp_dns_path(host, vni, NULL, path);
            r = make_folder(path, err);
        }
        if (r == 0) {
            r = write_file(host, vni, "dnsmasq.conf", texts->config, err);
        }
        dhcp_dns_path(host, vni, "leases", path);
        if (r == 0 && unlink(path) != 0 && errno != ENOENT) {
            r = err_sys(err, -errno, "remove %s", path);
        }
    }
    if (r == 0) {
        r = write_file(host, vni, "hosts", texts->hosts, err);
    }
    if (r == 0) {
        r = write_file(host, vni, "names", texts->names, err);
    }
    return r;
}

int dhcp_dns_list(const struct network_host *host,
                  uint32_t *ret_vnis,
                  size_t max,
                  struct err *err)
{
    char path[DHCP_DNS_PATH_SIZE];
    size_t count = 0;

    (void)snprintf(path, sizeof(path), "%s/networks", host->state_folder);
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return errno == ENOENT ? 0 : err_sys(err, -errno, "open folder %s", path);
    }
    for (struct dirent *entry = readdir(folder); entry != NULL && count < max;
         entry = readdir(folder)) {
        uint64_t vni = 0;
        if (parse_u64(entry->d_name, &vni, NULL) == 0 && vni >= 1 &&
            vni <= NETWORK_VNI_MAX) {
            ret_vnis[count++] = (uint32_t)vni;
        }
    }
    (void)closedir(folder); /* only read from */
    return (int)count;
}

int dhcp_dns_remove(const struct network_host *host, uint32_t vni, struct err *err)
{
    char path[DHCP_DNS_PATH_SIZE];

    for (size_t i = 0; i < ARRAY_COUNT(file_names); i++) {
        dhcp_dns_path(host, vni, file_names[i], path);
        if (unlink(path) != 0 && errno != ENOENT && errno != ENOTDIR) {
            return err_sys(err, -errno, "remove %s", path);
        }
        size_t length = strlen(path);
        (void)snprintf(path + length, sizeof(path) - length, ".new");
        (void)unlink(path); /* left by a crash in the middle of a write, if at all */
    }
    dhcp_dns_path(host, vni, NULL, path);
    if (rmdir(path) != 0 && errno != ENOENT) {
        return err_sys(err, -errno, "remove folder %s", path);
    }
    return 0;
}

/* ---- the process ---- */

static bool read_small(const char *path, char **ret_text, size_t *ret_size)
{
    uint8_t *data = NULL;

    if (fd_read_file(AT_FDCWD, path, SMALL_FILE_MAX, &data, ret_size, NULL) != 0) {
        return false;
    }
    *ret_text = (char *)data;
    return true;
}

/* 0 when there is no such process. */
static uint64_t process_start_ticks(pid_t pid)
{
    struct proc_stat stat;
    return proc_stat_read(pid, &stat) == 0 ? stat.start_ticks : 0;
}

/* Whether the process was started with this network's configuration as an argument of its
 * own. */
static bool process_is_ours(const struct network_host *host, uint32_t vni, pid_t pid)
{
    char path[64];
    char config[DHCP_DNS_PATH_SIZE];
    char argument[DHCP_DNS_PATH_SIZE + 16];
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    if (pid <= 1 || !read_small(path, &text, &size)) {
        return false;
    }
    dhcp_dns_path(host, vni, "dnsmasq.conf", config);
    (void)snprintf(argument, sizeof(argument), "--conf-file=%s", config);
    for (size_t at = 0; at < size; at += strlen(text + at) + 1) {
        if (strcmp(text + at, argument) == 0) {
            return true;
        }
    }
    return false;
}

/* The number at *at, after blanks; moves *at behind it. */
static bool number_next(const char **at, int base, uint64_t *ret_number)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(*at, &end, base);
    if (end == *at || errno != 0) {
        return false;
    }
    *at = end;
    *ret_number = number;
    return true;
}

static bool instance_read(const struct network_host *host,
                          uint32_t vni,
                          struct dhcp_dns_instance *ret_instance)
{
    char path[DHCP_DNS_PATH_SIZE];
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    uint64_t pid = 0;
    struct dhcp_dns_instance instance = {0};

    dhcp_dns_path(host, vni, "instance", path);
    if (!read_small(path, &text, &size)) {
        return false;
    }
    const char *at = text;
    if (!number_next(&at, 10, &pid) || pid > INT_MAX ||
        !number_next(&at, 10, &instance.start_ticks) ||
        !number_next(&at, 16, &instance.config_hash) ||
        !number_next(&at, 16, &instance.hosts_hash)) {
        return false;
    }
    instance.pid = (pid_t)pid;
    *ret_instance = instance;
    return true;
}

static pid_t pid_read(const struct network_host *host, uint32_t vni)
{
    char path[DHCP_DNS_PATH_SIZE];
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    uint64_t pid = 0;

    dhcp_dns_path(host, vni, "pid", path);
    if (!read_small(path, &text, &size)) {
        return 0;
    }
    const char *at = text;
    return number_next(&at, 10, &pid) && pid <= INT_MAX ? (pid_t)pid : 0;
}

void dhcp_dns_find(const struct network_host *host,
                   uint32_t vni,
                   struct dhcp_dns_instance *ret_instance)
{
    struct dhcp_dns_instance instance = {0};

    if (instance_read(host, vni, &instance) && process_is_ours(host, vni, instance.pid) &&
        process_start_ticks(instance.pid) == instance.start_ticks) {
        *ret_instance = instance;
        return;
    }
    instance = (struct dhcp_dns_instance){.pid = pid_read(host, vni)};
    if (process_is_ours(host, vni, instance.pid)) {
        instance.start_ticks = process_start_ticks(instance.pid);
    } else {
        instance.pid = 0;
    }
    *ret_instance = instance;
}

int dhcp_dns_note(const struct network_host *host,
                  uint32_t vni,
                  const struct dhcp_dns_texts *texts,
                  struct err *err)
{
    pid_t pid = pid_read(host, vni);
    char text[128];

    if (!process_is_ours(host, vni, pid)) {
        return err_set(err, BERTH_ECHILD, "dnsmasq of network %u has ended at once", vni);
    }
    (void)snprintf(text, sizeof(text), "%d %llu %llx %llx\n", (int)pid,
                   (unsigned long long)process_start_ticks(pid),
                   (unsigned long long)texts->config_hash,
                   (unsigned long long)texts->hosts_hash);
    return write_file(host, vni, "instance", text, err);
}

int dhcp_dns_open(const struct network_host *host,
                  uint32_t vni,
                  const struct dhcp_dns_instance *instance)
{
    if (instance->pid <= 1) {
        return -1;
    }
    int fd = (int)syscall(SYS_pidfd_open, instance->pid, 0);
    if (fd < 0) {
        return -1;
    }
    /* The pid is pinned now; it is ours only if it still is the process we looked at. */
    if (!process_is_ours(host, vni, instance->pid) ||
        process_start_ticks(instance->pid) != instance->start_ticks) {
        fd_close(&fd);
    }
    return fd;
}

void dhcp_dns_stop_now(const struct network_host *host, uint32_t vni)
{
    static const int signals[] = {SIGTERM, SIGKILL};
    struct dhcp_dns_instance instance;

    dhcp_dns_find(host, vni, &instance);
    CLEANUP_FD int fd = dhcp_dns_open(host, vni, &instance);
    for (size_t i = 0; fd >= 0 && i < ARRAY_COUNT(signals); i++) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (syscall(SYS_pidfd_send_signal, fd, signals[i], NULL, 0) != 0 ||
            poll(&wait, 1, STOP_TIMEOUT_MS) == 1) {
            return;
        }
    }
}
