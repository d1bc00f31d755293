/* Calls that are unsafe or belong elsewhere become compile errors. Include last in every .c file.
 */
#ifndef BASE_BANNED_H
#define BASE_BANNED_H

#pragma GCC poison strcpy strcat sprintf vsprintf gets strtok strncpy strncat
#pragma GCC poison atoi atol atoll atof system popen tmpnam mktemp rand srand

#endif
