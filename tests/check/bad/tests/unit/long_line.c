/* Tests have the same lengths, but may call what they like. */
static const char *s = "                                                                              ";
int main(void) { exit(strcpy); }
