/* unigram.c - the unigram tokenizer's byte loops: a trie over the pieces of a vocabulary, a text's most probable pieces (Viterbi), and
 * the normalisation that SentencePiece does before.
 *
 * A trie holds its nodes in the order of their depth, so that a node's children are neighbours and need no list:
 *
 *      pieces "a", "ab", "b", "bc":     node    0 (root)   1 a    2 b    3 ab   4 bc
 *                                       first   1          3      4      5      5      5     children of i: first[i] .. first[i + 1]
 *                                       label   .          a      b      b      c            the byte that leads to the node
 *                                       token   -1         0      2      1      3            the piece that ends here, -1 for none
 *
 * Sources: T. Kudo, "Subword Regularization", 2018 (the model and its Viterbi search); J. Aoe, "An Efficient Digital Search Algorithm by
 * Using a Double-Array Structure", 1989, whose array the character map is.
 *
 * What it is not: a tokenizer. Special tokens, scores of user-defined pieces and what stands around a text are Python's business.
 */
#include "trie.h"
#include <math.h>
#include <string.h>

enum { MOST = ZL_LONGEST_PIECE, RING = 2 * ZL_LONGEST_PIECE };

/* ---- the trie ------------------------------------------------------------------------------------------------------------------ */

static int check_strings(const zl_strings *s) {
    if (!s || !s->offsets || (s->n > 0 && !s->data)) return zl_fail(ZL_E_ARG, "trie: a null pointer");
    if (s->n < 0 || s->n > INT32_MAX) return zl_fail(ZL_E_SHAPE, "trie: %lld strings", (long long)s->n);
    return ZL_OK;
}

static inline const uint8_t *text_of(const zl_strings *s, int64_t i) { return s->data + s->offsets[i] + 8; }
static inline int64_t length_of(const zl_strings *s, int64_t i) { return s->offsets[i + 1] - s->offsets[i] - 8; }

/* Up to so many pieces are sorted by insertion, in at most FEW / 2 steps each. */
enum { FEW = 16 };

/* order[lo ..] <- the pieces from[lo .. hi) by the byte at `depth`, in their order otherwise. Where they are many they are counted, in
 * count [256], all 0 before and after; which bytes there are is kept as bits, so that only their counts are added up and set back: the steps
 * are the pieces' and the children's, not 256 for each node. */
static void sort(const zl_strings *s, const int32_t *from, int32_t *order, int64_t lo, int64_t hi, int64_t depth, int32_t *count) {
    if (hi - lo <= FEW) {
        for (int64_t i = lo; i < hi; i++) {
            const int32_t piece = from[i];
            const uint8_t byte = text_of(s, piece)[depth];
            int64_t j = i;
            for (; j > lo && text_of(s, order[j - 1])[depth] > byte; j--) order[j] = order[j - 1];
            order[j] = piece;
        }
        return;
    }
    uint64_t seen[4] = {0};
    for (int64_t i = lo; i < hi; i++) {
        const uint8_t byte = text_of(s, from[i])[depth];
        seen[byte >> 6] |= (uint64_t)1 << (byte & 63);
        count[byte]++;
    }
    int32_t at = (int32_t)lo;
    for (int word = 0; word < 4; word++)
        for (uint64_t left = seen[word]; left; left &= left - 1) {
            int32_t *n = count + 64 * word + __builtin_ctzll(left); /* how many -> where they begin */
            const int32_t begin = at;
            at += *n, *n = begin;
        }
    for (int64_t i = lo; i < hi; i++) order[count[text_of(s, from[i])[depth]]++] = from[i];
    for (int word = 0; word < 4; word++)
        for (uint64_t left = seen[word]; left; left &= left - 1) count[64 * word + __builtin_ctzll(left)] = 0;
}

/* Pieces order[lo .. hi) share their first `depth` bytes. Those that end there give *token (of equal ones the last) and go; the others are
 * sorted by their next byte, and become one child for each byte. -> the nodes so far. */
static int64_t branch(zl_trie *t, const zl_strings *s, int32_t *order, int32_t *spare, int32_t *count, int64_t lo, int64_t hi, int64_t depth,
                      int32_t *token, int64_t n) {
    int64_t kept = lo;
    if (hi - lo == 1 && length_of(s, order[lo]) > depth) { /* most nodes: one piece, which goes on */
        kept = hi;
    } else {
        for (int64_t i = lo; i < hi; i++) {
            if (length_of(s, order[i]) == depth)
                *token = order[i];
            else
                spare[kept++] = order[i];
        }
        sort(s, spare, order, lo, kept, depth, count);
    }
    for (int64_t i = lo, end; i < kept; i = end) {
        const uint8_t byte = text_of(s, order[i])[depth];
        for (end = i + 1; end < kept && text_of(s, order[end])[depth] == byte;) end++;
        t->label[n] = byte;
        t->token[n] = (int32_t)i; /* until its turn comes: where its pieces begin and end */
        t->first[n++] = (int32_t)end;
    }
    return n;
}

int zl_trie_build(zl_trie *t, const zl_strings *s, int32_t *order, int64_t n, int32_t *spare) {
    int status = check_strings(s);
    if (status) return status;
    if (!t || !t->first || !t->label || !t->token || (n > 0 && (!order || !spare))) return zl_fail(ZL_E_ARG, "trie: a null pointer");
    if (n < 0 || n > INT32_MAX) return zl_fail(ZL_E_SHAPE, "trie: %lld pieces", (long long)n);
    int64_t bytes = 0;
    for (int64_t i = 0; i < n; i++) {
        if (order[i] < 0 || order[i] >= s->n) return zl_fail(ZL_E_BOUNDS, "trie: piece %d of %lld strings", order[i], (long long)s->n);
        const int64_t begin = s->offsets[order[i]], end = s->offsets[order[i] + 1];
        if (begin < 0 || end < 8 || begin > end - 8 || end > s->n_bytes)
            return zl_fail(ZL_E_BOUNDS, "trie: string %d lies from byte %lld to %lld of %lld", order[i], (long long)begin, (long long)end,
                           (long long)s->n_bytes);
        if (end - begin - 8 > MOST)
            return zl_fail(ZL_E_SHAPE, "trie: piece %d has %lld bytes, at most %d are taken", order[i], (long long)(end - begin - 8), MOST);
        bytes += end - begin - 8;
    }
    if (t->room < bytes + 1 || bytes >= INT32_MAX)
        return zl_fail(ZL_E_SHAPE, "trie: room for %lld nodes, %lld may be needed", (long long)t->room, (long long)bytes + 1);
    t->label[0] = 0, t->token[0] = 0, t->first[0] = (int32_t)n;
    int32_t count[256] = {0};
    int64_t nodes = 1;
    for (int64_t i = 0, depth = 0, level = 1; i < nodes; i++) {
        if (i == level) depth++, level = nodes; /* the first node of the next depth: all of its depth are there by now */
        const int64_t lo = t->token[i], hi = t->first[i];
        t->first[i] = (int32_t)nodes, t->token[i] = -1;
        nodes = branch(t, s, order, spare, count, lo, hi, depth, &t->token[i], nodes);
    }
    t->first[nodes] = (int32_t)nodes;
    t->n = nodes;
    return ZL_OK;
}

static inline int64_t character(const uint8_t *text, int64_t left) {
    const int64_t n = text[0] < 0xc0 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
    return n < left ? n : left;
}

/* ---- Viterbi --------------------------------------------------------------------------------------------------------------------
 * best[p]: the highest score with which the text up to byte p can be cut into pieces; back[p]: the last of those pieces, or UNKNOWN - bytes.
 * A position that no piece reaches across is a cut: everything before it is decided. There the pieces are written out and sums begin again
 * at 0, so that pieces do not depend, by rounding, on what stands far before, and `back` starts again behind what was written:
 *
 *      ids   | written | back of this segment ->              a piece of L bytes becomes at most L ids, so that writing backwards, from
 *            0         count       count + (p - start)        the segment's last cell on, never overtakes the reading
 */
enum { UNKNOWN = -1 };

typedef struct {
    const zl_unigram *u;
    const uint8_t *text;
    int32_t *ids, *ends;
    int64_t count;
    int unknown; /* the last id written is the unknown token */
} viterbi;

/* Write out the pieces of text[start .. p). */
static void write(viterbi *v, int64_t start, int64_t p) {
    if (p == start) return;
    const zl_unigram *u = v->u;
    int32_t *ids = v->ids + v->count, *ends = v->ends ? v->ends + v->count : NULL;
    int64_t w = p - start;
    int unknown = 0, last = -1;
    for (int64_t at = p - start; at > 0;) {
        const int32_t piece = ids[at - 1];
        const int64_t n = piece >= 0 ? length_of(u->strings, piece) : (int64_t)UNKNOWN - piece, end = start + at;
        at -= n;
        if (piece < 0 && u->byte_ids) {
            for (int64_t i = n - 1; i >= 0; i--) {
                ids[--w] = u->byte_ids[v->text[start + at + i]];
                if (ends) ends[w] = (int32_t)(start + at + i + 1);
            }
        } else if (piece >= 0 || !unknown) { /* a run of unknown characters is one token */
            ids[--w] = piece >= 0 ? piece : u->unknown_id;
            if (ends) ends[w] = (int32_t)end;
        }
        unknown = piece < 0 && !u->byte_ids;
        if (last < 0) last = unknown;
    }
    int64_t n = p - start - w;
    if (unknown && v->unknown) { /* the run goes on from before the cut */
        if (ends) v->ends[v->count - 1] = ends[w];
        w++, n--;
    }
    memmove(ids, ids + w, (size_t)n * sizeof *ids);
    if (ends) memmove(ends, ends + w, (size_t)n * sizeof *ends);
    v->count += n;
    v->unknown = last > 0;
}

int zl_unigram_encode(const zl_unigram *u, const uint8_t *text, int64_t n, int32_t *ids, int32_t *ends, int64_t *n_ids) {
    if (!u || !u->strings || !u->scores || !n_ids || (n > 0 && (!text || !ids))) return zl_fail(ZL_E_ARG, "unigram: a null pointer");
    int status = zl_trie_check(u->trie);
    if (status) return status;
    if (n < 0 || n >= INT32_MAX) return zl_fail(ZL_E_SHAPE, "unigram: a text of %lld bytes", (long long)n);
    double best[RING];
    for (int i = 0; i < RING; i++) best[i] = -HUGE_VAL;
    viterbi v = {.u = u, .text = text, .ids = ids, .ends = ends};
    int64_t start = 0, reach = 0;
    for (int64_t p = 0, size; p < n; p += size) {
        if (p == reach) {
            write(&v, start, p);
            start = p;
            best[p % RING] = 0;
        }
        const int64_t back = v.count - start - 1; /* back of position q: ids[back + q] */
        const double here = best[p % RING];
        size = character(text + p, n - p);
        int whole = 0;
        int32_t node = 0;
        for (int64_t q = p; q < n && (node = zl_trie_child(u->trie, node, text[q])) >= 0;) {
            const int32_t piece = u->trie->token[node];
            q++;
            if (piece < 0) continue;
            if (q - p == size) whole = 1;
            if (q > reach) reach = q;
            const double score = here + u->scores[piece];
            if (score > best[q % RING]) best[q % RING] = score, ids[back + q] = piece;
        }
        if (!whole) {
            const int64_t q = p + size;
            const double score = here + u->unknown_score;
            if (q > reach) reach = q;
            if (score > best[q % RING]) best[q % RING] = score, ids[back + q] = UNKNOWN - (int32_t)size;
        }
        for (int64_t q = p; q < p + size; q++) best[q % RING] = -HUGE_VAL; /* for the bytes that come one turn of the ring later */
    }
    write(&v, start, n);
    *n_ids = v.count;
    return ZL_OK;
}

/* ---- normalisation -------------------------------------------------------------------------------------------------------------- */

/* The longest key of the character map that the text begins with: its bytes, 0 for none, -1 for a map that leads outside itself or to keys
 * longer than MOST, as one whose units lead in a circle does: each character of a text would be read to the text's end. *value is where
 * its replacement begins. A unit of the double array:
 *
 *      bit   31       30 .. 10   9      8      7 .. 0
 *            value?   offset     << 8   leaf   label          the child by byte c stands at (node ^ offset ^ c), if its label is c;
 *                                                             a leaf's value is the unit at node ^ offset, its low 31 bits
 */
static int64_t longest_key(const zl_charsmap *m, const uint8_t *text, int64_t n, uint32_t *value) {
    int64_t longest = 0;
    uint32_t at = 0;
    for (int64_t i = 0; i <= n; i++) {
        if (at >= m->n_units || i > MOST) return -1;
        const uint32_t unit = m->units[at];
        if (i && (unit & 0x800000ffu) != text[i - 1]) break;
        at ^= (unit >> 10) << ((unit & 512) >> 6);
        if (i && unit & 256) {
            if (at >= m->n_units) return -1;
            *value = m->units[at] & INT32_MAX;
            longest = i;
        }
        if (i < n) at ^= text[i];
    }
    return longest;
}

/* The longest piece of the trie that the text begins with: its bytes, 0 for none. */
static int64_t longest_piece(const zl_trie *t, const uint8_t *text, int64_t n) {
    int64_t longest = 0;
    int32_t node = 0;
    for (int64_t i = 0; i < n && (node = zl_trie_child(t, node, text[i])) >= 0; i++)
        if (t->token[node] >= 0) longest = i + 1;
    return longest;
}

typedef struct {
    uint8_t *out;
    int32_t *origin;
    int64_t n;
} sink;

static inline void put(sink *s, const char *bytes, int64_t n, int64_t origin) {
    for (int64_t i = 0; i < n; i++, s->n++) {
        if (s->out) s->out[s->n] = (uint8_t)bytes[i];
        if (s->origin) s->origin[s->n] = (int32_t)origin;
    }
}

int zl_normalize(const zl_charsmap *m, const uint8_t *text, int64_t n, uint8_t *out, int32_t *origin, int64_t *n_out) {
    if (!m || !n_out || (n > 0 && !text) || (m->n_units > 0 && (!m->units || !m->replacements))) return zl_fail(ZL_E_ARG, "normalize: a null pointer");
    if (n < 0 || n >= INT32_MAX || m->n_units < 0) return zl_fail(ZL_E_SHAPE, "normalize: a text of %lld bytes", (long long)n);
    int status = m->kept ? zl_trie_check(m->kept) : ZL_OK;
    if (status) return status;
    const int merge = m->flags & ZL_SPACES_MERGE, escape = m->flags & ZL_SPACES_ESCAPE;
    const char *space = escape ? "\xe2\x96\x81" : " ";
    const int64_t wide = escape ? 3 : 1;
    sink s = {out, origin, 0};
    int after_space = merge, begun = !(m->flags & ZL_SPACES_PREFIX), empty = 1;
    int64_t tail = 0, tail_origin = -1; /* bytes at the end that are spaces, to be taken off again; where the first of them was */
    for (int64_t at = 0, used; at < n; at += used) {
        const char *piece = (const char *)text + at;
        int64_t size = used = m->kept ? longest_piece(m->kept, text + at, n - at) : 0;
        uint32_t value = 0;
        if (!used && m->n_units) {
            used = longest_key(m, text + at, n - at, &value);
            if (used < 0) return zl_fail(ZL_E_BOUNDS, "character map: byte %lld of a text leads outside its %lld units or to a key of more than %d bytes", (long long)at,
                                          (long long)m->n_units, MOST);
            if (used) {
                const int64_t left = value < m->n_replacements ? m->n_replacements - value : 0;
                const void *end = left ? memchr(m->replacements + value, 0, (size_t)(left <= MOST ? left : MOST + 1)) : NULL;
                if (!end) return zl_fail(ZL_E_BOUNDS, "character map: replacement %u does not end in %lld bytes, nor after %d", value, (long long)m->n_replacements, MOST);
                piece = (const char *)m->replacements + value;
                size = (const char *)end - piece;
            }
        }
        if (!used) size = used = character(text + at, n - at);
        if (empty && merge && size == 1 && *piece == ' ') continue; /* spaces before everything */
        empty = 0;
        if (!begun) put(&s, space, wide, at), begun = 1, tail = wide, tail_origin = at;
        for (; after_space && size && *piece == ' '; size--) piece++;
        const int copied = piece >= (const char *)text && piece <= (const char *)text + n; /* not replaced: each byte is from its own */
        for (int64_t i = 0; i < size; i++) {
            const int64_t from = copied ? piece + i - (const char *)text : at, before = s.n;
            const int is_space = piece[i] == ' ';
            /* a literal U+2581 at the end is taken for a space, as where spaces are escaped it is one */
            const int literal = escape && i + 2 < size && !memcmp(piece + i, "\xe2\x96\x81", 3);
            if (is_space) put(&s, space, wide, from);
            else put(&s, piece + i, 1, from);
            if (is_space || literal) {
                for (int k = 1; literal && k < 3; k++) put(&s, piece + ++i, 1, from + (copied ? k : 0));
                if (!tail) tail_origin = from;
                tail += s.n - before;
            } else {
                tail = 0;
            }
        }
        if (size) after_space = merge && piece[size - 1] == ' ';
    }
    int64_t end = n;
    if (out && merge && tail) s.n -= tail, end = tail_origin;
    if (origin) origin[s.n] = (int32_t)end;
    *n_out = s.n;
    return ZL_OK;
}
