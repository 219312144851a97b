/* strings.c - tokenizers' two byte loops: finding a text among many strings, and joining the characters of a word pair by pair.
 *
 * The strings are those of a GGUF file, in the file's own bytes (zl_strings in zl_text.h); what is added is one int32 per slot of a hash
 * table with open addressing:
 *
 *      slots   | -1 | 17 | -1 | 4 | 2048 | -1 | ...      number of a string, -1 free; a string stands at its hash or in the next free slot
 *
 * A Python dictionary of 98,000 strings costs 14 MB and 35 ms, this 1 MB and 3 ms.
 *
 * The hash is SipHash-1-3 under a key that the caller draws at random: a vocabulary written to make all strings collide would have to
 * know it. Source: J.-P. Aumasson and D. J. Bernstein, "SipHash: a fast short-input PRF", 2012.
 *
 * What it is not: a tokenizer. Which words there are, what is special and what becomes of bytes without a token is Python's business.
 */
#include "strings.h"
#include <stdlib.h>
#include <string.h>

/* ---- SipHash: c = 1 round per eight bytes, d = 3 at the end ------------------------------------------------------------------- */

static inline uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

static inline void sip_round(uint64_t v[4]) {
    v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
    v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

static uint64_t sip_hash(const uint64_t key[2], const uint8_t *text, int64_t n) {
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    uint64_t word = 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, text + i, 8);
        v[3] ^= word, sip_round(v), v[0] ^= word;
    }
    word = (uint64_t)n << 56; /* the last word: what is left, and the length in its top byte */
    for (int64_t j = i; j < n; j++) word |= (uint64_t)text[j] << 8 * (j - i);
    v[3] ^= word, sip_round(v), v[0] ^= word;
    v[2] ^= 0xff;
    for (int r = 0; r < 3; r++) sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* ---- the index --------------------------------------------------------------------------------------------------------------- */

/* What can be wrong with the description; the offsets are read once, when the index is built. */
int zl_strings_check(const zl_strings *s) {
    if (!s || !s->offsets || !s->slots || (s->n > 0 && !s->data)) return zl_fail(ZL_E_ARG, "strings: a null pointer");
    if (s->n < 0 || s->n > INT32_MAX) return zl_fail(ZL_E_SHAPE, "strings: %lld of them", (long long)s->n);
    if (s->n_slots <= s->n || (s->n_slots & (s->n_slots - 1)))
        return zl_fail(ZL_E_SHAPE, "strings: %lld slots for %lld strings: a power of two above their number is needed", (long long)s->n_slots,
                       (long long)s->n);
    if (s->spaces && s->longest > ZL_LONGEST_PIECE)
        return zl_fail(ZL_E_SHAPE, "strings: the longest has %lld bytes; with spaces for U+2581 at most %d are taken", (long long)s->longest,
                       ZL_LONGEST_PIECE);
    return ZL_OK;
}

int64_t zl_strings_slot(const zl_strings *s, const uint8_t *text, int64_t n) {
    return (int64_t)(sip_hash(s->key, text, n) & (uint64_t)(s->n_slots - 1));
}

/* The slot where this text stands, from its own on, or the free one where it would. There is one: slots are more than strings. */
static int64_t slot_from(const zl_strings *s, int64_t slot, const uint8_t *text, int64_t n) {
    for (int32_t i; (i = s->slots[slot]) >= 0; slot = (slot + 1) & (s->n_slots - 1))
        if (zl_strings_length(s, i) == n && (n == 0 || !memcmp(zl_strings_text(s, i), text, (size_t)n))) break;
    return slot;
}

static int64_t slot_of(const zl_strings *s, const uint8_t *text, int64_t n) { return slot_from(s, zl_strings_slot(s, text, n), text, n); }

int32_t zl_strings_search_from(const zl_strings *s, int64_t slot, const uint8_t *text, int64_t n) {
    return s->slots[slot_from(s, slot, text, n)];
}

/* The same for a text in which a space stands for U+2581: it is spelt out here, so that a text that is mostly spaces need not be three times
 * as long all the while it is worked on. */
static int32_t search_spelt(const zl_strings *s, const uint8_t *text, int64_t n) {
    uint8_t spelt[ZL_LONGEST_PIECE];
    int64_t m = 0;
    spelt[0] = 0; /* or gcc takes it for unset */
    for (int64_t i = 0; i < n; i++) {
        const int64_t wide = text[i] == ' ' ? 3 : 1;
        if (m + wide > s->longest) return -1;
        if (wide == 1) spelt[m] = text[i];
        else memcpy(spelt + m, "\xe2\x96\x81", 3);
        m += wide;
    }
    return s->slots[slot_of(s, spelt, m)];
}

int32_t zl_strings_search(const zl_strings *s, const uint8_t *text, int64_t n) {
    if (n > s->longest) return -1;
    if (s->spaces && n && memchr(text, ' ', (size_t)n)) return search_spelt(s, text, n);
    return s->slots[slot_of(s, text, n)];
}

int zl_strings_measure(const zl_strings *s, int64_t *longest) {
    *longest = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const int64_t begin = s->offsets[i], end = s->offsets[i + 1];
        if (begin < 0 || end < 8 || begin > end - 8 || end > s->n_bytes)
            return zl_fail(ZL_E_BOUNDS, "strings: string %lld lies from byte %lld to %lld of %lld", (long long)i, (long long)begin,
                           (long long)end, (long long)s->n_bytes);
        if (end - begin - 8 > *longest) *longest = end - begin - 8;
    }
    return ZL_OK;
}

enum { AHEAD = 16 }; /* strings whose slots are on their way from memory */

int zl_strings_build(zl_strings *s, int last) {
    int status = zl_strings_check(s);
    if (status) return status;
    if ((status = zl_strings_measure(s, &s->longest))) return status;
    if ((status = zl_strings_check(s))) return status; /* by what is now known of the longest */
    memset(s->slots, 0xff, (size_t)s->n_slots * sizeof *s->slots);
    int64_t own[AHEAD];
    for (int64_t next = 0; next < s->n + AHEAD; next++) {
        const int64_t i = next - AHEAD;
        if (i >= 0) {
            int32_t *slot = s->slots + slot_from(s, own[i % AHEAD], zl_strings_text(s, i), zl_strings_length(s, i));
            if (*slot < 0 || last) *slot = (int32_t)i;
        }
        if (next < s->n) {
            own[next % AHEAD] = zl_strings_slot(s, zl_strings_text(s, next), zl_strings_length(s, next));
            __builtin_prefetch(s->slots + own[next % AHEAD], 1);
        }
    }
    return ZL_OK;
}

int zl_strings_find(const zl_strings *s, const uint8_t *text, int64_t n, const int32_t *ends, int64_t n_ends, int32_t *found) {
    int status = zl_strings_check(s);
    if (status) return status;
    if (n < 0 || n_ends < 0) return zl_fail(ZL_E_SHAPE, "strings: %lld pieces of %lld bytes", (long long)n_ends, (long long)n);
    if ((n && !text) || (n_ends && (!ends || !found))) return zl_fail(ZL_E_ARG, "strings: a null pointer");
    for (int64_t i = 0, begin = 0; i < n_ends; begin = ends[i++]) {
        if (ends[i] < begin || ends[i] > n)
            return zl_fail(ZL_E_BOUNDS, "strings: piece %lld ends at byte %d, after %lld, of %lld", (long long)i, ends[i], (long long)begin,
                           (long long)n);
        found[i] = zl_strings_search(s, text + begin, ends[i] - begin);
    }
    return ZL_OK;
}

/* ---- merging -----------------------------------------------------------------------------------------------------------------
 * Symbols are neighbouring runs of bytes. Their lengths stand at both their ends, in one array, so that either neighbour is found from
 * any symbol, and that no list of them is needed:
 *
 *      text     c   a   t   s   ' '         symbols "cat", "s", " "
 *      tag      3   .  -3   1   1           a symbol's first cell: its length; its last: minus that; of one byte alone: 1
 *
 * Pairs that may be joined wait in a heap, as rank << 32 | first byte: the lowest rank comes first, of equal ones the leftmost. A pair
 * that has changed since is left there and passed over when it comes up: its rank, looked up again, is another one, or its left symbol
 * is gone.
 *
 * The heap of a short word has room for one and a half times its characters; of a long one for three quarters, for memory is then what
 * counts. All pairs are looked through to begin with, and two thirds of the room are filled with the lowest; the highest of those is the
 * limit, above which nothing is put in. When the heap is empty or full, all pairs are looked through again. Full: each join adds one pair
 * at most, so joins were a third of the room; empty: each pair that was put in was joined or went with a neighbour's join, and a join
 * takes two with it at most. So it comes to that a few times in all, and there are O(n log n) steps. A step looks a pair up and so costs the
 * pair's bytes, of which a token of the vocabulary has few.
 */
enum { LONG = 1024 }; /* characters */

typedef struct {
    const zl_strings *s;
    const uint32_t *ranks;
    int separator;
    const uint8_t *text;
    int32_t n, *tag;
    uint64_t *heap;
    int64_t size, room;
    uint64_t limit;  /* no entry above it is in the heap */
    uint8_t *joined; /* room for a pair with the separator in between */
} merging;

/* The pair's rank, UINT32_MAX for none. a, b: the lengths of the symbol at `left` and of the next. */
static uint32_t rank_of(const merging *m, int32_t left, int32_t a, int32_t b) {
    const uint8_t *text = m->text + left;
    int64_t n = (int64_t)a + b + (m->separator >= 0);
    if (n > m->s->longest) return UINT32_MAX;
    if (m->separator >= 0) {
        memcpy(m->joined, text, (size_t)a);
        m->joined[a] = (uint8_t)m->separator;
        memcpy(m->joined + a + 1, text + a, (size_t)b);
        text = m->joined;
    }
    int32_t i = zl_strings_search(m->s, text, n);
    return i < 0 || !m->ranks ? (uint32_t)i : m->ranks[i];
}

static void push(merging *m, uint64_t entry) {
    int64_t i = m->size++;
    for (int64_t up; i > 0 && m->heap[up = (i - 1) / 2] > entry; i = up) m->heap[i] = m->heap[up];
    m->heap[i] = entry;
}

static uint64_t pop(merging *m) {
    uint64_t top = m->heap[0], entry = m->heap[--m->size];
    int64_t i = 0;
    for (int64_t down; (down = 2 * i + 1) < m->size; i = down) {
        if (down + 1 < m->size && m->heap[down + 1] < m->heap[down]) down++;
        if (m->heap[down] >= entry) break;
        m->heap[i] = m->heap[down];
    }
    m->heap[i] = entry;
    return top;
}

/* The entry of the symbol at `left` and the next one, UINT64_MAX if they may not be joined. */
static uint64_t entry_of(const merging *m, int32_t left) {
    int32_t a = m->tag[left], right = left + a;
    if (right >= m->n) return UINT64_MAX;
    uint32_t rank = rank_of(m, left, a, m->tag[right]);
    return rank == UINT32_MAX ? UINT64_MAX : (uint64_t)rank << 32 | (uint32_t)left;
}

static void offer(merging *m, int32_t left) {
    uint64_t entry = entry_of(m, left);
    if (entry <= m->limit && entry != UINT64_MAX) push(m, entry);
}

/* Fill the heap with the lowest entries. They are gathered as their complements, so that the highest of them is on top. */
static void offer_all(merging *m) {
    const int64_t kept = m->room - m->room / 3;
    m->size = 0, m->limit = UINT64_MAX;
    for (int32_t i = 0; i < m->n; i += m->tag[i]) {
        uint64_t entry = entry_of(m, i);
        if (entry == UINT64_MAX) continue;
        if (m->size == kept) {
            if (entry < ~m->heap[0]) pop(m), push(m, ~entry);
            m->limit = ~m->heap[0];
        } else {
            push(m, ~entry);
        }
    }
    const int64_t n = m->size;
    for (m->size = 0; m->size < n; ) push(m, ~m->heap[m->size]); /* those before it are in the heap already */
}

static void join_all(merging *m) {
    for (;;) {
        if (!m->size && m->limit != UINT64_MAX) offer_all(m);
        if (!m->size) return;
        uint64_t top = pop(m);
        int32_t left = (int32_t)(top & INT32_MAX), a = m->tag[left], right = left + a;
        if (a <= 0 || right >= m->n) continue;
        int32_t b = m->tag[right];
        if (rank_of(m, left, a, b) != top >> 32) continue;
        m->tag[right - 1] = m->tag[right] = 0; /* what is inside a symbol is neither end */
        m->tag[right + b - 1] = -(a + b);
        m->tag[left] = a + b;
        if (m->size + 2 > m->room) {
            offer_all(m);
            continue;
        }
        offer(m, left);
        if (left > 0) {
            int32_t before = m->tag[left - 1];
            offer(m, left - (before < 0 ? -before : before));
        }
    }
}

int zl_strings_merge(const zl_strings *s, const uint32_t *ranks, int separator, const uint8_t *text, int64_t n, int32_t *tag) {
    int64_t characters = 0;
    for (int64_t i = n - 1, end = n; i >= 0; i--) { /* symbols at first: a byte with the UTF-8 continuation bytes after it */
        tag[i] = 0;
        if (i && (text[i] & 0xc0) == 0x80) continue;
        tag[end - 1] = (int32_t)(i - end);
        tag[i] = (int32_t)(end - i);
        end = i;
        characters++;
    }
    uint64_t few[96];
    uint8_t short_pair[256];
    merging m = {.s = s, .ranks = ranks, .separator = separator, .text = text, .n = (int32_t)n, .tag = tag, .heap = few, .joined = short_pair};
    m.room = characters <= LONG ? characters + characters / 2 + 2 : characters / 4 * 3;
    int64_t longest = n + 1 < s->longest ? n + 1 : s->longest;
    int64_t bytes = (m.room > 96 ? m.room * 8 : 0) + (longest > 256 ? longest : 0);
    uint8_t *more = bytes ? malloc((size_t)bytes) : NULL;
    if (bytes && !more) return zl_fail(ZL_E_MEMORY, "merging a word of %lld bytes needs %lld bytes", (long long)n, (long long)bytes);
    if (m.room > 96) m.heap = (uint64_t *)(void *)more;
    if (longest > 256) m.joined = more + (m.room > 96 ? m.room * 8 : 0);
    offer_all(&m);
    join_all(&m);
    free(more);
    return ZL_OK;
}

int zl_merge(const zl_strings *s, const uint32_t *ranks, int separator, const uint8_t *text, int64_t n, int32_t *ends, int64_t *n_ends) {
    int status = zl_strings_check(s);
    if (status) return status;
    if (n < 0 || n >= INT32_MAX) return zl_fail(ZL_E_SHAPE, "merge: a word of %lld bytes", (long long)n);
    if (!n_ends || (n && (!text || !ends))) return zl_fail(ZL_E_ARG, "merge: a null pointer");
    if (separator < -1 || separator > 255) return zl_fail(ZL_E_ARG, "merge: separator %d is no byte", separator);
    *n_ends = 0;
    if ((status = zl_strings_merge(s, ranks, separator, text, n, ends))) return status;
    for (int32_t i = 0; i < n; ) { /* the ends take the tags' places, none before its tag was read */
        i += ends[i];
        ends[(*n_ends)++] = i;
    }
    return ZL_OK;
}
