int x; // TODO: say what this owns

typedef struct { int a; } name;
/* XXXXXX is no such word; XXX is. A Stub, a placeholder, not implemented. */
static const char *s = "{ FIXME";
#include "base/banned.h"

static int forks(int a)
{
    for (; a && !a;)
        while (a || !a)
            if (a ? 1 : 2)
                switch (a) {
                case 1:
                case 2:
                case 3:
                case 4:
                case 5:
                case 6:
                case 7:
                case 8:
                case 9:
                case 10:
                case 11:
                case 12:
                case 13:
                case 14:
                case 15:
                case 16:
                case 17:
                case 18:
                case 19:
                    return 1;
                }
    return 0;
}
