#include "consensus/channel_address.h"

#include "consensus/channel_crypto.h" /* CHANNEL_ADDRESS_SIZE */

#include <uv.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int channel_parse_address(const char *text,
                          struct sockaddr_storage *ret_address,
                          struct err *err)
{
    char host[CHANNEL_ADDRESS_SIZE];
    const char *colon = strrchr(text, ':');
    const char *start = text;
    if (colon == NULL || strlen(text) >= sizeof(host) || colon == text) {
        return err_set(err, BERTH_EINVALID, "raft address %s: expected ip:port", text);
    }
    char *end = NULL;
    long port = strtol(colon + 1, &end, 10);
    size_t length = (size_t)(colon - text);
    bool six = text[0] == '[';
    if (six) {
        start++;
        length = text[length - 1] == ']' && length > 2 ? length - 2 : 0;
    }
    memcpy(host, start, length);
    host[length] = '\0';
    memset(ret_address, 0, sizeof(*ret_address));
    bool port_fits =
        colon[1] >= '0' && colon[1] <= '9' && *end == '\0' && port > 0 && port < 65536;
    int r = six ? uv_ip6_addr(host, (int)port, (struct sockaddr_in6 *)ret_address)
                : uv_ip4_addr(host, (int)port, (struct sockaddr_in *)ret_address);
    if (r < 0 || !port_fits) {
        return err_set(err, BERTH_EINVALID, "raft address %s: expected ip:port", text);
    }
    return 0;
}
