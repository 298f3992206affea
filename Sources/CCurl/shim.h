// libcurl: HTTP as a client. Its setters and getters are variadic, which Swift cannot call: one wrapper for each type.
#pragma once
#include <curl/curl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

typedef size_t (*holdfast_curl_transfer)(char *, size_t, size_t, void *);

static inline CURLcode holdfast_curl_start(void) { return curl_global_init(CURL_GLOBAL_DEFAULT); }

static inline CURLcode holdfast_curl_set_long(CURL *easy, CURLoption option, long value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode holdfast_curl_set_offset(CURL *easy, CURLoption option, curl_off_t value) {
    return curl_easy_setopt(easy, option, value);
}
// libcurl copies the text. NULL takes a default away.
static inline CURLcode holdfast_curl_set_text(CURL *easy, CURLoption option, const char *value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode holdfast_curl_set_pointer(CURL *easy, CURLoption option, void *value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode holdfast_curl_set_list(CURL *easy, CURLoption option, struct curl_slist *value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode holdfast_curl_set_transfer(CURL *easy, CURLoption option, holdfast_curl_transfer value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode holdfast_curl_set_seek(CURL *easy, curl_seek_callback value) {
    return curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, value);
}
static inline CURLcode holdfast_curl_set_before_request(CURL *easy, curl_prereq_callback value) {
    return curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, value);
}
static inline CURLcode holdfast_curl_set_open_socket(CURL *easy, curl_opensocket_callback value) {
    return curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, value);
}
// The address that is about to be connected to: 4 or 16 bytes, or 0 for a family that is neither. The address is longer
// than the member that holds it.
static inline size_t holdfast_curl_address(const struct curl_sockaddr *from, unsigned char *bytes) {
    if (from->family == AF_INET && from->addrlen >= sizeof(struct sockaddr_in)) {
        memcpy(bytes, (const char *)&from->addr + offsetof(struct sockaddr_in, sin_addr), 4);
        return 4;
    }
    if (from->family == AF_INET6 && from->addrlen >= sizeof(struct sockaddr_in6)) {
        memcpy(bytes, (const char *)&from->addr + offsetof(struct sockaddr_in6, sin6_addr), 16);
        return 16;
    }
    return 0;
}
static inline curl_socket_t holdfast_curl_open_socket(const struct curl_sockaddr *to) {
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}
static inline CURLMcode holdfast_curl_multi_set_long(CURLM *multi, CURLMoption option, long value) {
    return curl_multi_setopt(multi, option, value);
}
static inline long holdfast_curl_get_long(CURL *easy, CURLINFO info) {
    long value = 0;
    return curl_easy_getinfo(easy, info, &value) == CURLE_OK ? value : 0;
}
static inline curl_off_t holdfast_curl_get_offset(CURL *easy, CURLINFO info) {
    curl_off_t value = 0;
    return curl_easy_getinfo(easy, info, &value) == CURLE_OK ? value : 0;
}
// Valid until the handle is used again; NULL when there is none.
static inline const char *holdfast_curl_get_text(CURL *easy, CURLINFO info) {
    const char *value = NULL;
    return curl_easy_getinfo(easy, info, &value) == CURLE_OK ? value : NULL;
}
// CURLMsg keeps the result in a union.
static inline CURLcode holdfast_curl_result(const CURLMsg *message) { return message->data.result; }
