/* specials.c - which parts of a text are special tokens, before anything else is tokenised.
 *
 * The rule is: the longest token first, over the whole text, wherever it stands; then the next longest in what is left. It could be done token by
 * token, but thousands of them would each read the whole text. So the text is read once, with a trie of all:
 *
 *      text      a b \n \n _ _ _ x y z w         tokens: "\n" "\n\n" "__" "___" "xyz" "yzw0" "zw"
 *      reach         |---| |---| |---|           clusters: places where tokens begin, up to where these reach
 *                                  |-|           (zw) reaches across the end of (xyz): the same cluster
 *
 * No token lies across the end of a cluster, so each is decided alone. Mostly one token is all of it. In another one the best token there is
 * taken wherever it occurs, and what lies between is a smaller question of the same kind. Those wait on a stack, leftmost on top, so that what
 * is found comes in the text's order, and a vocabulary made for it cannot make the stack of C grow.
 *
 * What it is not: it knows no white space that tokens take. Twin: special_tokens.py's by_definition.
 */
#include "trie.h"
#include <stdlib.h>

typedef struct {
    int32_t begin, end, token; /* -1: to be looked through */
} range;

typedef struct {
    const zl_trie *t;
    const uint8_t *text;
    uint8_t first[256]; /* whether a token begins with a byte */
    int32_t *cuts;
    int64_t n;
    range *stack;
    int64_t room;
} search;

/* The longest token that begins at text[i] and ends before `end`: its length, 0 for none. */
static inline int64_t longest(const search *s, int64_t i, int64_t end, int32_t *token) {
    int64_t length = 0;
    int32_t node = 0;
    if (!s->first[s->text[i]]) return 0;
    for (int64_t j = i; j < end && (node = zl_trie_child(s->t, node, s->text[j])) >= 0; j++)
        if (s->t->token[node] >= 0) *token = s->t->token[node], length = j + 1 - i;
    return length;
}

static void found(search *s, int64_t begin, int64_t end, int32_t token) {
    int32_t *cut = s->cuts + 3 * s->n++;
    cut[0] = (int32_t)begin, cut[1] = (int32_t)end, cut[2] = token;
}

static int push(search *s, int64_t *n, int64_t begin, int64_t end, int32_t token) {
    if (begin == end) return ZL_OK;
    if (*n == s->room) {
        const int64_t room = s->room ? 2 * s->room : 64;
        range *more = realloc(s->stack, (size_t)room * sizeof *more);
        if (!more) return zl_fail(ZL_E_MEMORY, "special tokens need %lld bytes", (long long)room * (long long)sizeof *more);
        s->stack = more, s->room = room;
    }
    s->stack[(*n)++] = (range){(int32_t)begin, (int32_t)end, token};
    return ZL_OK;
}

/* Put a range's best token, wherever it occurs there, and what lies between, onto the stack, the leftmost last. */
static int divide(search *s, range r, int64_t *n) {
    const int64_t bottom = *n;
    int64_t best = 0, at = 0;
    int32_t token = -1;
    for (int64_t i = r.begin; i < r.end; i++) {
        int32_t here = -1;
        const int64_t length = longest(s, i, r.end, &here);
        if (length > best || (length && length == best && here < token)) best = length, token = here, at = i;
    }
    if (!best) return ZL_OK;
    int64_t since = r.begin;
    int status = ZL_OK;
    for (int64_t i = at; i + best <= r.end && !status; i++) {
        if (memcmp(s->text + i, s->text + at, (size_t)best)) continue;
        if (!(status = push(s, n, since, i, -1))) status = push(s, n, i, i + best, token);
        since = i + best, i = since - 1;
    }
    if (!status) status = push(s, n, since, r.end, -1);
    for (int64_t i = bottom, j = *n - 1; i < j; i++, j--) {
        const range other = s->stack[i];
        s->stack[i] = s->stack[j], s->stack[j] = other;
    }
    return status;
}

int zl_specials_find(const zl_trie *t, const uint8_t *text, int64_t n, int32_t *cuts, int64_t *n_cuts) {
    if (!n_cuts || (n && (!text || !cuts))) return zl_fail(ZL_E_ARG, "special tokens: a null pointer");
    int status = zl_trie_check(t);
    if (status) return status;
    if (n < 0 || n >= INT32_MAX) return zl_fail(ZL_E_SHAPE, "special tokens: a text of %lld bytes", (long long)n);
    search s = {.t = t, .text = text, .cuts = cuts};
    for (int32_t i = t->first[0]; i < t->first[1]; i++) s.first[t->label[i]] = 1;
    for (int64_t begin = 0, end; begin < n && !status; begin = end) {
        int32_t token = -1, other;
        const int64_t length = longest(&s, begin, n, &token);
        end = begin + (length ? length : 1);
        for (int64_t i = begin + 1; length && i < end; i++) {
            const int64_t reach = i + longest(&s, i, n, &other);
            if (reach > end) end = reach;
        }
        if (end == begin + length) {
            found(&s, begin, end, token);
            continue;
        }
        if (!length) continue;
        int64_t waiting = 0;
        status = push(&s, &waiting, begin, end, -1);
        while (waiting && !status) {
            const range r = s.stack[--waiting];
            if (r.token >= 0) found(&s, r.begin, r.end, r.token);
            else status = divide(&s, r, &waiting);
        }
    }
    free(s.stack);
    *n_cuts = s.n;
    return status;
}
