/* What cppcheck must see. */
#include <stdlib.h>
#include "base/banned.h"

int out_of_bounds(void)
{
    int a[4];
    a[4] = 1;
    return a[4];
}

int null(int *p)
{
    if (!p)
        *p = 1;
    int x;
    return x;
}
