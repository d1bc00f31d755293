/* org/name[:file][@revision] → parts. Follows the hub's own rules for names: letters, digits, "-",
 * "_", ".", no "--", no "..", at most 96 characters a part. Names go into paths and URLs, so others
 * are refused here.
 */
#include <string.h>

#include "hub/hub_int.h"

#include "base/banned.h"

enum { NAME_MAX_BYTES = 96 };

static const char shape[] = "a model of the hub is named org/name, org/name@revision or, among "
                            "several GGUF files, org/name:Q4_K_M";

bool hub_ref_looks(const char *text)
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

/* Branches and tags as git allows them, and nothing that would leave refs/. */
static bool revision_ok(const char *r)
{
    if (!r[0] || strlen(r) >= HUB_REVISION_MAX || !hub_path_safe(r))
        return false;
    return !strpbrk(r, " ~^:?*[@") && !strstr(r, "..");
}

int hub_ref_parse(struct hub_ref *ref, const char *text, struct err *e)
{
    *ref = (struct hub_ref){0};
    const char *slash = strchr(text, '/'), *at = strchr(text, '@');
    size_t head = strcspn(text, ":@");
    const char *colon = text[head] == ':' ? text + head : NULL;
    if (!hub_ref_looks(text) || !slash || !name_ok(text, (size_t)(slash - text)) ||
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
