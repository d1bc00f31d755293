/* What a hub may answer, through a socket, libcurl and everything that reads it; and what a person
 * may type for a model. The first byte says what the rest is:
 *   l  the body of a listing: names, sizes, hashes; then the choice of files from it
 *   a  a whole answer to a request for a listing, headers and all: refusals, redirects
 *   h  a whole answer to HEAD: size and hash of one file
 *   s  the index of shards, of a repository with a few names
 *   r  a model's name
 * Names that come out must be safe to make paths of, hashes must be hashes. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "hub/hub_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char ok_head[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";

static int server = -1;

/* What is answered; the lock is held while it is sent. */
static pthread_mutex_t answer = PTHREAD_MUTEX_INITIALIZER;
static const char *head = "";
static const uint8_t *body;
static size_t body_bytes;

static void set_answer(const char *h, const uint8_t *data, size_t n)
{
    pthread_mutex_lock(&answer);
    head = h;
    body = data;
    body_bytes = n;
    pthread_mutex_unlock(&answer);
}

static void send_all(int fd, const void *data, size_t n)
{
    for (const char *p = data; n > 0;) {
        ssize_t some = send(fd, p, n, MSG_NOSIGNAL);
        if (some <= 0)
            return;
        p += some;
        n -= (size_t)some;
    }
}

/* Every request gets the same answer, and the end of the connection. */
static void *serve(void *unused)
{
    (void)unused;
    for (;;) {
        char request[8192];
        size_t got = 0;
        int fd = accept(server, NULL, NULL);
        if (fd < 0)
            abort();
        while (got < sizeof request - 1) {
            ssize_t n = recv(fd, request + got, sizeof request - 1 - got, 0);
            if (n <= 0)
                break;
            got += (size_t)n;
            request[got] = 0;
            if (strstr(request, "\r\n\r\n"))
                break;
        }
        pthread_mutex_lock(&answer);
        send_all(fd, head, strlen(head));
        send_all(fd, body, body_bytes);
        pthread_mutex_unlock(&answer);
        shutdown(fd, SHUT_WR);
        while (recv(fd, request, sizeof request, 0) > 0)
            continue;
        close(fd);
    }
    return NULL;
}

/* The address of the server, which runs from the first call on. */
static char *endpoint(void)
{
    static char url[64];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    pthread_t thread;
    if (server >= 0)
        return url;
    server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server < 0 || bind(server, (struct sockaddr *)&a, n) || listen(server, 16) ||
        getsockname(server, (struct sockaddr *)&a, &n) ||
        pthread_create(&thread, NULL, serve, NULL))
        abort();
    snprintf(url, sizeof url, "http://127.0.0.1:%d", ntohs(a.sin_port));
    return url;
}

static void must_say(int rc, const struct err *e)
{
    if (rc && !e->message[0])
        abort();
}

static void check_repo(const struct hub_repo *r)
{
    if (!hub_is_hex(r->commit, HUB_COMMIT_MAX - 1))
        abort();
    for (size_t i = 0; i < r->n; i++) {
        const struct hub_file *f = &r->files[i];
        if (!hub_path_safe(f->path) ||
            (f->etag[0] && !hub_is_hex(f->etag, 64) && !hub_is_hex(f->etag, 40)))
            abort();
    }
}

static void ask(char kind, const struct hub_ref *ref)
{
    struct hub h = {.endpoint = endpoint(), .token = "hf_secret"};
    struct hub_repo r = {0};
    struct err e = {0};
    struct hub_file f = {.path = "model.safetensors"};
    struct net *net = net_open(&(struct net_options){.attempts = 1, .stall_s = 2});
    const char *gguf = NULL;
    if (kind == 'h') {
        int rc = hub_head(&h, net, ref, "main", &f, &e);
        must_say(rc, &e);
        if (rc == 0 && !hub_is_hex(f.etag, 64) && !hub_is_hex(f.etag, 40))
            abort();
    } else if (hub_list(&h, net, ref, &r, &e) == 0) {
        check_repo(&r);
        must_say(hub_choose(ref, &r, &gguf, &e), &e);
        if (gguf && !hub_repo_find(&r, gguf))
            abort();
    } else {
        must_say(-1, &e);
    }
    bool told = body_bytes > 0 && memmem(body, body_bytes, h.token, strlen(h.token));
    if (!told && (strstr(e.message, h.token) || strstr(e.hint, h.token)))
        abort();
    hub_repo_release(&r);
    net_close(net);
}

static void shards(const struct hub_ref *ref, const uint8_t *data, size_t size)
{
    static const char *const names[] = {"config.json", "model-1.safetensors", "model-2.safetensors",
                                        "model.safetensors.index.json"};
    struct hub_file files[4] = {{0}};
    struct hub_repo r = {.files = files, .n = 4};
    struct err e = {0};
    json_t *index = json_parse((const char *)data, size, "index", &e);
    for (int i = 0; i < 4; i++)
        files[i].path = (char *)(uintptr_t)names[i];
    if (index)
        must_say(hub_choose_shards(ref, &r, index, &e), &e);
    json_decref(index);
}

static void name(const uint8_t *data, size_t size)
{
    struct hub_ref ref;
    struct err e = {0};
    char *text = xstrndup((const char *)data, size);
    int rc = hub_ref_parse(&ref, text, &e);
    must_say(rc, &e);
    if (rc == 0 && (!hub_path_safe(ref.repo) || !hub_path_safe(ref.revision)))
        abort();
    xfree(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hub_ref ref;
    log_set_level(LOG_QUIET);
    if (size == 0 || hub_ref_parse(&ref, "org/name:Q4_K_M@main", NULL))
        return 0;
    if (data[0] == 's')
        shards(&ref, data + 1, size - 1);
    else if (data[0] == 'r')
        name(data + 1, size - 1);
    if (!strchr("lah", data[0]))
        return 0;
    set_answer(data[0] == 'l' ? ok_head : "", data + 1, size - 1);
    ask((char)data[0], &ref);
    set_answer("", NULL, 0); /* the bytes are not ours for longer */
    return 0;
}
