/* strings.h - the index of strings (strings.c), for the files of core that search in it. */
#ifndef ZL_STRINGS_H
#define ZL_STRINGS_H
#include "core.h"

int zl_strings_check(const zl_strings *s); /* of the description; the offsets are checked when the index is built */
int32_t zl_strings_search(const zl_strings *s, const uint8_t *text, int64_t n); /* the number of the string, -1 for none */

static inline const uint8_t *zl_strings_text(const zl_strings *s, int64_t i) { return s->data + s->offsets[i] + 8; }
static inline int64_t zl_strings_length(const zl_strings *s, int64_t i) { return s->offsets[i + 1] - s->offsets[i] - 8; }
#endif
