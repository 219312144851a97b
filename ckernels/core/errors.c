/* errors.c - the calling thread's error text.
 *
 * A status travels by return value; its text, with the numbers in it, waits here until the same thread's next failure. Thread-local,
 * so that two contexts driven by two threads cannot mix their texts. Nothing is printed.
 */
#include "core.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char text[512];

int zl_fail(int status, const char *format, ...) {
    char fresh[sizeof text]; /* formatted apart, since an argument may be the old text itself */
    va_list args;
    va_start(args, format);
    vsnprintf(fresh, sizeof fresh, format, args);
    va_end(args);
    memcpy(text, fresh, sizeof text);
    return status;
}

const char *zl_error(void) { return text; }
