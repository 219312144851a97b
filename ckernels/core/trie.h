/* trie.h - a step in a trie over strings, which unigram.c draws and builds. */
#ifndef ZL_TRIE_H
#define ZL_TRIE_H
#include "core.h"
#include <string.h>

static inline int zl_trie_check(const zl_trie *t) {
    if (!t || !t->first || !t->label || !t->token || t->n < 1) return zl_fail(ZL_E_ARG, "trie: not built");
    return ZL_OK;
}

/* The child of a node by a byte, -1 for none. */
static inline int32_t zl_trie_child(const zl_trie *t, int32_t node, uint8_t byte) {
    int32_t i = t->first[node];
    const int32_t end = t->first[node + 1];
    if (end - i > 8) {
        const uint8_t *at = memchr(t->label + i, byte, (size_t)(end - i));
        return at ? (int32_t)(at - t->label) : -1;
    }
    for (; i < end; i++)
        if (t->label[i] == byte) return i;
    return -1;
}
#endif
