/* org/name[:file][@revision] → parts; also the address of a model's page, or of a page or file
 * below it, as a browser shows it. Follows the hub's own rules for names: letters, digits, "-",
 * "_", ".", no "--", no "..", at most 96 characters a part. Names go into paths and URLs, so others
 * are refused here.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"
#include "hub/hub_int.h"

#include "base/banned.h"

enum { NAME_MAX_BYTES = 96 };

static const char shape[] = "a model of the hub is named org/name, org/name@revision or, among "
                            "several GGUF files, org/name:Q4_K_M";

/* What follows `head` (in any case); NULL: text does not begin with it. */
static const char *after(const char *text, const char *head)
{
    size_t n = strlen(head);
    return strncasecmp(text, head, n) == 0 ? text + n : NULL;
}

/* The part of an address of the hub after its host; NULL: no such address. hf://org/name, as
 * huggingface_hub's file system has it, has no host. */
static const char *after_host(const char *text)
{
    static const char *const schemes[] = {"https://", "http://"};
    static const char *const hosts[] = {"huggingface.co/", "www.huggingface.co/", "hf.co/"};
    const char *own = getenv("HF_ENDPOINT");
    size_t n = own ? strlen(own) : 0;
    while (n > 0 && own[n - 1] == '/')
        n--;
    if (n > 0 && strncmp(text, own, n) == 0 && text[n] == '/')
        return text + n + 1;
    const char *rest = after(text, "hf://");
    if (rest)
        return rest;
    for (size_t i = 0; !rest && i < sizeof(schemes) / sizeof(schemes[0]); i++)
        rest = after(text, schemes[i]);
    text = rest ? rest : text;
    rest = NULL;
    for (size_t i = 0; !rest && i < sizeof(hosts) / sizeof(hosts[0]); i++)
        rest = after(text, hosts[i]);
    return rest;
}

/* Appends n bytes with "%2F" as the slash it stands for. */
static void add_plain(struct buf *b, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (n - i >= 3 && strncasecmp(text + i, "%2f", 3) == 0) {
            buf_addc(b, '/');
            i += 2;
        } else {
            buf_addc(b, text[i]);
        }
}

/* org/name/(tree|blob|resolve)/REVISION[/FILE] → org/name[:FILE]@REVISION. Of files only GGUFs name
 * a model. Anything else stays as it is, for the name's own rules to judge. */
static void add_short(struct buf *b, const char *path, size_t n)
{
    static const char *const kinds[] = {"/tree/", "/blob/", "/resolve/"};
    const char *slash = memchr(path, '/', n), *end = path + n, *revision = NULL;
    const char *name_end = slash ? memchr(slash + 1, '/', (size_t)(end - slash - 1)) : NULL;
    for (size_t i = 0; name_end && i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strncmp(name_end, kinds[i], strlen(kinds[i])) == 0)
            revision = name_end + strlen(kinds[i]);
    if (!revision || revision >= end) {
        add_plain(b, path, n);
        return;
    }
    const char *file = memchr(revision, '/', (size_t)(end - revision));
    buf_add(b, path, (size_t)(name_end - path));
    if (file && end - file > 5 && strncmp(end - 5, ".gguf", 5) == 0) {
        buf_addc(b, ':');
        add_plain(b, file + 1, (size_t)(end - file - 1));
    }
    buf_addc(b, '@');
    add_plain(b, revision, (size_t)((file ? file : end) - revision));
}

/* xfree. */
static char *without_address(const char *text)
{
    const char *path = after_host(text);
    if (!path || strlen(path) > HUB_REPO_MAX + HUB_REVISION_MAX + HUB_PICK_MAX)
        return xstrdup(text);
    struct buf b;
    size_t n = strcspn(path, "?#");
    while (n > 0 && path[n - 1] == '/')
        n--;
    buf_init(&b, 4096);
    add_short(&b, path, n);
    char *name = xstrdup(buf_str(&b));
    buf_release(&b);
    return name;
}

static bool looks(const char *text)
{
    size_t head = strcspn(text, ":@"), n = 0;
    for (size_t i = 0; i < head; i++)
        n += text[i] == '/';
    return n == 1 && text[0] != '/' && text[0] != '.' && text[0] != '~' && text[head - 1] != '/';
}

static bool name_ok(const char *name, size_t n)
{
    if (n == 0 || n > NAME_MAX_BYTES || name[0] == '-' || name[0] == '.' || name[n - 1] == '-' ||
        name[n - 1] == '.')
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.';
        if (!plain || (i > 0 && c == name[i - 1] && (c == '-' || c == '.')))
            return false;
    }
    return true;
}

bool hub_ref_looks(const char *text)
{
    char *name = without_address(text);
    bool is = looks(name);
    xfree(name);
    return is;
}

/* Branches and tags as git allows them, and nothing that would leave refs/. */
static bool revision_ok(const char *r)
{
    if (!r[0] || strlen(r) >= HUB_REVISION_MAX || !hub_path_safe(r))
        return false;
    return !strpbrk(r, " ~^:?*[@") && !strstr(r, "..");
}

static int parse(struct hub_ref *ref, const char *text, struct err *e)
{
    *ref = (struct hub_ref){0};
    const char *slash = strchr(text, '/'), *at = strchr(text, '@');
    size_t head = strcspn(text, ":@");
    const char *colon = text[head] == ':' ? text + head : NULL;
    if (!looks(text) || !slash || !name_ok(text, (size_t)(slash - text)) ||
        !name_ok(slash + 1, (size_t)(text + head - slash - 1)))
        return err_set(e, ERR_USAGE, shape, "\"%.200s\" is no name of a model on the hub", text);
    const char *revision = at ? at + 1 : "main";
    if (!revision_ok(revision))
        return err_set(e, ERR_USAGE, shape, "\"%.200s\": \"%.100s\" is no branch, tag or commit",
                       text, revision);
    size_t pick = colon ? strcspn(colon + 1, "@") : 0;
    if (colon && (pick == 0 || pick >= HUB_PICK_MAX))
        return err_set(e, ERR_USAGE, shape, "\"%.200s\": there is no file name after the colon",
                       text);
    snprintf(ref->repo, sizeof(ref->repo), "%.*s", (int)head, text);
    snprintf(ref->revision, sizeof(ref->revision), "%s", revision);
    if (colon)
        snprintf(ref->pick, sizeof(ref->pick), "%.*s", (int)pick, colon + 1);
    return 0;
}

int hub_ref_parse(struct hub_ref *ref, const char *text, struct err *e)
{
    char *name = without_address(text);
    int rc = parse(ref, name, e);
    xfree(name);
    return rc;
}
