/* Banned calls; the names in this sentence, strcpy() and exit(1), are not calls. */
#include "base/banned.h"

int f(char *to, const char *from)
{
    strcpy(to, from);
    x->sprintf(to); /* a member of that name */
    my_strcat(to);
    char *p = malloc (3);
    printf("malloc(3) %c%c\n", '"', '\'');
    fprintf(stderr, "strtok(");
    atoi(from); exit(1);
    return snprintf(p, 3, "%s", "popen(");
}
