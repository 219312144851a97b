/* strings.h - the index of strings (strings.c), for the files of core that search in it. */
#ifndef ZL_STRINGS_H
#define ZL_STRINGS_H
#include "core.h"

int zl_strings_check(const zl_strings *s); /* of the description; the offsets are checked when the index is built */
int32_t zl_strings_search(const zl_strings *s, const uint8_t *text, int64_t n); /* the number of the string, -1 for none */

/* The same in two steps, so that many slots can be asked for before the first is read: where a text's search begins, and the search. */
int64_t zl_strings_slot(const zl_strings *s, const uint8_t *text, int64_t n);
int32_t zl_strings_search_from(const zl_strings *s, int64_t slot, const uint8_t *text, int64_t n);
int zl_strings_measure(const zl_strings *s, int64_t *longest); /* checks the offsets; bytes of the longest string */

static inline const uint8_t *zl_strings_text(const zl_strings *s, int64_t i) { return s->data + s->offsets[i] + 8; }
static inline int64_t zl_strings_length(const zl_strings *s, int64_t i) { return s->offsets[i + 1] - s->offsets[i] - 8; }
#endif
