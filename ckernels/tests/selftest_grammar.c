/* selftest_grammar.c - the pushdown machine against a recogniser written by hand, masks against reading each token alone, budgets, and
 * what is refused. Machines for masks are random tables that lean to what grammar_mask.c looks for: states that all characters of a class
 * lead back to, chains of such states, and a few bytes that lead elsewhere. */
#include "../core/grammar_alike.h"
#include "../core/grammar_machine.h"
#include "selftest.h"

static int failures;
static uint64_t seed = 88172645463325252u;
static uint32_t below(uint32_t n) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

/* ---- the pushdown machine: sums of products, left recursive ------------------------------------------------------------------------
 *      0  text  0 -e-> 1*
 *      e  2 -e-> 3 -'+'-> 4 -t-> 5*     2 -t-> 5        t  6 -t-> 7 -'*'-> 8 -f-> 9*     6 -f-> 9
 *      f  10 -'a'-> 11*     10 -'('-> 12 -e-> 13 -')'-> 11        */
static const int32_t edge_first[] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 4, 4, 4, 5}, edge_next[] = {4, 8, 11, 12, 11};
static const uint8_t edge_byte[] = {'+', '*', 'a', '(', ')'}, final[] = {0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0};
static const int32_t call_first[] = {0, 1, 1, 3, 3, 4, 4, 6, 6, 7, 7, 7, 7, 8, 8}, call_rule[] = {0, 0, 1, 1, 1, 2, 2, 0};
static const int32_t call_next[] = {1, 3, 5, 5, 7, 9, 9, 13}, rule_node[] = {2, 6, 10}, rule_group[] = {0, 1, 2};
static uint8_t symbols[256];

static zl_pushdown_rules sums(void) {
    for (int i = 0; i < 5; i++) symbols[edge_byte[i]] = (uint8_t)(i + 1);
    return (zl_pushdown_rules){.n_nodes = 14, .edge_first = edge_first, .edge_low = edge_byte, .edge_high = edge_byte, .edge_next = edge_next,
                               .call_first = call_first, .call_rule = call_rule, .call_next = call_next, .final = final, .n_rules = 3,
                               .rule_node = rule_node, .rule_group = rule_group, .start = 0, .n_classes = 6, .class_of = symbols};
}

/* Whether a text is the beginning of a sum, and a whole one: an operand is due, or what may follow one. */
static void judge(const uint8_t *text, int n, int *prefix, int *whole) {
    int depth = 0, due = 1;
    *prefix = 1;
    for (int i = 0; i < n && *prefix; i++) {
        if (due) {
            if (text[i] == '(') depth++;
            else if (text[i] == 'a') due = 0;
            else *prefix = 0;
        } else if (text[i] == ')' && depth) depth--;
        else if (text[i] == '+' || text[i] == '*') due = 1;
        else *prefix = 0;
    }
    *whole = *prefix && !due && !depth;
}

static void test_sums(void) {
    zl_pushdown_rules r = sums();
    zl_machine *m;
    CHECK(zl_pushdown_new(&r, &m) == ZL_OK, "new");
    int32_t start, after;
    CHECK(zl_machine_start(m, &start) == ZL_OK, "start");
    uint8_t text[64];
    for (int round = 0; round < 30000; round++) {
        int n = (int)below(12), prefix, whole, finished;
        for (int i = 0; i < n; i++) text[i] = edge_byte[below(5)];
        int k = n; /* the longest beginning that is one of a sum */
        for (judge(text, k, &prefix, &whole); !prefix; judge(text, k, &prefix, &whole)) k--;
        int64_t n_read;
        CHECK(zl_machine_read(m, start, text, n, &n_read, &after) == ZL_OK && n_read == k, "%.*s: %d", n, (char *)text, (int)n_read);
        CHECK(zl_machine_finished(m, after, &finished) == ZL_OK && finished == whole, "%.*s", n, (char *)text);
        int32_t next[256];
        CHECK(zl_machine_next(m, after, next) == ZL_OK, "next");
        for (int b = 0; b < 256; b++) {
            text[k] = (uint8_t)b;
            judge(text, k + 1, &prefix, &whole);
            CHECK((next[b] != ZL_DEAD) == prefix, "%.*s then %d", k, (char *)text, b);
        }
    }
    int64_t used, n_states;
    CHECK(zl_machine_limit(m, 0, 0, &used, &n_states) == ZL_OK && n_states < 60, "%lld states", (long long)n_states);
    CHECK(used >= n_states * (6 * 4 + 16), "%lld bytes for %lld states", (long long)used, (long long)n_states);
    /* a stack per bracket that is open: bounded by memory */
    CHECK(zl_machine_limit(m, used + 20000, 0, &used, &n_states) == ZL_OK, "limit");
    static uint8_t deep[100000];
    memset(deep, '(', sizeof deep);
    int64_t n_read;
    CHECK(zl_machine_read(m, start, deep, sizeof deep, &n_read, &after) == ZL_E_BUDGET && strstr(zl_error(), "bytes of memory"), "deep");
    CHECK(zl_machine_read(m, start, deep, 20, &n_read, &after) == ZL_OK && n_read == 20, "what is known stays known");
    CHECK(zl_machine_limit(m, 1 << 24, 3, &used, &n_states) == ZL_OK, "limit");
    CHECK(zl_machine_read(m, start, deep, 4000, &n_read, &after) == ZL_E_BUDGET && strstr(zl_error(), "steps"), "steps");
    CHECK(zl_machine_limit(m, 0, 1 << 20, &used, &n_states) == ZL_OK, "limit");
    CHECK(zl_machine_read(m, start, deep, 4000, &n_read, &after) == ZL_OK && n_read == 4000, "after a step that was given up");
    zl_machine_free(m);
    zl_machine_free(NULL);
    for (int64_t most = 1; most < 60; most++) { /* given up at every point of a step, and gone on with */
        CHECK(zl_pushdown_new(&r, &m) == ZL_OK && zl_machine_limit(m, 0, most, &used, &n_states) == ZL_OK, "new");
        int status = zl_machine_read(m, start, (const uint8_t *)"((a", 3, &n_read, &after);
        CHECK(status == ZL_OK || status == ZL_E_BUDGET, "%d", status);
        CHECK(zl_machine_limit(m, 0, 1 << 20, &used, &n_states) == ZL_OK, "limit");
        CHECK(zl_machine_read(m, start, (const uint8_t *)"((a)*a)+a", 9, &n_read, &after) == ZL_OK && n_read == 9 && m->finished(m, after), "%d", (int)most);
        CHECK(zl_machine_read(m, start, (const uint8_t *)"((a)*a))", 8, &n_read, &after) == ZL_OK && n_read == 7, "%d", (int)most);
        zl_machine_free(m);
    }
}

/* 0 -f-> 1*     0 -a-> 2 -f-> 3 -'!'-> 4*     f  5 -a-> 6* -a-> 6     0 -c-> 7 -b-> 9*     0 -c-> 8*     0 -d-> 7     2 -g-> 3     g  10 -e-> 9*
 * One node on two stacks, two rules that are called at once; and states of the same items, of which one is finished. */
static void test_twofold(void) {
    static const int32_t edges[] = {0, 4, 4, 4, 5, 5, 6, 7, 8, 8, 8, 9}, to[] = {2, 7, 8, 7, 4, 6, 6, 9, 9};
    static const int32_t calls[] = {0, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3};
    static const uint8_t bytes[] = "accd!aabe", ends[] = {0, 1, 0, 0, 1, 0, 1, 0, 1, 1, 0};
    static const int32_t rules[] = {0, 0, 1}, back[] = {1, 3, 3}, node[] = {5, 10}, group[] = {0, 1};
    uint8_t classes[256];
    for (int b = 0; b < 256; b++) classes[b] = (uint8_t)b;
    zl_pushdown_rules r = {.n_nodes = 11, .edge_first = edges, .edge_low = bytes, .edge_high = bytes, .edge_next = to, .call_first = calls,
                           .call_rule = rules, .call_next = back, .final = ends, .n_rules = 2, .rule_node = node, .rule_group = group,
                           .start = 0, .n_classes = 256, .class_of = classes};
    zl_machine *m;
    CHECK(zl_pushdown_new(&r, &m) == ZL_OK, "new");
    static const char *const texts[] = {"ce", "", "a", "aa", "aaa", "aa!", "a!", "aaaa!", "c", "d", "cb", "db", "cbb", "aa!!", "ae!", "aee", "e"};
    static const int read[] = {1, 0, 1, 2, 3, 3, 1, 5, 1, 1, 2, 2, 2, 3, 3, 2, 0}, whole[] = {1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0};
    for (int most = 0; most < 30; most++) {
        int64_t n_read, used, n_states;
        int32_t after;
        if (most) { /* a step that was given up leaves nothing behind */
            CHECK(zl_pushdown_new(&r, &m) == ZL_OK && zl_machine_limit(m, 0, most, &used, &n_states) == ZL_OK, "new");
            int status = zl_machine_read(m, m->start, (const uint8_t *)"a", 1, &n_read, &after);
            CHECK(status == ZL_OK || status == ZL_E_BUDGET, "%d", status);
            CHECK(zl_machine_limit(m, 0, 1 << 20, &used, &n_states) == ZL_OK, "limit");
        }
        for (int i = 0; i < 17; i++) {
            CHECK(zl_machine_read(m, m->start, (const uint8_t *)texts[i], (int64_t)strlen(texts[i]), &n_read, &after) == ZL_OK, "read");
            CHECK(n_read == read[i] && m->finished(m, after) == whole[i], "%s: %d", texts[i], (int)n_read);
        }
        zl_machine_free(m);
    }
}

static void test_refused(void) {
    zl_machine *m;
    int32_t bad[15], one[3] = {0, 0, 0};
    zl_pushdown_rules r = sums();
    CHECK(zl_pushdown_new(NULL, &m) == ZL_E_ARG && zl_pushdown_new(&r, NULL) == ZL_E_ARG, "null");
    r.n_nodes = 0;
    CHECK(zl_pushdown_new(&r, &m) == ZL_E_SHAPE, "no nodes");
    r = sums(), r.start = 14;
    CHECK(zl_pushdown_new(&r, &m) == ZL_E_BOUNDS, "start");
    r = sums(), r.n_classes = 5;
    CHECK(zl_pushdown_new(&r, &m) == ZL_E_BOUNDS, "classes");
    r = sums(), r.n_classes = 257;
    CHECK(zl_pushdown_new(&r, &m) == ZL_E_SHAPE, "classes");
    r = sums(), memcpy(bad, edge_first, sizeof bad), bad[0] = 1, r.edge_first = bad;
    CHECK(zl_pushdown_new(&r, &m) == ZL_E_BOUNDS, "first edge");
    bad[0] = 0, bad[4] = -1;
    CHECK(zl_pushdown_new(&r, &m) == ZL_E_BOUNDS, "edges descend");
    r = sums(), memcpy(bad, edge_next, sizeof edge_next), bad[4] = 14, r.edge_next = bad;
    CHECK(zl_pushdown_new(&r, &m) == ZL_E_BOUNDS, "edge");
    r = sums(), memcpy(bad, call_next, sizeof call_next), bad[7] = -1, r.call_next = bad;
    CHECK(zl_pushdown_new(&r, &m) == ZL_E_BOUNDS, "call");
    r = sums(), memcpy(bad, call_rule, sizeof call_rule), bad[7] = 3, r.call_rule = bad;
    CHECK(zl_pushdown_new(&r, &m) == ZL_E_BOUNDS, "rule");
    r = sums(), one[0] = 1, one[1] = 6, one[2] = 10, r.rule_node = one;
    CHECK(zl_pushdown_new(&r, &m) == ZL_E_BOUNDS, "a rule that begins at its end");
    r = sums(), one[0] = 2, one[1] = 1, one[2] = 2, r.rule_group = one;
    CHECK(zl_pushdown_new(&r, &m) == ZL_E_ARG, "groups descend");
    one[0] = one[1] = 0, one[2] = 1;
    CHECK(zl_pushdown_new(&r, &m) == ZL_OK, "one group of two");
    int64_t n_read;
    int32_t after;
    CHECK(zl_machine_read(m, m->start, (const uint8_t *)"a*a+(a)", 7, &n_read, &after) == ZL_OK && n_read == 7 && m->finished(m, after), "it reads");
    CHECK(zl_machine_read(m, -1, NULL, 0, &n_read, &after) == ZL_E_BOUNDS, "state");
    CHECK(zl_machine_read(m, m->n_states, NULL, 0, &n_read, &after) == ZL_E_BOUNDS, "state");
    CHECK(zl_machine_read(m, 0, NULL, 1, &n_read, &after) == ZL_E_ARG, "null");
    CHECK(zl_machine_limit(m, -1, 0, &n_read, &n_read) == ZL_E_ARG, "limit");
    zl_machine_free(m);
}

/* ---- masks: machines that are tables --------------------------------------------------------------------------------------------- */

enum { STATES = 12, TOKENS = 700, DATA = 1 << 14 };
typedef struct {
    zl_machine base;
    int32_t to[STATES][256];
    uint8_t end[STATES];
} table;

static int32_t step(zl_machine *m, int32_t state, uint8_t byte) { return ((table *)(void *)m)->to[state][byte]; }
static int finished(zl_machine *m, int32_t state) { return ((table *)(void *)m)->end[state]; }
static void release(zl_machine *m) { (void)m; }

static void fill(table *t, int32_t from, int low, int high, int32_t to) {
    for (int b = low; b <= high; b++) t->to[from][b] = to;
}

/* From `from` every character of UTF-8 beyond ASCII leads to `to`, through states u .. u + 2 (bytes that are left). Nearly. */
static void beyond_ascii(table *t, int32_t from, int32_t to, int32_t u) {
    fill(t, from, 0xc2, 0xdf, u), fill(t, u, 0x80, 0xbf, to);
    fill(t, from, 0xe0, 0xef, u + 1), fill(t, u + 1, 0x80, 0xbf, u);
    fill(t, from, 0xf0, 0xf4, u + 2), fill(t, u + 2, 0x80, 0xbf, u + 1);
}

static zl_machine *random_table(void) {
    table *t = calloc(1, sizeof *t);
    if (!t) abort();
    uint8_t classes[256];
    for (int b = 0; b < 256; b++) classes[b] = (uint8_t)b;
    zl_machine_init(&t->base, step, finished, release, below(2) ? classes : NULL, 256);
    t->base.n_states = STATES;
    for (int32_t s = 0; s < STATES; s++) {
        fill(t, s, 0, 255, ZL_DEAD);
        t->end[s] = (uint8_t)below(2);
    }
    for (int32_t s = 0; s < 8; s++) {
        int32_t to = below(3) ? s : (int32_t)below(9) - 1;
        switch (below(6)) {
        case 0: fill(t, s, 0x20, 0x7e, to); break;
        case 1: fill(t, s, 'a', 'z', to); break;
        case 2: fill(t, s, 'a', 'z', to), fill(t, s, 'A', 'Z', to), fill(t, s, '0', '9', to), t->to[s]['_'] = to; break;
        case 3: fill(t, s, 0x20, 0x7f, to), beyond_ascii(t, s, to < 0 ? 0 : to, 8); break;
        case 4: fill(t, s, 0x20, 0x7e, to), beyond_ascii(t, s, to < 0 ? 0 : to, 8), t->to[s]['"'] = (int32_t)below(8); break;
        default:
            for (int b = 0; b < 256; b++) t->to[s][b] = (int32_t)below(9) - 1;
        }
        for (int i = (int)below(3); i > 0; i--) t->to[s][(uint8_t)"abAB1 \"\\\xc3\xdf\xe2"[below(11)]] = (int32_t)below(9) - 1;
    }
    return &t->base;
}

static void test_masks(void) {
    static uint8_t data[DATA];
    static int64_t offsets[TOKENS + 1];
    static uint32_t mask[(TOKENS + 31) / 32];
    static const char *const parts[] = {"a", "b", "z", "A", "B", "1", "_", " ", ".", "\"", "\\", "\n", "\x7f", "\xc3\xa9", "\xe2\x82\xac", "\xed\x9f\xbf",
                                        "\xf0\x9f\x98\x80", "\xc3", "\xa9", "\xe0\x80\x80", "\xff", "\xdf\xbf", "abab", "aaaaaaaaaaaaaaaa"};
    for (int round = 0; round < 40; round++) {
        int64_t at = 0;
        for (int i = 0; i < TOKENS; i++) {
            offsets[i] = at;
            for (int k = (int)below(6); k > 0 && at < DATA - 32; k--) {
                const char *part = parts[below(round % 2 ? 9 : sizeof parts / sizeof *parts)];
                memcpy(data + at, part, strlen(part));
                at += (int64_t)strlen(part);
            }
        }
        offsets[TOKENS] = at;
        int32_t ends[2] = {(int32_t)below(TOKENS), (int32_t)below(TOKENS)};
        zl_vocabulary *v;
        CHECK(zl_vocabulary_new(data, offsets, TOKENS, ends, 2, &v) == ZL_OK, "vocabulary");
        for (int kind = 0; kind < 12; kind++) {
            zl_machine *m = random_table();
            for (int32_t s = 0; s < 8; s++) {
                int64_t n_allowed;
                int32_t one, first = -1, count = 0;
                memset(mask, 0xee, sizeof mask);
                CHECK(zl_vocabulary_mask(v, m, s, mask, &n_allowed, &one) == ZL_OK, "mask");
                for (int32_t i = 0; i < TOKENS; i++) {
                    int64_t n = offsets[i + 1] - offsets[i], n_read = -1;
                    int32_t after;
                    int want = i == ends[0] || i == ends[1] ? ((table *)(void *)m)->end[s] : n > 0;
                    if (want && i != ends[0] && i != ends[1])
                        want = zl_machine_read(m, s, data + offsets[i], n, &n_read, &after) == ZL_OK && n_read == n;
                    CHECK((int)(mask[i >> 5] >> (i & 31) & 1) == want, "round %d machine %d state %d token %d '%.*s'", round, kind, s, i, (int)n,
                          (char *)data + offsets[i]);
                    if (want && first < 0) first = i;
                    count += want;
                }
                CHECK(one == first && n_allowed == (count < 2 ? count : 2), "one %d of %d", one, count);
            }
            zl_machine_free(m);
        }
        zl_vocabulary_free(v);
    }
    zl_vocabulary *v;
    int32_t end = TOKENS;
    CHECK(zl_vocabulary_new(data, offsets, TOKENS, &end, 1, &v) == ZL_E_BOUNDS, "end");
    end = -1;
    CHECK(zl_vocabulary_new(data, offsets, TOKENS, &end, 1, &v) == ZL_E_BOUNDS, "end");
    CHECK(zl_vocabulary_new(data, offsets, 0, NULL, 0, &v) == ZL_E_SHAPE && zl_vocabulary_new(NULL, offsets, 1, NULL, 0, &v) == ZL_E_ARG, "none");
    int64_t descends[3] = {0, 3, 2}, long_[2] = {0, 65536};
    CHECK(zl_vocabulary_new(data, descends, 2, NULL, 0, &v) == ZL_E_BOUNDS, "descends");
    CHECK(zl_vocabulary_new(data, long_, 1, NULL, 0, &v) == ZL_E_BOUNDS, "long");
    zl_vocabulary_free(NULL);
}

/* The bytes of "abc" are forced, then there is a choice; a text may end after the second state. */
static void test_forced(void) {
    table *t = calloc(1, sizeof *t);
    if (!t) abort();
    zl_machine_init(&t->base, step, finished, release, NULL, 256);
    t->base.n_states = STATES;
    for (int32_t s = 0; s < STATES; s++) fill(t, s, 0, 255, ZL_DEAD);
    t->to[0]['a'] = 1, t->to[1][0] = 2, t->to[2][255] = 3, t->to[3]['x'] = t->to[3]['y'] = 4, t->to[4]['z'] = 5, t->to[5]['w'] = 6;
    t->end[5] = 1;
    uint8_t out[8] = {0};
    int64_t n;
    int32_t after;
    CHECK(zl_machine_forced(&t->base, 0, out, 8, &n, &after) == ZL_OK && n == 3 && after == 3 && out[0] == 'a' && !out[1] && out[2] == 255, "three");
    CHECK(zl_machine_forced(&t->base, 0, out, 2, &n, &after) == ZL_OK && n == 2 && after == 2, "room");
    CHECK(zl_machine_forced(&t->base, 4, out, 8, &n, &after) == ZL_OK && n == 1 && after == 5, "up to an end");
    CHECK(zl_machine_forced(&t->base, 5, out, 8, &n, &after) == ZL_OK && n == 0 && after == 5, "none at an end");
    CHECK(zl_machine_forced(&t->base, 6, out, 8, &n, &after) == ZL_OK && n == 0 && after == 6, "none where nothing follows");
    t->base.work_limit = 100; /* of steps that are not kept */
    CHECK(zl_machine_forced(&t->base, 7, out, 8, &n, &after) == ZL_E_BUDGET, "budget");
    int32_t next[256];
    CHECK(zl_machine_next(&t->base, 8, next) == ZL_E_BUDGET, "budget");
    zl_machine_free(&t->base);
}

/* A text between quotes: all that is no quote and no backslash leads back. And letters of which three may follow one another. */
static void test_alike(void) {
    table *t = calloc(1, sizeof *t);
    if (!t) abort();
    zl_machine *m = &t->base;
    zl_machine_init(m, step, finished, release, NULL, 256);
    m->n_states = STATES;
    for (int32_t s = 0; s < STATES; s++) fill(t, s, 0, 255, ZL_DEAD);
    fill(t, 0, 0x20, 0x7e, 0), t->to[0]['"'] = t->to[0]['\\'] = 4;
    fill(t, 0, 0xc2, 0xdf, 8), fill(t, 0, 0xe1, 0xec, 9), fill(t, 0, 0xee, 0xef, 9), fill(t, 0, 0xf1, 0xf3, 10);
    t->to[0][0xe0] = 5, t->to[0][0xed] = 6, t->to[0][0xf0] = 7, t->to[0][0xf4] = 11;
    fill(t, 8, 0x80, 0xbf, 0), fill(t, 9, 0x80, 0xbf, 8), fill(t, 10, 0x80, 0xbf, 9);
    fill(t, 5, 0xa0, 0xbf, 8), fill(t, 6, 0x80, 0x9f, 8), fill(t, 7, 0x90, 0xbf, 9), fill(t, 11, 0x80, 0x8f, 9);
    for (int class = LOWER; class <= TEXT; class++) CHECK(zl_alike_uniform(m, 0, class) == 0, "class %d", class);
    zl_machine_free(m);

    t = calloc(1, sizeof *t);
    if (!t) abort();
    m = &t->base;
    zl_machine_init(m, step, finished, release, NULL, 256);
    m->n_states = STATES;
    for (int32_t s = 0; s < STATES; s++) fill(t, s, 0, 255, ZL_DEAD);
    for (int32_t s = 0; s < 3; s++) fill(t, s, 'a', 'z', s + 1);
    CHECK(zl_alike_closed(m, 0, LOWER, 2) == 1, "two of three letters"); /* ... which says nothing of the states between */
    CHECK(zl_alike_closed(m, 1, LOWER, 3) == 0 && zl_alike_closed(m, 2, LOWER, 3) == 0, "three of two letters, of one");
    zl_machine_free(m);
}

int selftest_grammar(zl_ctx *ctx) {
    (void)ctx;
    test_sums();
    test_twofold();
    test_refused();
    test_masks();
    test_forced();
    test_alike();
    return failures;
}
