/* What our own code reads of a request, on any bytes: the frame that crosses the mesh,
 * then its query and its path. What is decoded encodes to the same bytes; a query's texts
 * are inside it and ended; a route that matches has a target with names that fit. */
#include "api/exchange.h"
#include "api/query.h"
#include "api/routes.h"
#include "base/err.h"
#include "base/require.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_query(const char *text)
{
    struct query query;
    struct err err = {0};
    uint64_t value = 0;
    if (query_parse(text, &query, &err) < 0) {
        REQUIRE(query.count == 0 && err.text[0] != '\0');
        return;
    }
    REQUIRE(query.count <= QUERY_ITEMS_MAX);
    for (unsigned i = 0; i < query.count; i++) {
        REQUIRE(strlen(query.items[i].name) <= strlen(text));
        REQUIRE(strlen(query.items[i].value) <= strlen(text));
        REQUIRE(query_get(&query, query.items[i].name) != NULL);
        (void)query_u64(&query, query.items[i].name, 0, &value, &err);
    }
    REQUIRE(query_check(&query, NULL, &err) == (query.count > 0 ? BERTH_EINVALID : 0));
    query_fini(&query);
}

static void check_route(const char *method, const char *path)
{
    const struct route *route = NULL;
    struct route_target target;
    char allow[ROUTE_ALLOW_SIZE];
    int r = routes_match(method, path, &route, &target, allow);
    REQUIRE(strlen(allow) < ROUTE_ALLOW_SIZE);
    if (r == 0) {
        REQUIRE(route != NULL && strlen(target.name) < NAME_SIZE &&
                strlen(target.tenant) < NAME_SIZE);
        REQUIRE(strchr(target.name, '/') == NULL && strchr(target.tenant, '/') == NULL);
    } else {
        REQUIRE(r == BERTH_ENOTFOUND || (r == BERTH_EUNSUPPORTED && allow[0] != '\0'));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct exchange_request request;
    uint8_t *again = NULL;
    size_t again_size = 0;
    if (exchange_request_decode(data, size, &request) < 0) {
        REQUIRE(request.path == NULL && request.body == NULL && request.query == NULL);
        return 0;
    }
    REQUIRE(request.path[0] == '/' && strlen(request.path) <= EXCHANGE_PATH_MAX);
    REQUIRE(request.body_size <= EXCHANGE_BODY_MAX);
    int r = exchange_request_encode(&request, &again, &again_size);
    REQUIRE(r == 0 && again_size == size && memcmp(again, data, size) == 0);
    free(again);
    check_query(request.query);
    check_route(request.method, request.path);
    exchange_request_fini(&request);
    return 0;
}
