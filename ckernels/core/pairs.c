/* pairs.c - byte-pair encoding of all words of a text in one call.
 *
 * Symbols are numbers: the tokens of the vocabulary, after them the texts that merges speak of and that are no tokens. A table says which
 * pairs may be joined:
 *
 *      slots   | 263 | 72 | 9001 | 17 |   left, right, what they make, the rank: the place in the list of merges; left -1: a free slot
 *
 * so a word is numbers from its first byte on, and joining compares no text. (core/strings.c joins texts, for the families whose pairs are
 * any two neighbours whose joined text is a token.)
 *
 * A word that came before in the text has the ids it had then: `seen` maps a hash to the last word that had it. The ids are a function of
 * the word alone, so nothing depends on what is found there. Longer texts repeat most of their words.
 *
 * Short words look through all pairs for the best one, long ones keep them in a heap, as zl_merge does, with the same answer. Of equal
 * ranks, that is of the same pair, the leftmost goes first.
 */
#include "core.h"
#include "strings.h"
#include <stdlib.h>
#include <string.h>

enum { SHORT = 32 }; /* symbols of a word that is looked through */

/* ---- the table of pairs -------------------------------------------------------------------------------------------------------- */

/* A product with a secret odd number: no file can be made of pairs that collide. */
static inline uint64_t hash_pair(const zl_pairs *p, int32_t left, int32_t right) {
    uint64_t x = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) ^ p->key[0];
    x *= p->key[1] | 1;
    x ^= x >> 32;
    x *= p->key[1] | 1;
    return x >> 20;
}

static inline const int32_t *find_pair(const zl_pairs *p, int32_t left, int32_t right) {
    const int64_t last = p->n_slots - 1;
    for (int64_t i = (int64_t)(hash_pair(p, left, right) & (uint64_t)last);; i = (i + 1) & last) {
        const int32_t *slot = p->slots + 4 * i;
        if (slot[0] == left && slot[1] == right) return slot;
        if (slot[0] < 0) return NULL;
    }
}

/* The merges need no index, the tokens do. The texts of BATCH merges are looked up together. A look-up reads three places, each known by the
 * one before: a slot, the offsets of the string in it, that string. One after the other each would be waited for; here the same place of all
 * is asked for, then the next. */
enum { BATCH = 16, SPELT = 64 }; /* bytes of a joined text that is kept for it; longer ones are looked up alone */

typedef struct {
    const uint8_t *text;
    int64_t n, slot;
    int32_t *found;
} lookup;

static void look_up(const zl_strings *tokens, const lookup *some, int n) {
    for (int i = 0; i < n; i++) __builtin_prefetch(tokens->slots + some[i].slot);
    for (int i = 0; i < n; i++)
        if ((*some[i].found = tokens->slots[some[i].slot]) >= 0) __builtin_prefetch(tokens->offsets + *some[i].found);
    for (int i = 0; i < n; i++)
        if (*some[i].found >= 0) __builtin_prefetch(zl_strings_text(tokens, *some[i].found));
    for (int i = 0; i < n; i++) *some[i].found = zl_strings_search_from(tokens, some[i].slot, some[i].text, some[i].n);
}

int zl_pairs_parts(const zl_strings *tokens, const zl_strings *merges, int32_t *parts) {
    int status = zl_strings_check(tokens);
    if (status) return status;
    if (!merges || !merges->offsets || (merges->n > 0 && (!merges->data || !parts))) return zl_fail(ZL_E_ARG, "pairs: a null pointer");
    if (merges->n < 0 || merges->n > INT32_MAX) return zl_fail(ZL_E_SHAPE, "pairs: %lld merges", (long long)merges->n);
    int64_t longest;
    if ((status = zl_strings_measure(merges, &longest))) return status;
    uint8_t *joined = malloc((size_t)longest + 1), spelt[BATCH][SPELT];
    if (!joined) return zl_fail(ZL_E_MEMORY, "pairs: %lld bytes", (long long)longest + 1);
    lookup some[3 * BATCH];
    int n_some = 0;
    for (int64_t i = 0; i < merges->n; i++) {
        const uint8_t *text = zl_strings_text(merges, i);
        const int64_t n = zl_strings_length(merges, i);
        const uint8_t *space = n > 2 ? memchr(text + 1, ' ', (size_t)n - 2) : NULL;
        if (!space) {
            free(joined);
            return zl_fail(ZL_E_ARG, "pairs: merge %lld is not two symbols with a space between", (long long)i);
        }
        const int64_t a = space - text, b = n - a - 1;
        uint8_t *both = a + b <= SPELT ? spelt[i % BATCH] : joined;
        memcpy(both, text, (size_t)a);
        memcpy(both + a, space + 1, (size_t)b);
        const uint8_t *texts[3] = {text, space + 1, both};
        const int64_t lengths[3] = {a, b, a + b};
        for (int j = 0; j < 3; j++) {
            int32_t *found = parts + 3 * i + j;
            if (lengths[j] > SPELT || tokens->spaces) *found = zl_strings_search(tokens, texts[j], lengths[j]);
            else if (lengths[j] > tokens->longest) *found = -1;
            else some[n_some++] = (lookup){texts[j], lengths[j], zl_strings_slot(tokens, texts[j], lengths[j]), found};
        }
        if (i % BATCH == BATCH - 1 || i + 1 == merges->n) look_up(tokens, some, n_some), n_some = 0;
    }
    free(joined);
    return ZL_OK;
}

int zl_pairs_build(zl_pairs *p, const int32_t *parts, int64_t n_merges) {
    if (!p || !p->slots || !p->lengths || !p->lone || (n_merges && !parts)) return zl_fail(ZL_E_ARG, "pairs: a null pointer");
    p->checked = 0;
    if (n_merges < 0 || n_merges > INT32_MAX || p->n_slots <= n_merges || (p->n_slots & (p->n_slots - 1)))
        return zl_fail(ZL_E_SHAPE, "pairs: %lld slots for %lld merges: a power of two above their number is needed", (long long)p->n_slots,
                       (long long)n_merges);
    if (p->n_tokens < 0 || p->n_symbols < p->n_tokens || p->n_symbols > INT32_MAX - 4)
        return zl_fail(ZL_E_SHAPE, "pairs: %lld tokens among %lld symbols", (long long)p->n_tokens, (long long)p->n_symbols);
    for (int64_t i = 0; i < p->n_slots; i++) p->slots[4 * i] = -1;
    for (int i = 0; i < 256 && p->bytes; i++)
        if (p->bytes[i] < 0 || p->bytes[i] >= p->n_symbols + 4 || p->lengths[p->bytes[i]] != 1)
            return zl_fail(ZL_E_BOUNDS, "pairs: byte %d is symbol %d of %lld", i, p->bytes[i], (long long)p->n_symbols);
    for (int i = 1; i <= 4; i++)
        if (p->lengths[p->n_symbols + i - 1] != i) return zl_fail(ZL_E_BOUNDS, "pairs: the unknown symbol of %d bytes has another length", i);
    for (int64_t i = 0; i < n_merges; i++) {
        const int32_t *part = parts + 3 * i;
        if (i + BATCH < n_merges) /* its slot is on its way when its turn comes */
            __builtin_prefetch(p->slots + 4 * (hash_pair(p, part[3 * BATCH], part[3 * BATCH + 1]) & ((uint64_t)p->n_slots - 1)), 1);
        for (int j = 0; j < 3; j++)
            if (part[j] < 0 || part[j] >= p->n_symbols)
                return zl_fail(ZL_E_BOUNDS, "pairs: merge %lld speaks of symbol %d of %lld", (long long)i, part[j], (long long)p->n_symbols);
        const int32_t a = p->lengths[part[0]], b = p->lengths[part[1]];
        /* Texts that are not made of letters have other lengths. No word has such a symbol, so the pair would never be asked for. */
        if (a < 1 || b < 1 || p->lengths[part[2]] != (int64_t)a + b) continue;
        const uint64_t last = (uint64_t)p->n_slots - 1;
        uint64_t slot = hash_pair(p, part[0], part[1]) & last;
        while (p->slots[4 * slot] >= 0 && (p->slots[4 * slot] != part[0] || p->slots[4 * slot + 1] != part[1])) slot = (slot + 1) & last;
        if (p->slots[4 * slot] >= 0) continue; /* of equal pairs the first */
        memcpy(p->slots + 4 * slot, part, 3 * sizeof *part);
        p->slots[4 * slot + 3] = (int32_t)i;
    }
    p->checked = 1;
    return ZL_OK;
}

/* ---- one word ------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    const zl_pairs *p;
    int32_t *cells; /* of a long word, [bytes]: a symbol's number in its first cell, ~number in its last, INNER between */
    uint64_t *heap; /* [bytes]: rank << 32 | first cell                                                                 */
    int64_t size, room, n;
    uint8_t *spelt; /* [longest token + 2] */
    int32_t *ids;
    int64_t n_ids;
} encoding;

enum { INNER = INT32_MIN };

/* The symbol at text[i] and its length in bytes: a byte's, or a character's. */
static inline int32_t symbol_at(const zl_pairs *p, const uint8_t *text, int64_t i, int64_t n, int64_t *length) {
    *length = 1;
    if (p->bytes) return p->bytes[text[i]];
    while (i + *length < n && *length < 4 && (text[i + *length] & 0xc0) == 0x80) ++*length;
    int32_t found = zl_strings_search(p->tokens, text + i, *length);
    if (found >= 0) return found;
    found = p->others ? zl_strings_search(p->others, text + i, *length) : -1;
    return (int32_t)(found >= 0 ? p->n_tokens + found : p->n_symbols + *length - 1);
}

/* A symbol becomes a token; one that is none, a token for each of its bytes that has one. */
static inline void give(encoding *e, int32_t symbol, const uint8_t *text) {
    if (symbol < e->p->n_tokens) {
        e->ids[e->n_ids++] = symbol;
        return;
    }
    for (int32_t i = 0; i < e->p->lengths[symbol]; i++)
        if (e->p->lone[text[i]] >= 0) e->ids[e->n_ids++] = e->p->lone[text[i]];
}

static void short_word(encoding *e, const uint8_t *text, int32_t *symbols, int count) {
    uint32_t ranks[SHORT];
    int32_t makes[SHORT];
    for (int i = 0; i + 1 < count; i++) {
        const int32_t *pair = find_pair(e->p, symbols[i], symbols[i + 1]);
        ranks[i] = pair ? (uint32_t)pair[3] : UINT32_MAX, makes[i] = pair ? pair[2] : -1;
    }
    while (count > 1) {
        int at = 0;
        for (int i = 1; i + 1 < count; i++)
            if (ranks[i] < ranks[at]) at = i;
        if (ranks[at] == UINT32_MAX) break;
        symbols[at] = makes[at];
        count--;
        for (int i = at + 1; i < count; i++) symbols[i] = symbols[i + 1];
        for (int i = at; i + 1 < count; i++) ranks[i] = ranks[i + 1], makes[i] = makes[i + 1];
        for (int i = at ? at - 1 : 0; i <= at && i + 1 < count; i++) {
            const int32_t *pair = find_pair(e->p, symbols[i], symbols[i + 1]);
            ranks[i] = pair ? (uint32_t)pair[3] : UINT32_MAX, makes[i] = pair ? pair[2] : -1;
        }
    }
    for (int i = 0; i < count; text += e->p->lengths[symbols[i++]]) give(e, symbols[i], text);
}

static void push(encoding *e, uint64_t entry) {
    int64_t i = e->size++;
    for (int64_t up; i > 0 && e->heap[up = (i - 1) / 2] > entry; i = up) e->heap[i] = e->heap[up];
    e->heap[i] = entry;
}

static uint64_t pop(encoding *e) {
    uint64_t top = e->heap[0], entry = e->heap[--e->size];
    int64_t i = 0;
    for (int64_t down; (down = 2 * i + 1) < e->size; i = down) {
        if (down + 1 < e->size && e->heap[down + 1] < e->heap[down]) down++;
        if (e->heap[down] >= entry) break;
        e->heap[i] = e->heap[down];
    }
    e->heap[i] = entry;
    return top;
}

static inline void put(encoding *e, int64_t at, int32_t symbol) {
    const int32_t length = e->p->lengths[symbol];
    if (length > 1) e->cells[at + length - 1] = ~symbol;
    e->cells[at] = symbol;
}

/* The pair of the symbol at `left` and the next one, if there is one and it may be joined. */
static const int32_t *pair_at(const encoding *e, int64_t left) {
    const int64_t right = left + e->p->lengths[e->cells[left]];
    return right < e->n ? find_pair(e->p, e->cells[left], e->cells[right]) : NULL;
}

static void offer(encoding *e, int64_t left) {
    const int32_t *pair = pair_at(e, left);
    if (pair) push(e, (uint64_t)pair[3] << 32 | (uint64_t)left);
}

/* The heap has a place for each byte. If it is full, what is stale is thrown out: then at least one place is free for each join that was
 * made before, so it fills at most once for so many joins as there were before, and the steps stay O(n log n). */
static void offer_all(encoding *e) {
    e->size = 0;
    for (int64_t i = 0; i < e->n; i += e->p->lengths[e->cells[i]]) offer(e, i);
}

static void long_word(encoding *e, const uint8_t *text, int64_t n) {
    e->n = n;
    for (int64_t i = 0, length; i < n; i += length) {
        const int32_t symbol = symbol_at(e->p, text, i, n, &length);
        for (int64_t j = 1; j < length; j++) e->cells[i + j] = INNER;
        put(e, i, symbol);
    }
    offer_all(e);
    while (e->size) {
        const uint64_t top = pop(e);
        const int64_t left = (int64_t)(top & UINT32_MAX);
        if (e->cells[left] < 0) continue; /* joined to what is before */
        const int32_t *pair = pair_at(e, left);
        if (!pair || (uint64_t)pair[3] != top >> 32) continue; /* another pair by now */
        const int64_t right = left + e->p->lengths[e->cells[left]];
        e->cells[right - 1] = e->cells[right] = INNER;
        e->cells[left] = INNER;
        put(e, left, pair[2]);
        if (e->size + 2 > e->room) {
            offer_all(e);
            continue;
        }
        offer(e, left);
        if (left > 0) {
            const int32_t before = e->cells[left - 1] < 0 ? ~e->cells[left - 1] : e->cells[left - 1];
            offer(e, left - e->p->lengths[before]);
        }
    }
    for (int64_t i = 0; i < n; ) {
        const int32_t symbol = e->cells[i];
        give(e, symbol, text + i);
        i += e->p->lengths[symbol];
    }
}

/* The token that is the whole word, -1 for none. */
static int32_t whole_word(const encoding *e, const uint8_t *text, int64_t n) {
    const zl_pairs *p = e->p;
    if (p->whole == ZL_WHOLE_NEVER || n > p->tokens->longest) return -1;
    if (p->whole == ZL_WHOLE_NEWLINES)
        for (int64_t i = 0; i < n; i++)
            if (text[i] != '\n') return -1;
    if (!p->letters) return zl_strings_search(p->tokens, text, n);
    int64_t m = 0;
    for (int64_t i = 0; i < n && m <= p->tokens->longest; i++) {
        const uint16_t letter = p->letters[text[i]];
        if (letter >= 0x80) e->spelt[m++] = (uint8_t)(0xc0 | letter >> 6);
        e->spelt[m++] = (uint8_t)(letter < 0x80 ? letter : 0x80 | (letter & 0x3f));
    }
    return m > p->tokens->longest ? -1 : zl_strings_search(p->tokens, e->spelt, m);
}

static void word(encoding *e, const uint8_t *text, int64_t n) {
    const int32_t whole = whole_word(e, text, n);
    if (whole >= 0) {
        e->ids[e->n_ids++] = whole;
        return;
    }
    int32_t symbols[SHORT];
    int count = 0;
    int64_t length, i = 0;
    for (; i < n && count < SHORT; i += length) symbols[count++] = symbol_at(e->p, text, i, n, &length);
    if (i < n) long_word(e, text, n);
    else short_word(e, text, symbols, count);
}

/* ---- all words ----------------------------------------------------------------------------------------------------------------- */

int zl_pairs_encode(const zl_pairs *p, const uint8_t *text, int64_t n, const int32_t *ends, int64_t n_ends, int32_t *seen, int64_t n_seen,
                    int32_t *ids, int32_t *id_ends) {
    if (!p || p->checked != 1) return zl_fail(ZL_E_ARG, "pairs: the table has not been built");
    if (n < 0 || n >= INT32_MAX || n_ends < 0) return zl_fail(ZL_E_SHAPE, "pairs: %lld words of %lld bytes", (long long)n_ends, (long long)n);
    if ((n && !text) || (n_ends && (!ends || !ids || !id_ends)) || !seen) return zl_fail(ZL_E_ARG, "pairs: a null pointer");
    if (n_seen < 1 || (n_seen & (n_seen - 1))) return zl_fail(ZL_E_SHAPE, "pairs: %lld places for words: a power of two is needed", (long long)n_seen);
    int status = zl_strings_check(p->tokens);
    if (status || (p->others && (status = zl_strings_check(p->others)))) return status;
    int64_t longest = 0;
    for (int64_t w = 0, begin = 0; w < n_ends; begin = ends[w++]) {
        if (ends[w] <= begin || ends[w] > n) /* an empty word could be an empty token, and there would be more ids than bytes */
            return zl_fail(ZL_E_BOUNDS, "pairs: word %lld ends at byte %d, begins at %lld, of %lld", (long long)w, ends[w], (long long)begin, (long long)n);
        if (ends[w] - begin > longest) longest = ends[w] - begin;
    }
    encoding e = {.p = p, .ids = ids, .room = longest + 2};
    const int64_t heap_bytes = longest > SHORT ? e.room * 8 : 0, cell_bytes = longest > SHORT ? longest * 4 : 0;
    uint8_t *memory = malloc((size_t)(heap_bytes + cell_bytes + p->tokens->longest + 2));
    if (!memory) return zl_fail(ZL_E_MEMORY, "encoding a word of %lld bytes needs %lld bytes", (long long)longest, (long long)(heap_bytes + cell_bytes));
    e.heap = (uint64_t *)(void *)memory;
    e.cells = (int32_t *)(void *)(memory + heap_bytes);
    e.spelt = memory + heap_bytes + cell_bytes;
    memset(seen, 0xff, (size_t)n_seen * sizeof *seen);
    for (int64_t w = 0, begin = 0; w < n_ends; begin = ends[w++]) {
        const int64_t length = ends[w] - begin;
        int32_t *place = seen + (zl_hash_word(text + begin, length) & (uint64_t)(n_seen - 1));
        const int32_t before = *place;
        const int64_t then = before > 0 ? ends[before - 1] : 0;
        if (before >= 0 && ends[before] - then == length && !memcmp(text + then, text + begin, (size_t)length)) {
            for (int64_t i = before > 0 ? id_ends[before - 1] : 0; i < id_ends[before]; i++) ids[e.n_ids++] = ids[i];
        } else {
            word(&e, text + begin, length);
            *place = (int32_t)w;
        }
        id_ends[w] = (int32_t)e.n_ids;
    }
    free(memory);
    return ZL_OK;
}
