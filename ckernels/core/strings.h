/* strings.h - the index of strings (strings.c), for the files of core that search in it. */
#ifndef ZL_STRINGS_H
#define ZL_STRINGS_H
#include "core.h"
#include <string.h>

int zl_strings_check(const zl_strings *s); /* of the description; the offsets are checked when the index is built */
int32_t zl_strings_search(const zl_strings *s, const uint8_t *text, int64_t n); /* the number of the string, -1 for none */
/* zl_merge of what has been checked, n below INT32_MAX: tag[i] is the length of the symbol that is left at byte i; of bytes inside symbols it
 * means nothing. tag [n]. */
int zl_strings_merge(const zl_strings *s, const uint32_t *ranks, int separator, const uint8_t *text, int64_t n, int32_t *tag);

/* The same in two steps, so that many slots can be asked for before the first is read: where a text's search begins, and the search. */
int64_t zl_strings_slot(const zl_strings *s, const uint8_t *text, int64_t n);
int32_t zl_strings_search_from(const zl_strings *s, int64_t slot, const uint8_t *text, int64_t n);
int zl_strings_measure(const zl_strings *s, int64_t *longest); /* checks the offsets; bytes of the longest string */

static inline const uint8_t *zl_strings_text(const zl_strings *s, int64_t i) { return s->data + s->offsets[i] + 8; }
static inline int64_t zl_strings_length(const zl_strings *s, int64_t i) { return s->offsets[i + 1] - s->offsets[i] - 8; }

/* The hash by which words that came before are found. Words that are made to collide are encoded anew each time, no more. */
static inline uint64_t zl_hash_word(const uint8_t *text, int64_t n) {
    uint64_t h = (uint64_t)n * 0x9e3779b97f4a7c15u, x = 0;
    for (; n >= 8; n -= 8, text += 8) {
        memcpy(&x, text, 8);
        h = (h ^ x) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    x = 0;
    if (n) memcpy(&x, text, (size_t)n);
    h = (h ^ x) * 0xff51afd7ed558ccdu;
    return h ^ h >> 32;
}
#endif
