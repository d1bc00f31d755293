/* net: addresses, and requests against a server that says exactly what each test wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/http.h"
#include "net/url.h"

/* ---- a server of one thread: answer i goes to connection i, then the connection is closed ------
 */

enum { ANSWERS_MAX = 12, REQUEST_MAX = 8192 };
struct server {
    const char *answers[ANSWERS_MAX]; /* NULL: says nothing until the client goes away */
    int n, served, fd, port;
    char seen[ANSWERS_MAX][REQUEST_MAX];
    pthread_t thread;
};

static void read_request(int fd, char *text)
{
    size_t n = 0;
    while (n + 1 < REQUEST_MAX && !strstr(text, "\r\n\r\n")) {
        ssize_t got = read(fd, text + n, REQUEST_MAX - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
        text[n] = 0;
    }
}

static void *serve(void *ud)
{
    struct server *s = ud;
    for (int i = 0; i < s->n; i++) {
        int fd = accept(s->fd, NULL, NULL);
        char rest[64];
        if (fd < 0)
            break;
        read_request(fd, s->seen[i]);
        s->served++;
        if (s->answers[i] && write(fd, s->answers[i], strlen(s->answers[i])) > 0)
            shutdown(fd, SHUT_WR);
        while (read(fd, rest, sizeof(rest)) > 0)
            continue;
        close(fd);
    }
    return NULL;
}

static void server_listen(struct server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(s->fd, 16), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
    s->port = ntohs(a.sin_port);
}

static void server_begin(struct server *s)
{
    if (!s->port)
        server_listen(s);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_end(struct server *s)
{
    shutdown(s->fd, SHUT_RDWR);
    close(s->fd);
    pthread_join(s->thread, NULL);
}

static const struct net_options quick = {.stall_s = 1, .connect_s = 2, .backoff_s = 0.01};
#define OK(text)  "HTTP/1.1 200 OK\r\nX-Word: first\r\nX-Word:  last \r\n\r\n" text
#define SAY(line) "HTTP/1.1 " line "\r\nContent-Length: 0\r\n\r\n"

static int ask(struct server *s, const char *path, const char *token, struct net_answer *a,
               struct err *e)
{
    struct net *n = net_open(&quick);
    char *url = xasprintf("http://127.0.0.1:%d%s", s->port, path);
    struct net_request q = {.method = "GET", .url = url, .token = token, .answer_max = 1000};
    int rc = net_ask(n, &q, a, e);
    net_close(n);
    xfree(url);
    return rc;
}

/* ---- requests ----------------------------------------------------------------------------------
 */

static void an_answer_has_status_headers_and_body(void **state)
{
    (void)state;
    struct server s = {.answers = {OK("hello")}, .n = 1};
    struct net_answer a;
    server_begin(&s);
    assert_int_equal(ask(&s, "/x?y=1", "hf_secret", &a, NULL), 0);
    assert_int_equal(a.status, 200);
    assert_string_equal(buf_str(&a.body), "hello");
    assert_string_equal(net_header(&a, "x-word"), "last");
    assert_null(net_header(&a, "x-words"));
    assert_non_null(strstr(s.seen[0], "GET /x?y=1 HTTP/1.1"));
    assert_non_null(strstr(s.seen[0], "Authorization: Bearer hf_secret\r\n"));
    net_answer_release(&a);
    server_end(&s);
}

static void what_may_pass_is_asked_again(void **state)
{
    (void)state;
    struct server s = {.answers = {SAY("500 No"), SAY("429 Busy\r\nRetry-After: 0"),
                                   "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", NULL,
                                   OK("whole")},
                       .n = 5};
    struct net_answer a;
    server_begin(&s);
    assert_int_equal(ask(&s, "/", NULL, &a, NULL), 0);
    assert_string_equal(buf_str(&a.body), "whole");
    assert_int_equal(s.served, 5);
    assert_null(strstr(s.seen[0], "Authorization"));
    net_answer_release(&a);
    server_end(&s);
}

static void what_stays_is_not_asked_again(void **state)
{
    (void)state;
    struct server s = {.answers = {SAY("404 No"), OK("later")}, .n = 2};
    struct net_answer a;
    server_begin(&s);
    assert_int_equal(ask(&s, "/", NULL, &a, NULL), 0);
    assert_int_equal(a.status, 404);
    assert_int_equal(s.served, 1);
    net_answer_release(&a);
    server_end(&s);
}

static void attempts_end(void **state)
{
    (void)state;
    struct server s = {.n = 10};
    struct net_answer a;
    for (int i = 0; i < 10; i++)
        s.answers[i] = SAY("503 No\r\nRateLimit: \"api\";r=0;t=-1");
    server_begin(&s);
    assert_int_equal(ask(&s, "/", NULL, &a, NULL), 0);
    assert_int_equal(a.status, 503);
    assert_int_equal(s.served, 6);
    net_answer_release(&a);
    server_end(&s);
}

static void a_wait_that_is_asked_for_is_kept(void **state)
{
    (void)state;
    struct server s = {.answers = {SAY("429 Busy\r\nRetry-After: 1"), OK("x")}, .n = 2};
    struct net_answer a;
    double began = clock_seconds();
    server_begin(&s);
    assert_int_equal(ask(&s, "/", NULL, &a, NULL), 0);
    assert_true(clock_seconds() - began >= 0.99);
    net_answer_release(&a);
    server_end(&s);
}

static void a_token_stays_at_its_origin(void **state)
{
    (void)state;
    struct server other = {.answers = {OK("must not be asked")}, .n = 1};
    struct server s = {.n = 2};
    struct net_answer a;
    server_listen(&other);
    server_begin(&other);
    char *away = xasprintf("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/lfs\r\n"
                           "Content-Length: 0\r\n\r\n",
                           other.port);
    s.answers[0] = SAY("307 Moved\r\nLocation: /new/name");
    s.answers[1] = away;
    server_begin(&s);
    assert_int_equal(ask(&s, "/old", "hf_secret", &a, NULL), 0);
    assert_int_equal(a.status, 302);
    assert_non_null(strstr(s.seen[1], "GET /new/name "));
    assert_non_null(strstr(s.seen[1], "hf_secret"));
    assert_non_null(a.location);
    assert_int_equal(other.served, 0);
    net_answer_release(&a);
    server_end(&s);
    server_end(&other);
    xfree(away);
}

static void circles_and_strange_addresses_end(void **state)
{
    (void)state;
    struct server s = {.n = ANSWERS_MAX};
    struct net_answer a;
    struct err e = {0};
    for (int i = 0; i < ANSWERS_MAX; i++)
        s.answers[i] = SAY("302 Found\r\nLocation: /again");
    server_begin(&s);
    assert_int_equal(ask(&s, "/", NULL, &a, &e), -1);
    assert_non_null(strstr(e.message, "circles"));
    net_answer_release(&a);
    server_end(&s);
    struct server t = {.answers = {SAY("302 Found\r\nLocation: file:///etc/passwd")}, .n = 1};
    server_begin(&t);
    assert_int_equal(ask(&t, "/", NULL, &a, &e), -1);
    assert_non_null(strstr(e.message, "no web address"));
    net_answer_release(&a);
    server_end(&t);
}

static void an_answer_without_end_is_cut(void **state)
{
    (void)state;
    char *text = xmalloc(4096);
    memset(text, 'x', 4095);
    text[4095] = 0;
    memcpy(text, "HTTP/1.1 200 OK\r\n\r\n", 19);
    struct server s = {.answers = {text}, .n = 1};
    struct net_answer a;
    struct err e = {0};
    server_begin(&s);
    assert_int_equal(ask(&s, "/p?sig=secret", NULL, &a, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_null(strstr(e.message, "secret"));
    net_answer_release(&a);
    server_end(&s);
    xfree(text);
}

static void silence_and_nobody_are_told_apart(void **state)
{
    (void)state;
    struct server s = {.n = 1};
    struct net_answer a;
    struct err e = {0};
    struct net *n = net_open(&quick);
    server_begin(&s);
    char *url = xasprintf("http://127.0.0.1:%d/", s.port);
    struct net_request q = {.method = "GET", .url = url};
    assert_int_equal(net_send(n, &q, &a, &e), -1);
    assert_int_equal(e.code, ERR_TIMEOUT);
    assert_true(a.transient);
    net_answer_release(&a);
    net_close(n);
    server_end(&s);
    n = net_open(&quick);
    assert_int_equal(net_send(n, &q, &a, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_false(a.transient); /* nobody has ever answered: no reason to wait */
    net_answer_release(&a);
    net_close(n);
    xfree(url);
}

static int take(void *ud, const struct net_answer *a, const void *data, size_t n, struct err *e)
{
    (void)a;
    char *text = ud;
    if (memchr(data, '!', n))
        return err_set(e, ERR_INPUT, NULL, "not that");
    size_t at = strlen(text);
    memcpy(text + at, data, n);
    text[at + n] = 0;
    return 0;
}

static void a_sink_takes_and_refuses(void **state)
{
    (void)state;
    struct server s = {
        .answers = {"HTTP/1.1 206 Part\r\nContent-Length: 4\r\n\r\nbody", SAY("404 No"), OK("no!")},
        .n = 3};
    char text[64] = "";
    struct net_answer a;
    struct err e = {0};
    struct net *n = net_open(&quick);
    server_begin(&s);
    char *url = xasprintf("http://127.0.0.1:%d/", s.port);
    struct net_request q = {
        .method = "GET", .url = url, .ranged = true, .from = 3, .to = 7, .sink = take, .ud = text};
    assert_int_equal(net_send(n, &q, &a, &e), 0);
    assert_string_equal(text, "body");
    assert_int_equal(a.body.len, 0);
    assert_non_null(strstr(s.seen[0], "Range: bytes=3-6\r\n"));
    net_answer_release(&a);
    assert_int_equal(net_send(n, &q, &a, &e), 0);
    assert_int_equal(a.status, 404);
    net_answer_release(&a);
    assert_int_equal(net_send(n, &q, &a, &e), -1);
    assert_string_equal(e.message, "not that");
    assert_false(a.transient);
    net_answer_release(&a);
    net_close(n);
    server_end(&s);
    xfree(url);
}

/* ---- addresses ---------------------------------------------------------------------------------
 */

static void text_is_escaped(void **state)
{
    (void)state;
    char *a = net_url_escape("refs/pr/1", ""), *b = net_url_escape("a b/\xc3\xa9#?.txt", "/");
    assert_string_equal(a, "refs%2Fpr%2F1");
    assert_string_equal(b, "a%20b/%C3%A9%23%3F.txt");
    xfree(a);
    xfree(b);
}

static void origins_are_compared(void **state)
{
    (void)state;
    assert_true(net_url_same_origin("https://hub.test/a", "HTTPS://HUB.test:443/b?c"));
    assert_false(net_url_same_origin("https://hub.test/", "http://hub.test/"));
    assert_false(net_url_same_origin("https://hub.test/", "https://hub.test:8443/"));
    assert_false(net_url_same_origin("https://hub.test/", "https://hub.test.evil.test/"));
    assert_false(net_url_same_origin("https://hub.test/", "https://hub.test@evil.test/"));
    assert_false(net_url_same_origin("https://hub.test/", "ftp://hub.test/"));
}

static void addresses_are_resolved_checked_and_shown(void **state)
{
    (void)state;
    struct err e = {0};
    char *a = net_url_resolve("https://hub.test/x/y", "/z"),
         *b = net_url_resolve("https://hub.test/x/y", "https://cdn.test/q?s=1");
    assert_string_equal(a, "https://hub.test/z");
    assert_string_equal(b, "https://cdn.test/q?s=1");
    assert_null(net_url_resolve("https://hub.test/", "file:///etc/passwd"));
    char *shown = net_url_shown("https://me:pw@cdn.test/q?sig=secret#f");
    assert_string_equal(shown, "https://cdn.test/q");
    assert_int_equal(net_url_check("https://hub.test", "X", NULL), 0);
    assert_int_equal(net_url_check("hub.test", "X", &e), -1);
    assert_int_equal(net_url_check("https://a:b@hub.test", "X", &e), -1);
    assert_null(strstr(e.message, "a:b"));
    xfree(shown);
    xfree(a);
    xfree(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_has_status_headers_and_body),
        cmocka_unit_test(what_may_pass_is_asked_again),
        cmocka_unit_test(what_stays_is_not_asked_again),
        cmocka_unit_test(attempts_end),
        cmocka_unit_test(a_wait_that_is_asked_for_is_kept),
        cmocka_unit_test(a_token_stays_at_its_origin),
        cmocka_unit_test(circles_and_strange_addresses_end),
        cmocka_unit_test(an_answer_without_end_is_cut),
        cmocka_unit_test(silence_and_nobody_are_told_apart),
        cmocka_unit_test(a_sink_takes_and_refuses),
        cmocka_unit_test(text_is_escaped),
        cmocka_unit_test(origins_are_compared),
        cmocka_unit_test(addresses_are_resolved_checked_and_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
