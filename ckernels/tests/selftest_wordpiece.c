/* selftest_wordpiece.c - WordPiece against a loop that writes out all letters of a text, puts its marks in order two by two, and looks for a
 * word's tokens among all strings. Tables of forms at random, over a few code points of one to four bytes. */
#include "selftest.h"

static int failures;
static uint64_t seed = 88172645463325252u;
static uint32_t below(uint32_t n) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

enum { MAX_STRINGS = 400, MAX_BYTES = 1 << 16, MAX_TEXT = 3000, PAGES = ZL_CODE_POINTS / 256, SOME_PAGES = 6, UNKNOWN = 9999, BREAK = 0xffffff };
static uint8_t data[MAX_BYTES];
static int64_t offsets[MAX_STRINGS + 1];
static int32_t order[MAX_STRINGS], spare[MAX_STRINGS], first[MAX_BYTES + 1], token[MAX_BYTES];
static uint8_t label[MAX_BYTES];
static uint16_t pages[PAGES];
static uint32_t entries[SOME_PAGES * 256], elements[256];

/* The code points of the texts, and their pages: page 0 is for all others, whose letters stay as they are. */
static const uint32_t codes[] = {'a', 'b', 'c', 'A', 'B', '.', ' ', 0xe9, 0x301, 0x302, 0x303, 0x2581, 0x4e16, 0x1f642};
static const uint8_t page_of_code[] = {1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 4, 5};
enum { CODES = sizeof codes / sizeof codes[0] };

static int64_t spell(uint32_t c, uint8_t *out) { /* UTF-8 by its table */
    if (c < 0x80) return out[0] = (uint8_t)c, 1;
    if (c < 0x800) return out[0] = (uint8_t)(0xc0 + c / 64), out[1] = (uint8_t)(0x80 + c % 64), 2;
    if (c < 0x10000) return out[0] = (uint8_t)(0xe0 + c / 4096), out[1] = (uint8_t)(0x80 + c / 64 % 64), out[2] = (uint8_t)(0x80 + c % 64), 3;
    out[0] = (uint8_t)(0xf0 + c / 262144), out[1] = (uint8_t)(0x80 + c / 4096 % 64), out[2] = (uint8_t)(0x80 + c / 64 % 64), out[3] = (uint8_t)(0x80 + c % 64);
    return 4;
}

static void add(zl_strings *s, const void *text, int64_t n) {
    memcpy(data + s->n_bytes + 8, text, (size_t)n);
    s->n_bytes += 8 + n;
    offsets[++s->n] = s->n_bytes;
}

static zl_trie build(const zl_strings *s) {
    zl_trie t = {.room = MAX_BYTES, .first = first, .label = label, .token = token};
    for (int32_t i = 0; i < s->n; i++) order[i] = i;
    CHECK(zl_trie_build(&t, s, order, s->n, spare) == ZL_OK, "build");
    return t;
}

static uint32_t *entry(int i) { return entries + page_of_code[i] * 256 + (codes[i] & 255); }

/* Tables with something of each kind. `most`: letters that several may be, of those that a code point has bytes for. */
static zl_wordpiece tables(const zl_trie *t) {
    int64_t n = 0;
    memset(pages, 0, sizeof pages), memset(entries, 0, sizeof entries);
    for (int i = 0; i < CODES; i++) pages[codes[i] >> 8] = page_of_code[i];
    for (int i = 0; i < CODES; i++) {
        uint8_t bytes[4];
        const int64_t width = spell(codes[i], bytes);
        const uint32_t kind = i < 3 ? ZL_FORM_SAME : codes[i] == ' ' ? ZL_FORM_SPACE : below(7), value = codes[below(CODES)];
        *entry(i) = kind == ZL_FORM_SEVERAL ? (uint32_t)n << 3 | kind : kind == ZL_FORM_LETTER || kind == ZL_FORM_ALONE_AS ? value << 3 | kind : kind;
        if (kind != ZL_FORM_SEVERAL) continue;
        uint32_t *count = elements + n++;
        *count = 0;
        for (int64_t k = below((uint32_t)width) + 1; k > 0; k--) {
            if (!below(4)) elements[n++] = BREAK, ++*count;
            elements[n++] = codes[below(CODES)] | (below(3) ? below(4) << 24 | (below(9) ? 0 : 0xf0000000u) : 0), ++*count;
        }
    }
    return (zl_wordpiece){.trie = t, .unknown = UNKNOWN, .start = 77, .pages = pages, .n_pages = SOME_PAGES, .entries = entries, .n_elements = n, .elements = elements};
}

static int32_t search(const zl_strings *s, const uint8_t *text, int64_t n) {
    for (int32_t i = (int32_t)s->n - 1; i >= 0; i--)
        if (offsets[i + 1] - offsets[i] - 8 == n && !memcmp(data + offsets[i] + 8, text, (size_t)n)) return i;
    return -1;
}

static int begins_a_word(const uint8_t *text, int64_t n) { return n >= 3 && !memcmp(text, "\xe2\x96\x81", 3); }

/* The ids of a word of letters. */
static int64_t word_slowly(const zl_strings *s, const uint32_t *letters, int64_t n, int32_t *ids) {
    static uint8_t text[4 * ZL_LONGEST_WORD + 3], piece[4 * ZL_LONGEST_WORD + 3];
    int64_t bytes = 0, count = 0;
    if (n > ZL_LONGEST_WORD) return ids[0] = UNKNOWN, 1;
    for (int64_t i = 0; i < n; i++) bytes += spell(letters[i] & BREAK, text + bytes);
    for (int64_t at = 0, end; at < bytes; at = end) {
        int32_t found = -1;
        for (end = bytes; end > at; end--) {
            int64_t length = end - at;
            memcpy(piece, "\xe2\x96\x81", 3);
            memcpy(piece + (at ? 0 : 3), text + at, (size_t)length);
            length += at ? 0 : 3;
            if (at && begins_a_word(piece, length)) continue;
            if ((found = search(s, piece, length)) >= 0) break;
        }
        if (found < 0) return ids[0] = UNKNOWN, 1;
        ids[count++] = found;
    }
    return count;
}

/* The text's letters, then its words. 0: nothing goes on here. Letters between spaces and what is alone are sorted as a whole. */
static int64_t encode_slowly(const zl_strings *s, const zl_wordpiece *w, const int *text, int64_t n, int32_t *ids) {
    static uint32_t letters[4 * MAX_TEXT], kept[4 * MAX_TEXT];
    int64_t m = 0, count = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t kind = *entry(text[i]) & 7, value = *entry(text[i]) >> 3;
        const uint32_t alone = kind == ZL_FORM_ALONE ? codes[text[i]] : value;
        if (kind == ZL_FORM_SAME) letters[m++] = codes[text[i]];
        if (kind == ZL_FORM_LETTER) letters[m++] = value;
        if (kind == ZL_FORM_SPACE) letters[m++] = 0;
        if (kind == ZL_FORM_ALONE || kind == ZL_FORM_ALONE_AS) letters[m++] = 0, letters[m++] = alone, letters[m++] = 0;
        if (kind == ZL_FORM_SEVERAL)
            for (uint32_t k = 1; k <= w->elements[value]; k++) letters[m++] = w->elements[value + k];
    }
    letters[m++] = 0;
    for (int moved = 1; moved;) {
        moved = 0;
        for (int64_t i = 0; i + 1 < m; i++) {
            const uint32_t a = letters[i], b = letters[i + 1];
            if (b >> 24 && a >> 24 > b >> 24) letters[i] = b, letters[i + 1] = a, moved = 1;
        }
    }
    for (int64_t i = 0, length = 0; i < m; i++) {
        if (letters[i] == 0) {
            if (length) count += word_slowly(s, kept, length, ids + count);
            length = 0;
        } else if (letters[i] != BREAK) {
            kept[length++] = letters[i];
        }
    }
    return count;
}

static void test_encode(void) {
    static uint8_t text[4 * MAX_TEXT], piece[64];
    static int points[MAX_TEXT];
    static int32_t ids[4 * MAX_TEXT], want[4 * MAX_TEXT];
    for (int round = 0; round < 400; round++) {
        zl_strings s = {.data = data, .offsets = offsets};
        for (int i = 0; i < CODES; i++) { /* words are made of tokens, most of the time */
            const int64_t n = spell(codes[i], piece);
            if (below(8)) add(&s, piece, n);
            memcpy(piece + 8, "\xe2\x96\x81", 3), memcpy(piece + 11, piece, (size_t)n);
            if (below(8)) add(&s, piece + 8, 3 + n);
        }
        for (int i = (int)below(60); i > 0; i--) {
            int64_t n = below(2) ? spell(0x2581, piece) : 0;
            for (int k = (int)below(4) + 1; k > 0; k--) n += spell(codes[below(CODES)], piece + n);
            add(&s, piece, n);
        }
        const zl_trie t = build(&s);
        zl_wordpiece w = tables(&t);
        CHECK(zl_wordpiece_check(&w) == ZL_OK && w.checked == 1, "check");
        for (int turn = 0; turn < 20; turn++) {
            const int64_t length = below(turn < 15 ? 12 : turn < 19 ? 300 : 1500);
            const uint32_t few = turn % 3 ? CODES : 1 + below(CODES); /* few: long words, and runs of marks */
            const uint32_t from = turn % 3 ? 0 : below(CODES - few + 1);
            int64_t n = 0, n_ids = -1;
            for (int64_t i = 0; i < length; i++) points[i] = (int)(from + below(few)), n += spell(codes[points[i]], text + n);
            const int64_t count = encode_slowly(&s, &w, points, length, want);
            CHECK(zl_wordpiece_encode(&w, text, n, ids, &n_ids) == ZL_OK, "encode");
            CHECK(n_ids == count && !memcmp(ids, want, (size_t)count * sizeof *ids), "round %d turn %d: %lld ids, want %lld", round, turn, (long long)n_ids,
                  (long long)count);
        }
    }
}

/* Words of 99, 100 and 101 letters; a second run that is as long as another; what is no UTF-8. */
static void test_words(void) {
    static uint8_t text[1000];
    static int32_t ids[1000];
    zl_strings s = {.data = data, .offsets = offsets};
    add(&s, "\xe2\x96\x81" "a", 4), add(&s, "a", 1), add(&s, "b", 1), add(&s, "\xef\xbf\xbd", 3), add(&s, "\xe2\x96\x81" "b", 4);
    const zl_trie t = build(&s);
    zl_wordpiece w = tables(&t);
    int64_t n;
    for (int i = 0; i < CODES; i++) *entry(i) = codes[i] == ' ' ? ZL_FORM_SPACE : codes[i] == '.' ? ZL_FORM_ALONE : ZL_FORM_SAME;
    CHECK(zl_wordpiece_check(&w) == ZL_OK, "check");
    memset(text, 'a', sizeof text);
    for (int length = ZL_LONGEST_WORD - 1; length <= ZL_LONGEST_WORD + 1; length++) {
        const int64_t want = length > ZL_LONGEST_WORD ? 1 : length;
        CHECK(zl_wordpiece_encode(&w, text, length, ids, &n) == ZL_OK && n == want && ids[0] == (want == 1 ? UNKNOWN : 0), "%d letters: %lld", length, (long long)n);
    }
    CHECK(zl_wordpiece_encode(&w, (const uint8_t *)"ab aa ab bb.ab", 14, ids, &n) == ZL_OK && n == 11 && ids[0] == 0 && ids[1] == 2 && ids[3] == 1 && ids[5] == 2 &&
              ids[6] == 4 && ids[8] == UNKNOWN && ids[10] == 2, "words again");
    CHECK(zl_wordpiece_encode(&w, (const uint8_t *)"a\xff" "b", 3, ids, &n) == ZL_OK && n == 3 && ids[1] == 3 && ids[2] == 2, "a byte that is no UTF-8");
    CHECK(zl_wordpiece_encode(&w, NULL, 0, NULL, &n) == ZL_OK && n == 0, "nothing");
    for (int k = 0; k < 2; k++) { /* no token begins a word: every word is unknown */
        zl_strings none = {.data = data, .offsets = offsets};
        add(&none, k ? "\xe2\x96" : "a", k ? 2 : 1);
        const zl_trie bare = build(&none);
        w.trie = &bare;
        CHECK(zl_wordpiece_check(&w) == ZL_OK && w.start == -1, "no start");
        CHECK(zl_wordpiece_encode(&w, (const uint8_t *)"a .a", 4, ids, &n) == ZL_OK && n == 3 && ids[0] == UNKNOWN && ids[1] == UNKNOWN && ids[2] == UNKNOWN, "unknown");
    }
}

static int refused(zl_wordpiece w, uint32_t value, const char *why) { /* of U+00E9, which has two bytes */
    const uint32_t kept = *entry(7);
    *entry(7) = value;
    w.checked = 1;
    const int status = zl_wordpiece_check(&w);
    *entry(7) = kept;
    return status == ZL_E_BOUNDS && w.checked == 0 && strstr(zl_error(), why);
}

static void test_errors(void) {
    int32_t id[4];
    int64_t n;
    zl_strings s = {.data = data, .offsets = offsets};
    add(&s, "a", 1);
    const zl_trie t = build(&s);
    zl_trie unbuilt = t;
    zl_wordpiece w = tables(&t), bad = w;
    const uint8_t *text = (const uint8_t *)"a";
    CHECK(zl_wordpiece_encode(&w, text, 1, id, &n) == ZL_E_ARG, "not checked");
    CHECK(zl_wordpiece_check(&w) == ZL_OK && zl_wordpiece_check(NULL) == ZL_E_ARG, "check");
    CHECK(zl_wordpiece_encode(NULL, text, 1, id, &n) == ZL_E_ARG && zl_wordpiece_encode(&w, NULL, 1, id, &n) == ZL_E_ARG &&
              zl_wordpiece_encode(&w, text, 1, NULL, &n) == ZL_E_ARG && zl_wordpiece_encode(&w, text, 1, id, NULL) == ZL_E_ARG, "null");
    CHECK(zl_wordpiece_encode(&w, text, -1, id, &n) == ZL_E_SHAPE && zl_wordpiece_encode(&w, text, INT32_MAX, id, &n) == ZL_E_SHAPE, "length");
    unbuilt.n = 0;
    bad = w, bad.trie = &unbuilt;
    CHECK(zl_wordpiece_check(&bad) == ZL_E_ARG && bad.checked == 0, "a trie that is not built");
    bad = w, bad.pages = NULL;
    CHECK(zl_wordpiece_check(&bad) == ZL_E_ARG, "no pages");
    bad = w, bad.entries = NULL;
    CHECK(zl_wordpiece_check(&bad) == ZL_E_ARG, "no entries");
    bad = w, bad.n_elements = 1, bad.elements = NULL;
    CHECK(zl_wordpiece_check(&bad) == ZL_E_ARG, "no elements");
    bad = w, bad.n_pages = 0;
    CHECK(zl_wordpiece_check(&bad) == ZL_E_SHAPE, "no page");
    bad = w, bad.n_elements = -1;
    CHECK(zl_wordpiece_check(&bad) == ZL_E_SHAPE, "fewer than no elements");
    bad = w, bad.n_pages = 5;
    CHECK(zl_wordpiece_check(&bad) == ZL_E_BOUNDS && strstr(zl_error(), "page 5 of 5"), "a page outside");
    elements[0] = 2, elements[1] = 'a', elements[2] = 'b' | 5u << 24, elements[3] = 0;
    w.n_elements = 4;
    for (int i = 0; i < CODES; i++) *entry(i) = ZL_FORM_SAME;
    CHECK(refused(w, 7, "kind 7"), "no kind");
    CHECK(refused(w, ZL_CODE_POINTS << 3 | ZL_FORM_LETTER, "becomes 1114112") && refused(w, ZL_CODE_POINTS << 3 | ZL_FORM_ALONE_AS, "becomes 1114112"), "no letter");
    CHECK(refused(w, 4 << 3 | ZL_FORM_SEVERAL, "element 4 of 4"), "an element outside");
    CHECK(refused(w, (1u << 28) << 3 | ZL_FORM_SEVERAL, "element 268435456 of 4"), "far outside");
    bad = w, bad.n_elements = 2;
    CHECK(refused(bad, ZL_FORM_SEVERAL, "element 0 of 2"), "letters outside");
    elements[2] = ZL_CODE_POINTS | 5u << 24;
    CHECK(refused(w, ZL_FORM_SEVERAL, "becomes 1114112"), "no code point");
    elements[0] = 3, elements[2] = BREAK, elements[3] = 'b';
    *entry(7) = ZL_FORM_SEVERAL;
    CHECK(zl_wordpiece_check(&w) == ZL_OK, "two letters");
    elements[2] = 'c';
    CHECK(refused(w, ZL_FORM_SEVERAL, "has 2 bytes and becomes 3 letters"), "more letters than bytes");
    *entry(7) = ZL_FORM_LETTER | (ZL_CODE_POINTS - 1) << 3;
    CHECK(zl_wordpiece_check(&w) == ZL_OK, "the last code point");
}

int selftest_wordpiece(zl_ctx *ctx) {
    (void)ctx;
    failures = 0;
    test_encode();
    test_words();
    test_errors();
    return failures;
}
