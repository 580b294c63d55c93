/* ThreadSanitizer and ZeroMQ: include this in one file of a test binary that runs libzmq.
 *
 * libzmq and czmq hand memory between threads through lock-free pipes that the sanitizer
 * cannot see, because the packaged libraries are not instrumented; what the sanitizer's
 * interceptors (memcpy, recv, free) observe inside them is therefore left out. Our own
 * code stays fully checked.
 */
#pragma once

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN_SUPPRESSIONS_WANTED 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define TSAN_SUPPRESSIONS_WANTED 1
#endif

#ifdef TSAN_SUPPRESSIONS_WANTED
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libzmq.so\n"
           "called_from_lib:libczmq.so\n"
           "called_from_lib:libsodium.so\n"
           "called_from_lib:libstdc++.so\n"
           "mutex:mesh_socket_setup\n"
           "race:libzmq.so\n"
           "race:libczmq.so\n";
}
#endif
