/* grammar_mask.c - which tokens of a vocabulary may follow: a walk of tries of the tokens, a step of the machine per node.
 *
 * Tokens go into five groups by the characters they are made of, each with a trie of its own; each class of characters holds the one before:
 *
 *      LOWER    a-z                                              ORDER   tokens of a vocabulary of 262,144 words, for orientation
 *      NAME     and A-Z 0-9 _                                            33,000   LOWER
 *      ASCII    and all from space to ~ but " and \                      20,000   NAME
 *      TEXT     and all of UTF-8 beyond ASCII                            90,000   ASCII
 *      REST     whatever is not made of these, or is longer than         111,000  TEXT
 *               ZL_LONGEST_RUN characters                                1,600    REST
 *
 * A state from which every character of a class leads back to the same state (within a string, say) allows all tokens of the group at once:
 * the group's bits are copied, and only the tries of later groups are walked. Such states are found by trying, not by knowing the grammar, unless the machine says so by itself (zl_machine.alike).
 * Near ones work alike. Where no text of the class is refused, whatever states it leads to, all tokens of the group are allowed. Where a character of the class leads on to another such state, and so on (a string that may have so many characters
 * more), the tokens of so many characters are allowed. Where most bytes lead to such a state and a few elsewhere (names, of which some are
 * known), the group's bits are copied, and only what leads elsewhere is walked, taking bits away.
 *
 * From a state that leads back to itself by every character of TEXT (within a string) all of TEXT is allowed, and a token of REST is what
 * its end is, from the first character that is not of TEXT on: so these ends, of which there are fewer, are a sixth trie, in place of REST.
 *
 * A trie is an array of nodes depth first, each with the place where its subtree ends; tokens lie in the same order:
 *
 *      node     byte  depth  end  first            ids
 *      0        'a'   0      3    0                [0] "a"  [1] "an"  [2] "at"  [3] "be"
 *      1        'n'   1      2    1
 *      2        't'   1      3    2
 *      3        'b'   0      5    3
 *      4        'e'   1      5    3
 *      5 (end)                    4
 */
#include "grammar_alike.h"
#include <stdlib.h>
#include <string.h>

enum { FEW_NODES = 64 }; /* below so many nodes a subtree is walked without asking whether all of it is allowed */

enum { MANY_CHILDREN = 8, LISTED_DEPTH = 4 }; /* nodes of more children, no deeper, have a list of them */

typedef struct {
    int32_t end, first;
    uint16_t depth;
    uint8_t byte;
    uint8_t whole; /* whether a character ends here: only then may what follows be one of a class */
    int32_t list;  /* of its children in `children`, or -1 */
} node;

/* A child, by its byte: siblings lie far apart among the nodes, and most are refused by a look at their bytes. The first of a list says in
 * `node` how many follow. */
typedef struct {
    int32_t node;
    uint8_t byte;
} child;

typedef struct {
    int32_t n_nodes, n_ids;
    node *nodes;       /* [n_nodes + 1] */
    child *children;
    int32_t *ids;      /* [n_ids] */
    uint32_t *bits;    /* [ZL_LONGEST_RUN + 1][n_words] tokens of the group of so many characters at most; NULL for REST and empty groups */
    int longest;       /* characters of the longest token of the group */
    int n_roots;
    uint8_t root_byte[256]; /* the nodes at the top: their bytes, */
    int32_t root[257];      /* and which they are; then where the last one's subtree ends */
} group;

struct zl_vocabulary {
    int64_t n, n_words;
    group groups[N_GROUPS];
    int64_t n_ends;
    int32_t *ends;
    int64_t deepest;   /* bytes of the longest token */
    uint32_t *text;    /* [n_words] tokens of TEXT characters alone, however many */
};

/* ---- making a vocabulary ------------------------------------------------------------------------------------------------------ */

/* Group of a token, how many characters of TEXT it begins with, and the byte after them. */
static int group_of(const uint8_t *text, int64_t n, int32_t *characters, int32_t *tail) {
    int found = LOWER, row = 0;
    *characters = *tail = 0;
    for (int64_t i = 0; i < n; i++) {
        int c = class_of(text[i]);
        if (c == REST || (row && c != TEXT)) return REST;
        if (c > found) found = c;
        if (c == TEXT) {
            const utf8_edge *e = utf8[row];
            while (e->high && (text[i] < e->low || text[i] > e->high)) e++;
            if (!e->high) return REST;
            row = e->then;
        }
        if (row) continue;
        ++*characters;
        *tail = (int32_t)i + 1;
    }
    return row || *characters > ZL_LONGEST_RUN ? REST : found;
}

typedef struct {
    const uint8_t *text;
    int32_t n, id, characters, tail;
    uint8_t group;
} token;

static int order(const void *a, const void *b) {
    const token *x = a, *y = b;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    int32_t n = x->n < y->n ? x->n : y->n;
    int c = memcmp(x->text, y->text, (size_t)n);
    if (c) return c;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int32_t common(const token *a, const token *b) {
    int32_t i = 0;
    while (i < a->n && i < b->n && a->text[i] == b->text[i]) i++;
    return i;
}

/* Lists of children. -1: no memory. */
static int list_children(group *g) {
    int32_t n = 0;
    for (int pass = 0; pass < 2; pass++) {
        n = 0;
        for (int32_t i = 0; i < g->n_nodes; i++) {
            node *v = &g->nodes[i];
            v->list = -1;
            int32_t k = 0;
            if (v->depth >= LISTED_DEPTH) continue;
            for (int32_t j = i + 1; j < v->end; j = g->nodes[j].end) k++;
            if (k <= MANY_CHILDREN) continue;
            if (pass) {
                v->list = n;
                g->children[n] = (child){.node = k};
                int32_t at = n;
                for (int32_t j = i + 1; j < v->end; j = g->nodes[j].end) g->children[++at] = (child){j, g->nodes[j].byte};
            }
            n += k + 1;
        }
        if (!pass && n && !(g->children = calloc((size_t)n, sizeof *g->children))) return -1;
    }
    return 0;
}

/* The trie of n sorted tokens of a group. -1: no memory. */
static int build(group *g, const token *tokens, int32_t n, int64_t n_words, int64_t deepest) {
    int64_t n_nodes = 0;
    for (int32_t i = 0; i < n; i++) n_nodes += tokens[i].n - (i ? common(&tokens[i - 1], &tokens[i]) : 0);
    g->nodes = calloc((size_t)n_nodes + 1, sizeof *g->nodes);
    g->ids = calloc((size_t)n + 1, sizeof *g->ids);
    int32_t *open = calloc((size_t)deepest + 1, sizeof *open + 1); /* the nodes from the root down to the last one, */
    int with_bits = n && tokens[0].group < REST;
    if (with_bits) g->bits = calloc((size_t)((ZL_LONGEST_RUN + 1) * n_words), sizeof *g->bits);
    if (!g->nodes || !g->ids || !open || (with_bits && !g->bits)) {
        free(open);
        return -1;
    }
    uint8_t *rows = (uint8_t *)(open + deepest + 1); /* and after each of them the row of `utf8` */
    int32_t k = 0, depth = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t same = i ? common(&tokens[i - 1], &tokens[i]) : 0;
        for (; depth > same; depth--) g->nodes[open[depth - 1]].end = k;
        for (; depth < tokens[i].n; depth++) {
            uint8_t row = depth ? rows[depth - 1] : 0, byte = tokens[i].text[depth];
            if (byte >= 0x80 && tokens[i].group == TEXT) {
                const utf8_edge *e = utf8[row];
                while (byte < e->low || byte > e->high) e++;
                row = e->then;
            }
            rows[depth] = row;
            g->nodes[k] = (node){.first = i, .depth = (uint16_t)depth, .byte = byte, .whole = row == 0};
            open[depth] = k++;
        }
        g->ids[i] = tokens[i].id;
        if (!with_bits) continue;
        int c = tokens[i].characters;
        g->bits[c * n_words + tokens[i].id / 32] |= (uint32_t)1 << tokens[i].id % 32;
        if (c > g->longest) g->longest = c;
    }
    for (; depth > 0; depth--) g->nodes[open[depth - 1]].end = k;
    g->nodes[k] = (node){.end = k, .first = n};
    g->n_nodes = k;
    g->n_ids = n;
    for (int32_t i = 0; i < k; i = g->nodes[i].end) {
        g->root_byte[g->n_roots] = g->nodes[i].byte;
        g->root[g->n_roots++] = i;
    }
    free(open);
    if (list_children(g)) return -1;
    for (int64_t i = n_words; with_bits && i < (ZL_LONGEST_RUN + 1) * n_words; i++) g->bits[i] |= g->bits[i - n_words];
    return 0;
}

void zl_vocabulary_free(zl_vocabulary *v) {
    if (!v) return;
    for (int g = 0; g < N_GROUPS; g++) {
        free(v->groups[g].nodes);
        free(v->groups[g].children);
        free(v->groups[g].ids);
        free(v->groups[g].bits);
    }
    free(v->ends);
    free(v->text);
    free(v);
}

int zl_vocabulary_new(const uint8_t *data, const int64_t *offsets, int64_t n, const int32_t *ends, int64_t n_ends, zl_vocabulary **out) {
    if (!out || (n > 0 && (!data || !offsets)) || (n_ends && !ends)) return zl_fail(ZL_E_ARG, "vocabulary: a null pointer");
    *out = NULL;
    if (n < 1 || n > 1 << 24 || n_ends < 0) return zl_fail(ZL_E_SHAPE, "vocabulary: %lld tokens, %lld ends", (long long)n, (long long)n_ends);
    int64_t deepest = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t length = offsets[i + 1] - offsets[i];
        if (offsets[i] < 0 || length < 0 || length > UINT16_MAX)
            return zl_fail(ZL_E_BOUNDS, "vocabulary: token %lld begins at byte %lld and has %lld", (long long)i, (long long)offsets[i], (long long)length);
        if (length > deepest) deepest = length;
    }
    for (int64_t i = 0; i < n_ends; i++)
        if (ends[i] < 0 || ends[i] >= n) return zl_fail(ZL_E_BOUNDS, "vocabulary: end token %d of %lld", ends[i], (long long)n);
    zl_vocabulary *v = calloc(1, sizeof *v);
    token *tokens = calloc((size_t)n * 2, sizeof *tokens); /* those of REST a second time, as TAILS */
    int failed = !v || !tokens;
    if (!failed) {
        v->ends = calloc((size_t)n_ends + 1, sizeof *v->ends);
        v->text = calloc((size_t)(n + 31) / 32, sizeof *v->text);
        failed = !v->ends || !v->text;
    }
    if (!failed) {
        v->n = n;
        v->n_words = (n + 31) / 32;
        v->deepest = deepest;
        v->n_ends = n_ends;
        if (n_ends) memcpy(v->ends, ends, (size_t)n_ends * sizeof *ends);
        int32_t k = 0;
        for (int32_t i = 0; i < n; i++) {
            int is_end = 0;
            for (int64_t e = 0; e < n_ends; e++) is_end |= ends[e] == i;
            token t = {.text = data + offsets[i], .n = (int32_t)(offsets[i + 1] - offsets[i]), .id = i};
            if (!t.n || is_end) continue;
            t.group = (uint8_t)group_of(t.text, t.n, &t.characters, &t.tail);
            tokens[k++] = t;
            if (t.tail == t.n) v->text[i / 32] |= (uint32_t)1 << i % 32;
            if (t.group != REST || t.tail == t.n) continue;
            t.group = TAILS;
            t.text += t.tail;
            t.n -= t.tail;
            tokens[k++] = t;
        }
        qsort(tokens, (size_t)k, sizeof *tokens, order);
        for (int32_t i = 0, j = 0, g = 0; g < N_GROUPS && !failed; g++, i = j) {
            while (j < k && tokens[j].group == g) j++;
            failed = build(&v->groups[g], tokens + i, j - i, v->n_words, deepest);
        }
    }
    free(tokens);
    if (failed) {
        zl_vocabulary_free(v);
        return zl_fail(ZL_E_MEMORY, "a vocabulary's trie of %lld tokens needs %lld bytes", (long long)n, (long long)(n * 128));
    }
    *out = v;
    return ZL_OK;
}

/* ---- the walk ------------------------------------------------------------------------------------------------------------------ */

static inline void set(uint32_t *mask, const int32_t *ids, int32_t from, int32_t to) {
    for (int32_t i = from; i < to; i++) mask[ids[i] >> 5] |= (uint32_t)1 << (ids[i] & 31);
}

static inline void clear(uint32_t *mask, const int32_t *ids, int32_t from, int32_t to) {
    for (int32_t i = from; i < to; i++) mask[ids[i] >> 5] &= ~((uint32_t)1 << (ids[i] & 31));
}

static void add_bits(uint32_t *mask, const uint32_t *bits, int64_t n_words) {
    for (int64_t i = 0; i < n_words; i++) mask[i] |= bits[i];
}

/* The nodes from `i` to `end`, which is no node's inside. The states on the way down are in `path` [deepest + 1]. `most`: where a subtree
 * needs no walk, since its bits are as they should be; unless it is ZL_DEAD, all bits are set, and what is refused is cleared. */
static int walk(zl_machine *m, const group *g, int class, int32_t i, int32_t end, int32_t most, uint32_t *mask, int32_t *path) {
    while (i < end) {
        const node *v = &g->nodes[i];
        int32_t next = zl_machine_step(m, path[v->depth], v->byte);
        if (next < 0) {
            if (next == ZL_BUDGET) return next;
            if (most != ZL_DEAD) clear(mask, g->ids, v->first, g->nodes[v->end].first);
            i = v->end;
            continue;
        }
        if (next == most && v->whole) {
            i = v->end;
            continue;
        }
        path[v->depth + 1] = next;
        if (most == ZL_DEAD) {
            if (class < REST && v->whole && v->end - i > FEW_NODES) {
                int32_t to = zl_alike_uniform(m, next, class);
                if (to == ZL_BUDGET) return to;
                if (to == next) {
                    set(mask, g->ids, v->first, g->nodes[v->end].first);
                    i = v->end;
                    continue;
                }
            }
            set(mask, g->ids, v->first, v[1].first);
            if (v->list >= 0) { /* no deeper within one another than LISTED_DEPTH */
                const child *c = g->children + v->list;
                for (int32_t k = c->node; k > 0; k--) {
                    int32_t to = zl_machine_step(m, next, (++c)->byte);
                    if (to == ZL_BUDGET) return to;
                    if (to != ZL_DEAD && walk(m, g, class, c->node, g->nodes[c->node].end, most, mask, path)) return ZL_BUDGET;
                }
                i = v->end;
                continue;
            }
        }
        i++;
    }
    return 0;
}

/* Bits of one group. next [256]: the state after each byte. 0, or ZL_BUDGET. */
static int walk_group(zl_machine *m, const group *g, int class, int64_t n_words, int32_t state, const int32_t *next, uint32_t *mask, int32_t *path) {
    int32_t most = ZL_DEAD;
    int alive = 0;
    for (int r = 0; r < g->n_roots; r++) alive |= next[g->root_byte[r]] != ZL_DEAD;
    if (!alive) return 0;
    if (class < REST) {
        int run = zl_alike_run_of(m, state, class, g->longest);
        if (run < 0) return ZL_BUDGET;
        if (run == 0) {
            int all = zl_alike_closed(m, state, class, g->longest);
            if (all < 0) return ZL_BUDGET;
            run = all ? g->longest : 0;
        }
        if (run > 0) {
            add_bits(mask, g->bits + run * n_words, n_words);
            return 0;
        }
        most = zl_alike_usual(m, next, class);
        if (most == ZL_BUDGET) return most;
        if (most != ZL_DEAD) add_bits(mask, g->bits + g->longest * n_words, n_words);
    }
    path[0] = state;
    for (int r = 0; r < g->n_roots; r++) {
        int32_t to = next[g->root_byte[r]], i = g->root[r];
        if (to == most && (to == ZL_DEAD || g->nodes[i].whole)) continue;
        if (walk(m, g, class, i, g->nodes[i].end, most, mask, path)) return ZL_BUDGET;
    }
    return 0;
}

/* All groups; see the head of the file. */
static int fill(const zl_vocabulary *v, zl_machine *m, int32_t state, uint32_t *mask, int32_t *path) {
    int32_t next[256], of_class[256];
    for (int c = 0; c < m->n_classes; c++) of_class[c] = ZL_UNKNOWN;
    for (int b = 0; b < 256; b++) {
        int32_t *to = &of_class[m->class_of[b]];
        if (*to == ZL_UNKNOWN) *to = zl_machine_step(m, state, (uint8_t)b);
        if (*to == ZL_BUDGET) return ZL_BUDGET;
        next[b] = *to;
    }
    int32_t all = zl_alike_uniform(m, state, TEXT);
    if (all == ZL_BUDGET) return ZL_BUDGET;
    if (all == state) {
        memcpy(mask, v->text, (size_t)v->n_words * sizeof *mask);
        return walk_group(m, &v->groups[TAILS], TAILS, v->n_words, state, next, mask, path);
    }
    memset(mask, 0, (size_t)v->n_words * sizeof *mask);
    for (int g = 0; g < TAILS; g++)
        if (walk_group(m, &v->groups[g], g, v->n_words, state, next, mask, path)) return ZL_BUDGET;
    return 0;
}

int zl_vocabulary_mask(const zl_vocabulary *v, zl_machine *m, int32_t state, uint32_t *mask, int64_t *n_allowed, int32_t *one) {
    if (!v || !mask || !n_allowed || !one) return zl_fail(ZL_E_ARG, "grammar: a null pointer");
    int status = zl_machine_check(m, state);
    if (status) return status;
    int32_t few[256], *path = v->deepest < 256 ? few : malloc(((size_t)v->deepest + 1) * sizeof *path);
    if (!path) return zl_fail(ZL_E_MEMORY, "a walk of tokens needs %lld bytes", (long long)(v->deepest + 1) * 4);
    m->work = 0;
    if (fill(v, m, state, mask, path)) status = zl_machine_fail(m);
    if (path != few) free(path);
    if (status) return status;
    int end = m->finished(m, state);
    if (end < 0) return zl_machine_fail(m);
    if (end) set(mask, v->ends, 0, (int32_t)v->n_ends);
    *one = -1;
    *n_allowed = 0;
    for (int64_t i = 0; i < v->n_words && *n_allowed < 2; i++) {
        if (!mask[i]) {
            for (uint32_t any = 0; i + 64 <= v->n_words; i += 64) { /* past words without any, many at a time */
                for (int j = 0; j < 64; j++) any |= mask[i + j];
                if (any) break;
            }
            if (i >= v->n_words || !mask[i]) continue;
        }
        *n_allowed += 1 + ((mask[i] & (mask[i] - 1)) != 0);
        if (*one < 0) *one = (int32_t)i * 32 + __builtin_ctz(mask[i]);
    }
    if (*n_allowed > 2) *n_allowed = 2;
    return ZL_OK;
}
