/* selftest_unigram.c - the trie against a search through all strings, Viterbi against a table that tries every string at every byte,
 * normalisation against cases written out. Random words over two letters and one of two bytes, with scores that tie. */
#include "selftest.h"
#include <math.h>

static int failures;
static uint64_t seed = 88172645463325252u;
static uint32_t below(uint32_t n) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

enum { MAX_STRINGS = 400, MAX_BYTES = 1 << 16, MAX_TEXT = 3000 };
static uint8_t data[MAX_BYTES];
static int64_t offsets[MAX_STRINGS + 1];
static int32_t order[MAX_STRINGS], spare[MAX_STRINGS], first[MAX_BYTES + 1], token[MAX_BYTES];
static uint8_t label[MAX_BYTES];
static float scores[MAX_STRINGS];
static int32_t byte_ids[256];

static void add(zl_strings *s, const void *text, int64_t n) {
    memset(data + s->n_bytes, 0xee, 8); /* where a file has the length: nobody reads it */
    memcpy(data + s->n_bytes + 8, text, (size_t)n);
    s->n_bytes += 8 + n;
    offsets[++s->n] = s->n_bytes;
}

static zl_strings start(void) {
    zl_strings s = {.data = data, .offsets = offsets};
    offsets[0] = 0;
    return s;
}

static zl_trie empty_trie(int64_t room) { return (zl_trie){.room = room, .first = first, .label = label, .token = token}; }

/* The trie of all strings but every seventh. */
static zl_trie build(const zl_strings *s, int64_t *n) {
    zl_trie t = empty_trie(MAX_BYTES);
    *n = 0;
    for (int32_t i = 0; i < s->n; i++)
        if (i % 7 != 6) order[(*n)++] = i;
    CHECK(zl_trie_build(&t, s, order, *n, spare) == ZL_OK, "build");
    return t;
}

static int32_t search(const zl_strings *s, const uint8_t *text, int64_t n) {
    for (int32_t i = (int32_t)s->n - 1; i >= 0; i--)
        if (i % 7 != 6 && offsets[i + 1] - offsets[i] - 8 == n && !memcmp(data + offsets[i] + 8, text, (size_t)n)) return i;
    return -1;
}

/* Characters: letters of one byte, and of two, three, four bytes now and then. */
static int64_t random_text(uint8_t *text, int64_t most, uint32_t letters) {
    static const char *wide[] = {"\xc3\xa9", "\xe2\x96\x81", "\xf0\x9f\x99\x82", "\xc3\xa8"};
    int64_t n = 0;
    for (int64_t i = below((uint32_t)most + 1); i > 0; i--) {
        const char *c = wide[below(4)];
        if (below(4)) text[n++] = (uint8_t)('a' + below(letters));
        else memcpy(text + n, c, strlen(c)), n += (int64_t)strlen(c);
    }
    return n;
}

static int64_t width(uint8_t byte) { return byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4; }

static int64_t encode_slowly(const zl_unigram *u, const uint8_t *text, int64_t n, int32_t *ids, int32_t *ends) {
    static double best[MAX_TEXT + 1];
    static int32_t last[MAX_TEXT + 1], from[MAX_TEXT + 1];
    uint8_t is_length[ZL_LONGEST_PIECE + 1] = {0};
    for (int64_t i = 0; i < u->strings->n; i++) is_length[offsets[i + 1] - offsets[i] - 8] = 1;
    for (int64_t i = 0; i <= n; i++) best[i] = i ? -HUGE_VAL : 0;
    for (int64_t p = 0; p < n; p += width(text[p])) {
        const int64_t w = width(text[p]);
        for (int64_t q = p + 1; q <= n && q <= p + ZL_LONGEST_PIECE; q++) {
            if (!is_length[q - p] && q != p + w) continue;
            int32_t i = search(u->strings, text + p, q - p);
            if (i < 0 && q != p + w) continue;
            double score = best[p] + (i < 0 ? u->unknown_score : u->scores[i]);
            if (score > best[q]) best[q] = score, last[q] = i, from[q] = (int32_t)p;
        }
    }
    int64_t count = 0;
    for (int64_t q = n; q > 0; q = from[q]) { /* backwards, to be turned round */
        if (last[q] < 0 && u->byte_ids) {
            for (int64_t b = q - 1; b >= from[q]; b--) ids[count] = u->byte_ids[text[b]], ends[count++] = (int32_t)b + 1;
        } else if (last[q] >= 0 || !count || ids[count - 1] != u->unknown_id) {
            ids[count] = last[q] < 0 ? u->unknown_id : last[q], ends[count++] = (int32_t)q;
        }
    }
    for (int64_t i = 0, j = count - 1; i < j; i++, j--) {
        int32_t id = ids[i], end = ends[i];
        ids[i] = ids[j], ends[i] = ends[j], ids[j] = id, ends[j] = end;
    }
    return count;
}

static void test_encode(void) {
    static uint8_t text[MAX_TEXT], piece[64];
    static int32_t ids[MAX_TEXT], ends[MAX_TEXT], bare[MAX_TEXT], want[MAX_TEXT], want_ends[MAX_TEXT];
    for (int i = 0; i < 256; i++) byte_ids[i] = 5000 + i;
    for (int round = 0; round < 200; round++) {
        zl_strings s = start();
        const uint32_t letters = round % 5 == 4 ? 20 : 2; /* a node with many children is searched in another way */
        for (int i = (int)below(round % 3 ? 40 : 200); i > 0; i--) {
            int64_t n;
            while (!(n = random_text(piece, round % 4 ? 3 : 9, letters))) {}
            scores[s.n] = -(float)below(6) / 2;
            add(&s, piece, n);
        }
        int64_t n_pieces, n_ids, n_bare;
        zl_trie t = build(&s, &n_pieces);
        zl_unigram u = {&t, &s, scores, -7, 9999, round % 2 ? byte_ids : NULL};
        for (int word = 0; word < 10; word++) {
            int64_t n = random_text(text, word < 8 ? 20 : 150, letters + word % 2); /* the last letter is never a piece */
            int64_t count = encode_slowly(&u, text, n, want, want_ends);
            CHECK(zl_unigram_encode(&u, text, n, ids, ends, &n_ids) == ZL_OK && zl_unigram_encode(&u, text, n, bare, NULL, &n_bare) == ZL_OK, "encode");
            CHECK(n_ids == count && !memcmp(ids, want, (size_t)count * sizeof *ids), "round %d word %d: %lld ids, want %lld", round, word,
                  (long long)n_ids, (long long)count);
            CHECK(n_bare == count && !memcmp(bare, want, (size_t)count * sizeof *bare), "the same without ends");
            CHECK(!memcmp(ends, want_ends, (size_t)count * sizeof *ends), "round %d word %d: ends", round, word);
        }
    }
    /* two unknown characters, chosen before a piece that is worse: one token */
    zl_strings two = start();
    int64_t n_two, n_found;
    scores[0] = -100, add(&two, "xy", 2);
    zl_trie narrow = build(&two, &n_two);
    zl_unigram poor = {&narrow, &two, scores, -7, 9999, NULL};
    CHECK(zl_unigram_encode(&poor, (const uint8_t *)"xy", 2, ids, ends, &n_found) == ZL_OK && n_found == 1 && ids[0] == 9999 && ends[0] == 2, "a run of two");
    /* many children of one node; and the longest piece that may be, so that scores go round the ring */
    zl_strings s = start();
    for (int i = 0; i < 128; i++) scores[s.n] = -1 - (float)(i % 3), add(&s, (uint8_t[]){(uint8_t)i, (uint8_t)(127 - i)}, 1 + i % 2);
    memset(text, 'x', sizeof text);
    scores[s.n] = -2, add(&s, text, ZL_LONGEST_PIECE);
    int64_t n_pieces, n_ids;
    zl_trie t = build(&s, &n_pieces);
    zl_unigram u = {&t, &s, scores, -7, 9999, NULL};
    for (int64_t n = ZL_LONGEST_PIECE - 1; n < MAX_TEXT; n += 973) {
        for (int64_t i = 0; i < n; i++) text[i] = i % 2 ? (uint8_t)below(128) : 'x';
        memset(text + n / 4, 'x', (size_t)(n - n / 4));
        int64_t count = encode_slowly(&u, text, n, want, want_ends);
        CHECK(zl_unigram_encode(&u, text, n, ids, ends, &n_ids) == ZL_OK && n_ids == count && !memcmp(ids, want, (size_t)count * sizeof *ids) &&
                  !memcmp(ends, want_ends, (size_t)count * sizeof *ends), "%lld bytes: %lld ids, want %lld", (long long)n, (long long)n_ids, (long long)count);
    }
}

/* A double array with the keys "b" -> "  x" and "bc" -> "" and U+00E9 -> "e": bases chosen so that children do not collide. */
static uint32_t units[1024];
static const uint8_t replacements[] = "  x\0\0e";
static uint32_t unit(uint32_t at, uint32_t base, uint32_t byte, int leaf) { return (at ^ base) << 10 | (leaf ? 256u : 0) | byte; }

static zl_charsmap make_map(int flags) {
    memset(units, 0xff, sizeof units); /* no label is 0xff with the highest bit */
    units[0] = unit(0, 256, 0, 0);
    units[256 ^ 'b'] = unit(256 ^ 'b', 512, 'b', 1), units[512] = 0x80000000u | 0; /* "b" is a leaf: its value is at its base */
    units[512 ^ 'c'] = unit(512 ^ 'c', 300, 'c', 1), units[300] = 0x80000000u | 4;
    units[256 ^ 0xc3] = 3u << 10 | 512 | 0xc3; /* a wide offset, in steps of 256: the base is node ^ 0x300 */
    units[256 ^ 0xc3 ^ 0x300 ^ 0xa9] = unit(256 ^ 0xc3 ^ 0x300 ^ 0xa9, 1000, 0xa9, 1), units[1000] = 0x80000000u | 5;
    return (zl_charsmap){1024, units, sizeof replacements, replacements, NULL, flags};
}

static void one(const zl_charsmap *m, const char *text, const char *want, const char *origins) {
    static uint8_t out[256];
    static int32_t origin[257];
    int64_t room, n = -1;
    CHECK(zl_normalize(m, (const uint8_t *)text, (int64_t)strlen(text), NULL, NULL, &room) == ZL_OK, "room");
    memset(out, 0xee, sizeof out);
    CHECK(zl_normalize(m, (const uint8_t *)text, (int64_t)strlen(text), out, origin, &n) == ZL_OK, "normalize");
    CHECK(n == (int64_t)strlen(want) && !memcmp(out, want, (size_t)n), "'%s': '%.*s', want '%s'", text, (int)n, (const char *)out, want);
    CHECK(room >= n && out[room] == 0xee, "'%s': room %lld", text, (long long)room);
    for (int64_t i = 0; i <= n; i++) CHECK(origin[i] == origins[i] - '0', "'%s': byte %lld is from %d", text, (long long)i, origin[i]);
    CHECK(zl_normalize(m, (const uint8_t *)text, (int64_t)strlen(text), out, NULL, &n) == ZL_OK && n == (int64_t)strlen(want), "without origins");
}

static void test_normalize(void) {
    enum { P = ZL_SPACES_PREFIX, M = ZL_SPACES_MERGE, E = ZL_SPACES_ESCAPE };
    zl_charsmap m = make_map(0);
    one(&m, "", "", "0");
    one(&m, " a  d ", " a  d ", "0123456");
    one(&m, "abd", "a  xd", "011123");
    one(&m, "abcd", "ad", "034");
    one(&m, "\xc3\xa9" "a\xc3", "ea\xc3", "0234");
    one(&m, "\xc3\xa8\xe2\x96\x81", "\xc3\xa8\xe2\x96\x81", "012345");
    m.flags = P;
    one(&m, "a", " a", "001"), one(&m, "", "", "0"), one(&m, " ", "  ", "001"), one(&m, "bc", " ", "02");
    m.flags = M;
    one(&m, "  a   d  ", "a d", "2367"), one(&m, "   ", "", "3"), one(&m, " ab b", "a  x x", "1222345"), one(&m, " b", "x", "12");
    one(&m, "a bc d", "a d", "0156"); /* what becomes nothing leaves a space before it */
    one(&m, "a \xe2\x96\x81", "a \xe2\x96\x81", "012345"); /* not a space where spaces are not escaped */
    m.flags = P | M;
    one(&m, "  a ", " a", "223"), one(&m, "  ", "", "2"), one(&m, "bc", "", "0"), one(&m, "bc ", "", "0");
    m.flags = P | M | E;
    one(&m, " a  d ", "\xe2\x96\x81" "a\xe2\x96\x81" "d", "111122245");
    one(&m, "a\xe2\x96\x81 \xe2\x96\x81", "\xe2\x96\x81" "a", "00001");
    one(&m, "\xe2\x96\x81" "a", "\xe2\x96\x81\xe2\x96\x81" "a", "00001234");
    m.flags = M | E;
    one(&m, "\xe2\x96", "\xe2\x96", "012");
    /* a value is no child, though its low bits are those of a leaf by the byte 0 */
    static uint8_t far[300] = {[256] = 'y'}, nul[] = {'b', 0}, out[8];
    int64_t n = -1;
    m.flags = 0, m.replacements = far, m.n_replacements = sizeof far, units[512] = 0x80000000u | 256;
    CHECK(zl_normalize(&m, nul, 2, out, NULL, &n) == ZL_OK && n == 2 && out[0] == 'y' && out[1] == 0, "%lld bytes", (long long)n);
    m = make_map(M | E);
    /* pieces that are kept go before the map; the longest of them */
    zl_strings s = start();
    add(&s, "b", 1), add(&s, "b  ", 3), add(&s, " ", 1);
    order[0] = 0, order[1] = 1;
    zl_trie t = empty_trie(16);
    CHECK(zl_trie_build(&t, &s, order, 2, spare) == ZL_OK && t.n == 4, "kept");
    m.kept = &t;
    one(&m, "ab   d", "ab\xe2\x96\x81\xe2\x96\x81" "d", "0122233356");
    one(&m, "b \xc3\xa9", "b\xe2\x96\x81" "e", "011124");
}

/* Strings by the rule itself: the longest first, of one length the lowest number, each from left to right in what is not taken. */
static int64_t specials_slowly(const zl_strings *s, const uint8_t *text, int64_t n, int32_t *cuts) {
    static int32_t begins[MAX_TEXT], numbers[MAX_TEXT]; /* of the string that a byte is taken by, -1 */
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) begins[i] = -1;
    for (int64_t length = 64; length > 0; length--)
        for (int32_t k = 0; k < s->n; k++) {
            if (k % 7 == 6 || offsets[k + 1] - offsets[k] - 8 != length || search(s, data + offsets[k] + 8, length) != k) continue;
            for (int64_t i = 0; i + length <= n; i++) {
                int free_ = !memcmp(text + i, data + offsets[k] + 8, (size_t)length);
                for (int64_t j = i; j < i + length && free_; j++) free_ = begins[j] < 0;
                for (int64_t j = i; j < i + length && free_; j++) begins[j] = (int32_t)i, numbers[j] = k;
            }
        }
    for (int64_t i = 0; i < n; i++) {
        if (begins[i] != i) continue;
        const int64_t length = offsets[numbers[i] + 1] - offsets[numbers[i]] - 8;
        cuts[3 * count] = (int32_t)i, cuts[3 * count + 1] = (int32_t)(i + length), cuts[3 * count++ + 2] = numbers[i];
    }
    return count;
}

static void test_specials(void) {
    static uint8_t text[MAX_TEXT], piece[64];
    static int32_t cuts[3 * MAX_TEXT], want[3 * MAX_TEXT];
    int64_t seen = 0;
    for (int round = 0; round < 300; round++) {
        zl_strings s = start();
        const uint32_t letters = round % 5 == 4 ? 20 : 1 + (uint32_t)round % 3;
        for (int i = 1 + (int)below(round % 3 ? 8 : 40); i > 0; i--) {
            int64_t n;
            while (!(n = random_text(piece, round % 4 ? 3 : 9, letters))) {}
            add(&s, piece, n);
        }
        int64_t n_pieces, n;
        const zl_trie t = build(&s, &n_pieces);
        for (int turn = 0; turn < 20; turn++) {
            const int64_t length = random_text(text, turn < 18 ? 30 : 600, letters + (uint32_t)turn % 2);
            const int64_t count = specials_slowly(&s, text, length, want);
            CHECK(zl_specials_find(&t, text, length, cuts, &n) == ZL_OK && n == count && !memcmp(cuts, want, (size_t)count * 3 * sizeof *cuts),
                  "round %d turn %d: %lld cuts, want %lld", round, turn, (long long)n, (long long)count);
            seen += count;
        }
    }
    CHECK(seen > 1000, "%lld", (long long)seen);
    int64_t n, n_pieces;
    zl_strings s = start();
    add(&s, "a", 1);
    const zl_trie t = build(&s, &n_pieces);
    zl_trie unbuilt = t;
    unbuilt.n = 0;
    CHECK(zl_specials_find(&t, NULL, 1, cuts, &n) == ZL_E_ARG && zl_specials_find(&t, text, 1, NULL, &n) == ZL_E_ARG && zl_specials_find(&t, text, 1, cuts, NULL) == ZL_E_ARG &&
              zl_specials_find(&unbuilt, text, 1, cuts, &n) == ZL_E_ARG, "null");
    CHECK(zl_specials_find(&t, text, -1, cuts, &n) == ZL_E_SHAPE && zl_specials_find(&t, text, INT32_MAX, cuts, &n) == ZL_E_SHAPE, "length");
    CHECK(zl_specials_find(&t, NULL, 0, NULL, &n) == ZL_OK && n == 0, "nothing");
}

static void test_errors(void) {
    uint8_t long_piece[ZL_LONGEST_PIECE + 1] = {0};
    int32_t ids[4], ends[4];
    int64_t n;
    zl_strings s = start();
    add(&s, "ab", 2), add(&s, "", 0), add(&s, long_piece, sizeof long_piece);
    zl_trie t = empty_trie(4);
    order[0] = 0, order[1] = 1;
    CHECK(zl_trie_build(&t, &s, order, 2, NULL) == ZL_E_ARG && zl_trie_build(&t, NULL, order, 2, spare) == ZL_E_ARG, "null");
    CHECK(zl_trie_build(&t, &s, order, -1, spare) == ZL_E_SHAPE, "fewer than no pieces");
    t.room = 2;
    CHECK(zl_trie_build(&t, &s, order, 2, spare) == ZL_E_SHAPE && strstr(zl_error(), "room for 2 nodes, 3"), "room");
    t.room = 3;
    CHECK(zl_trie_build(&t, &s, order, 2, spare) == ZL_OK && t.n == 3 && token[0] == 1 && token[2] == 0 && first[3] == 3, "just enough room");
    order[0] = 3;
    CHECK(zl_trie_build(&t, &s, order, 1, spare) == ZL_E_BOUNDS && strstr(zl_error(), "piece 3 of 3"), "no such string");
    order[0] = -1;
    CHECK(zl_trie_build(&t, &s, order, 1, spare) == ZL_E_BOUNDS, "a negative string");
    order[0] = 2, t.room = 4000;
    CHECK(zl_trie_build(&t, &s, order, 1, spare) == ZL_E_SHAPE && strstr(zl_error(), "1025 bytes"), "a long piece");
    static const int64_t hostile[][2] = {{0, 7}, {-1, 10}, {30, 10}, {0, INT64_MAX}, {8, 0}};
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        zl_strings bad = s;
        bad.offsets = hostile[i], bad.n = 1, order[0] = 0;
        CHECK(zl_trie_build(&t, &bad, order, 1, spare) == ZL_E_BOUNDS, "hostile offsets %zu", i);
    }
    order[0] = 0;
    CHECK(zl_trie_build(&t, &s, order, 1, spare) == ZL_OK, "build");
    zl_unigram u = {&t, &s, scores, -7, 9, NULL}, none = u;
    const uint8_t *text = (const uint8_t *)"ab";
    none.scores = NULL;
    CHECK(zl_unigram_encode(&none, text, 2, ids, ends, &n) == ZL_E_ARG && zl_unigram_encode(&u, NULL, 2, ids, ends, &n) == ZL_E_ARG, "null");
    CHECK(zl_unigram_encode(&u, text, -1, ids, ends, &n) == ZL_E_SHAPE && zl_unigram_encode(&u, text, INT32_MAX, ids, ends, &n) == ZL_E_SHAPE, "sizes");
    CHECK(zl_unigram_encode(&u, text, 0, NULL, NULL, &n) == ZL_OK && n == 0, "nothing");
    zl_trie unbuilt = empty_trie(4);
    none = u, none.trie = &unbuilt;
    CHECK(zl_unigram_encode(&none, text, 2, ids, ends, &n) == ZL_E_ARG, "a trie that is not built");
    zl_charsmap m = make_map(0), bad = m;
    CHECK(zl_normalize(&m, NULL, 1, NULL, NULL, &n) == ZL_E_ARG && zl_normalize(&m, text, -1, NULL, NULL, &n) == ZL_E_SHAPE, "no text");
    bad.n_units = 512; /* the root's children are in, those of b are not */
    CHECK(zl_normalize(&bad, text, 2, NULL, NULL, &n) == ZL_E_BOUNDS && strstr(zl_error(), "byte 1 of a text"), "outside the units");
    CHECK(zl_normalize(&bad, text, 1, NULL, NULL, &n) == ZL_OK, "not met");
    bad = m, bad.n_replacements = 3;
    CHECK(zl_normalize(&bad, text + 1, 1, NULL, NULL, &n) == ZL_E_BOUNDS && strstr(zl_error(), "does not end"), "a text that does not end");
    bad.n_replacements = 0;
    CHECK(zl_normalize(&bad, text + 1, 1, NULL, NULL, &n) == ZL_E_BOUNDS, "no texts");
    /* a key that goes in a circle, and a replacement of the most bytes that may be */
    static uint8_t run[ZL_LONGEST_PIECE + 2], flood[ZL_LONGEST_PIECE + 2];
    memset(run, 'r', sizeof run), memset(flood, 'f', ZL_LONGEST_PIECE), memset(flood + ZL_LONGEST_PIECE, 0, 2);
    units[256 ^ 'r'] = (uint32_t)'r' << 10 | 'r';
    CHECK(zl_normalize(&m, run, ZL_LONGEST_PIECE, NULL, NULL, &n) == ZL_OK && n == ZL_LONGEST_PIECE, "a long key");
    CHECK(zl_normalize(&m, run, ZL_LONGEST_PIECE + 1, NULL, NULL, &n) == ZL_E_BOUNDS && strstr(zl_error(), "byte 0 of a text"), "a circle");
    bad = m, bad.replacements = flood, bad.n_replacements = sizeof flood;
    CHECK(zl_normalize(&bad, text + 1, 1, NULL, NULL, &n) == ZL_OK && n == ZL_LONGEST_PIECE, "a long replacement");
    flood[ZL_LONGEST_PIECE] = 'f';
    CHECK(zl_normalize(&bad, text + 1, 1, NULL, NULL, &n) == ZL_E_BOUNDS && strstr(zl_error(), "does not end"), "a longer one");
    bad = m, bad.kept = &unbuilt;
    CHECK(zl_normalize(&bad, text, 2, NULL, NULL, &n) == ZL_E_ARG, "kept pieces that are not built");
}

int selftest_unigram(zl_ctx *ctx) {
    (void)ctx;
    failures = 0;
    test_encode();
    test_normalize();
    test_specials();
    test_errors();
    return failures;
}
