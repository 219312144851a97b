/* selftest_strings.c - the index of strings against a search through all of them, merging against a loop that looks at every pair again
 * after each join, the ids of a text cut into words against those of a text that is one. Random words over two or three letters, so that
 * pairs repeat, are refused and collide. */
#include "selftest.h"
#include <stdlib.h>

static int failures;
static uint64_t seed = 88172645463325252u;
static uint32_t below(uint32_t n) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

enum { MAX_STRINGS = 600, MAX_BYTES = 1 << 16, MAX_WORD = 3000 };
static uint8_t data[MAX_BYTES];
static int64_t offsets[MAX_STRINGS + 1];
static int32_t slots[2048];
static uint32_t ranks[MAX_STRINGS];

static void add(zl_strings *s, const void *text, int64_t n) {
    memset(data + s->n_bytes, 0xee, 8); /* where a file has the length: nobody reads it */
    memcpy(data + s->n_bytes + 8, text, (size_t)n);
    s->n_bytes += 8 + n;
    offsets[++s->n] = s->n_bytes;
}

static zl_strings start(void) {
    zl_strings s = {.data = data, .offsets = offsets, .slots = slots, .key = {below(1000), below(1000)}};
    offsets[0] = 0;
    return s;
}

static void finish(zl_strings *s, int last) {
    for (s->n_slots = 1; s->n_slots <= s->n;) s->n_slots *= 2; /* as full as may be */
    CHECK(zl_strings_build(s, last) == ZL_OK, "build");
}

static int32_t search(const zl_strings *s, const uint8_t *text, int64_t n, int last) {
    int32_t found = -1;
    for (int64_t i = 0; i < s->n && (found < 0 || last); i++)
        if (offsets[i + 1] - offsets[i] - 8 == n && !memcmp(data + offsets[i] + 8, text, (size_t)n)) found = (int32_t)i;
    return found;
}

static int64_t random_text(uint8_t *text, int64_t most, int letters) {
    int64_t n = below((uint32_t)most + 1);
    for (int64_t i = 0; i < n; i++) text[i] = (uint8_t)('a' + below((uint32_t)letters));
    return n;
}

static void test_index(void) {
    uint8_t text[64];
    for (int round = 0; round < 60; round++) {
        zl_strings s = start();
        for (int i = (int)below(MAX_STRINGS); i > 0; i--) add(&s, text, random_text(text, round % 2 ? 6 : 40, 2));
        const int last = round & 1;
        finish(&s, last);
        for (int i = 0; i < 300; i++) {
            int64_t n = random_text(text, 45, 2);
            if (i < s.n) n = offsets[i + 1] - offsets[i] - 8, memcpy(text, data + offsets[i] + 8, (size_t)n);
            int32_t found[3], ends[3] = {(int32_t)(n / 2), (int32_t)(n / 2), (int32_t)n};
            CHECK(zl_strings_find(&s, text, n, ends, 3, found) == ZL_OK, "find");
            CHECK(found[0] == search(&s, text, n / 2, last) && found[1] == search(&s, text, 0, last) &&
                      found[2] == search(&s, text + n / 2, n - n / 2, last), "round %d, text %d", round, i);
            ends[0] = (int32_t)n;
            CHECK(zl_strings_find(&s, text, n, ends, 1, found) == ZL_OK && found[0] == search(&s, text, n, last), "whole");
        }
    }
}

static int64_t merge_slowly(const zl_strings *s, const uint32_t *by, int separator, const uint8_t *text, int64_t n, int32_t *ends) {
    static uint8_t pair[MAX_WORD + 1];
    int64_t count = 0;
    for (int64_t i = 1; i <= n; i++)
        if (i == n || (text[i] & 0xc0) != 0x80) ends[count++] = (int32_t)i;
    for (;;) {
        int64_t at = -1;
        uint32_t best = UINT32_MAX;
        for (int64_t i = 0; i + 1 < count; i++) {
            int64_t begin = i ? ends[i - 1] : 0, a = ends[i] - begin, b = ends[i + 1] - ends[i], m = a;
            memcpy(pair, text + begin, (size_t)a);
            if (separator >= 0) pair[m++] = (uint8_t)separator;
            memcpy(pair + m, text + ends[i], (size_t)b);
            int32_t found = search(s, pair, m + b, 0);
            uint32_t rank = found < 0 || !by ? (uint32_t)found : by[found];
            if (rank < best) best = rank, at = i;
        }
        if (at < 0) return count;
        memmove(ends + at, ends + at + 1, (size_t)(count-- - at - 1) * sizeof *ends);
    }
}

/* A text with spaces for U+2581 is looked up and merged as the one that spells them out. */
static void test_spaces(void) {
    static uint8_t text[MAX_WORD], spelt[3 * MAX_WORD];
    static int32_t ends[3 * MAX_WORD], want[3 * MAX_WORD];
    for (int round = 0; round < 100; round++) {
        zl_strings s = start();
        for (int i = (int)below(60); i > 0; i--) {
            int64_t n = 0;
            for (int k = 1 + (int)below(5); k > 0; k--) {
                if (below(2)) memcpy(spelt + n, "\xe2\x96\x81", 3), n += 3;
                else spelt[n++] = (uint8_t)('a' + below(2));
            }
            add(&s, spelt, n);
        }
        finish(&s, 0);
        zl_strings spaced = s;
        spaced.spaces = 1;
        for (int word = 0; word < 20; word++) {
            const int64_t n = random_text(text, word ? 12 : MAX_WORD, 2);
            int64_t m = 0, n_want, n_ends;
            for (int64_t i = 0; i < n; i++) {
                if (below(2)) text[i] = ' ';
                if (text[i] != ' ') spelt[m++] = text[i];
                else memcpy(spelt + m, "\xe2\x96\x81", 3), m += 3;
            }
            int32_t found, same, end = (int32_t)n, spelt_end = (int32_t)m;
            CHECK(zl_strings_find(&spaced, text, n, &end, 1, &found) == ZL_OK && zl_strings_find(&s, spelt, m, &spelt_end, 1, &same) == ZL_OK &&
                      found == same, "round %d word %d: string %d, want %d", round, word, found, same);
            CHECK(zl_merge(&spaced, NULL, -1, text, n, ends, &n_ends) == ZL_OK && zl_merge(&s, NULL, -1, spelt, m, want, &n_want) == ZL_OK, "merge");
            CHECK(n_ends == n_want, "round %d word %d: %lld symbols, want %lld", round, word, (long long)n_ends, (long long)n_want);
            for (int64_t i = 0, k = 0, at = 0; k < n_ends && n_ends == n_want; k++) {
                for (; i < ends[k]; i++) at += text[i] == ' ' ? 3 : 1;
                CHECK(at == want[k], "round %d word %d: symbol %lld ends at %lld, want %d", round, word, (long long)k, (long long)at, want[k]);
            }
        }
    }
    /* a string as long as may be, of spaces alone and with a letter that leaves no room for a space; one that is longer is refused */
    static uint8_t longest[ZL_LONGEST_PIECE + 1];
    zl_strings s = start();
    for (int i = 0; i < ZL_LONGEST_PIECE - 1; i += 3) memcpy(longest + i, "\xe2\x96\x81", 3);
    longest[ZL_LONGEST_PIECE - 1] = 'a';
    add(&s, longest, ZL_LONGEST_PIECE);
    s.spaces = 1;
    finish(&s, 0);
    memset(text, ' ', 400), text[341] = 'a';
    int32_t found[2], ends_of[2] = {342, 342 + 58};
    CHECK(zl_strings_find(&s, text, 400, ends_of, 2, found) == ZL_OK && found[0] == 0 && found[1] == -1, "the longest string");
    text[341] = ' ';
    CHECK(zl_strings_find(&s, text, 400, ends_of, 1, found) == ZL_OK && found[0] == -1, "no room for the last space");
    add(&s, longest, ZL_LONGEST_PIECE + 1);
    s.n_slots = 4;
    CHECK(zl_strings_build(&s, 0) == ZL_E_SHAPE, "a string that is too long");
}

static void test_doubling(const zl_strings *s, int separator, const uint8_t *text, int32_t *ends, int32_t *want) {
    for (int64_t n = MAX_WORD - 3, n_ends; n <= MAX_WORD; n++) {
        CHECK(zl_merge(s, NULL, separator, text, n, ends, &n_ends) == ZL_OK, "merge");
        int64_t count = 0;
        for (int64_t left = n, size = 1024; left; size /= 2)
            for (; left >= size; left -= size) want[count] = (int32_t)((count ? want[count - 1] : 0) + size), count++;
        CHECK(n_ends == count && !memcmp(ends, want, (size_t)count * sizeof *ends), "%lld letters: %lld symbols", (long long)n, (long long)n_ends);
    }
}

static void test_merge(void) {
    static uint8_t text[MAX_WORD];
    static int32_t ends[MAX_WORD], want[MAX_WORD];
    for (int round = 0; round < 300; round++) {
        const int separator = round % 2 ? ' ' : -1;
        zl_strings s = start();
        for (int i = (int)below(60); i > 0; i--) {
            int64_t n = 2 + random_text(text + 2, round % 3 ? 3 : 7, 2);
            text[0] = (uint8_t)('a' + below(2)), text[1] = (uint8_t)('a' + below(2));
            if (separator >= 0) text[1 + (n > 2 ? below((uint32_t)n - 2) : 0)] = (uint8_t)separator;
            ranks[s.n] = (uint32_t[]){0, 5, 5, 77, 1u << 31, UINT32_MAX - 1, UINT32_MAX}[below(7)]; /* equal ones, the last ones, none */
            add(&s, text, n);
        }
        finish(&s, 0);
        for (int word = 0; word < 12; word++) {
            const int most = word < 10 ? 30 : round % 100 == word ? MAX_WORD : 200; /* some are long: the heap is filled several times */
            int64_t n = random_text(text, most, 2), n_ends = -1;
            for (int64_t i = 0; word % 3 == 0 && i < n; i++)
                if (!below(6)) text[i] = (uint8_t[]){0x80, 0x81, 0xc3, 0xbf}[below(4)]; /* continuation bytes stay with what is before */
            const uint32_t *by = round % 4 < 2 ? NULL : ranks;
            int64_t count = merge_slowly(&s, by, separator, text, n, want);
            CHECK(zl_merge(&s, by, separator, text, n, ends, &n_ends) == ZL_OK, "merge");
            CHECK(n_ends == count && !memcmp(ends, want, (size_t)count * sizeof *ends), "round %d word %d: %lld symbols, want %lld", round, word,
                  (long long)n_ends, (long long)count);
        }
    }
    /* one letter, thousands of times: doubling, so that the heap fills with what is stale; and pairs longer than the room on the stack */
    for (int separator = -1; separator <= ' '; separator += 33) {
        zl_strings s = start();
        memset(text, 'a', sizeof text);
        for (int64_t n = 2; n <= 1024; n *= 2) {
            if (separator >= 0) text[n / 2] = (uint8_t)separator;
            add(&s, text, n + (separator >= 0));
            text[n / 2] = 'a';
        }
        finish(&s, 0);
        test_doubling(&s, separator, text, ends, want);
    }
}

/* The ids of a text that is not cut at all, by the slow loop; where a byte lacks a token, and its piece. */
static int64_t pieces_slowly(const zl_pieces *p, const uint8_t *text, int64_t n, int32_t *ids, int64_t *lacking) {
    static int32_t ends[MAX_WORD];
    const int64_t n_ends = merge_slowly(p->tokens, p->ranks, -1, text, n, ends);
    int64_t count = 0;
    for (int64_t i = 0, begin = 0; i < n_ends; begin = ends[i++]) {
        const int32_t token = search(p->tokens, text + begin, ends[i] - begin, 0);
        if (token >= 0) ids[count++] = token;
        else if (p->unknown >= 0 && (!count || ids[count - 1] != p->unknown)) ids[count++] = p->unknown;
        for (int64_t j = begin; j < ends[i] && token < 0 && p->unknown < 0; j++) {
            ids[count++] = p->bytes[text[j]];
            if (p->bytes[text[j]] < 0 && lacking[0] < 0) lacking[0] = j, lacking[1] = begin, lacking[2] = ends[i];
        }
    }
    return count;
}

/* With cuts: what lies between is what it is alone, with its byte that lacks a token where that is the first. `ids`: without cuts. */
static void test_cuts(const zl_pieces *p, const uint8_t *text, int64_t n, const int32_t *ids, int64_t n_ids) {
    static int32_t cuts[3 * MAX_WORD], with[MAX_WORD], want[MAX_WORD];
    int64_t n_cuts = 0, n_with, lacking[3], lacks[3] = {-1, -1, -1}, count = 0, begin = 0, some, bad[3];
    for (int64_t i = 0; i < n; i++) {
        if ((text[i] & 0xc0) == 0x80 || below(6)) continue;
        int64_t end = i + 1;
        while (end < n && ((text[end] & 0xc0) == 0x80 || !below(3))) end++;
        int32_t *cut = cuts + 3 * n_cuts++;
        cut[0] = (int32_t)i, cut[1] = (int32_t)end, cut[2] = 3000 + (int32_t)below(9) * (below(2) ? 0 : 1);
        if (!below(5) && p->unknown >= 0) cut[2] = p->unknown;
        i = end - 1;
    }
    for (int64_t k = 0; k <= n_cuts; k++) {
        const int64_t end = k < n_cuts ? cuts[3 * k] : n;
        CHECK(zl_pieces_encode(p, text + begin, end - begin, NULL, 0, want + count, &some, bad) == ZL_OK, "a part");
        for (int i = 0; i < 3 && bad[0] >= 0 && lacks[i] < 0; i++) lacks[i] = begin + bad[i];
        count += some;
        if (k < n_cuts) want[count++] = cuts[3 * k + 2], begin = cuts[3 * k + 1];
    }
    CHECK(zl_pieces_encode(p, text, n, cuts, n_cuts, with, &n_with, lacking) == ZL_OK, "cuts");
    CHECK(n_with == count && !memcmp(with, want, (size_t)count * sizeof *want), "%lld cuts: %lld ids, want %lld", (long long)n_cuts, (long long)n_with,
          (long long)count);
    CHECK(!memcmp(lacking, lacks, sizeof lacks), "byte %lld, want %lld", (long long)lacking[0], (long long)lacks[0]);
    CHECK(n_cuts || (n_ids == count && !memcmp(ids, want, (size_t)count * sizeof *want)), "no cuts");
}

/* Texts of two letters, one that is no token, and spaces as they are or spelt: cut into words or not, the ids are the same. */
static void test_pieces(void) {
    static uint8_t text[MAX_WORD], spelt[MAX_WORD];
    static int32_t ids[MAX_WORD], want[MAX_WORD], bytes[256];
    int cut = 0, lacked = 0, ran = 0;
    for (int round = 0; round < 300; round++) {
        zl_strings s = start();
        uint8_t joinable[256] = {0};
        add(&s, "a", 1), add(&s, "b", 1);
        if (round % 12) add(&s, "\xe2\x96\x81", 3); /* else runs of what is unknown go on from word to word */
        for (int i = (int)below(40); i > 0; i--) {
            int64_t n = 0;
            for (int k = 1 + (int)below(4), at = 0; at < k; at++) {
                const int space = at && round % 5 ? 0 : (int)below(2); /* in most rounds only before a token, so that there are words */
                if (space && n) joinable[spelt[n - 1]] = 1;
                if (space) memcpy(spelt + n, "\xe2\x96\x81", 3), n += 3;
                else spelt[n++] = (uint8_t)('a' + below(2));
            }
            add(&s, spelt, n);
        }
        finish(&s, 0);
        const int spaces = round % 2;
        s.spaces = spaces;
        if (spaces && joinable[0x81]) joinable[' '] = 1;
        for (int i = 0; i < MAX_STRINGS; i++) ranks[i] = below(round % 5 ? 1000 : 3);
        for (int i = 0; i < 256; i++) bytes[i] = round % 7 && below(8) ? 1000 + i : -1;
        const zl_pieces p = {&s, round % 4 ? ranks : NULL, joinable, bytes, round % 6 ? -1 : 2000};
        for (int turn = 0; turn < 30; turn++) {
            int64_t n = 0, n_ids, n_want, lacking[3], lacks[3] = {-1, -1, -1};
            for (int k = (int)below(turn ? 40 : 400); k > 0; k--) {
                const uint32_t what = below(12);
                if (what < 3 && spaces) text[n++] = ' ';
                else if (what < 3) memcpy(text + n, "\xe2\x96\x81", 3), n += 3;
                else if (what == 3) memcpy(text + n, below(2) ? "\xc3\xa9" : "\xe2\x96", 2), n += 2;
                else text[n++] = (uint8_t)("aaabbbc"[below(7)]);
            }
            if (spaces) { /* the slow one knows no such spaces: it gets them spelt, and each string is found as such */
                int64_t m = 0;
                for (int64_t i = 0; i < n; i++) {
                    if (text[i] != ' ') spelt[m++] = text[i];
                    else memcpy(spelt + m, "\xe2\x96\x81", 3), m += 3;
                }
                zl_strings plain = s;
                plain.spaces = 0;
                zl_pieces slow = p;
                slow.tokens = &plain;
                n_want = pieces_slowly(&slow, spelt, m, want, lacks);
            } else {
                n_want = pieces_slowly(&p, text, n, want, lacks);
            }
            CHECK(zl_pieces_encode(&p, text, n, NULL, 0, ids, &n_ids, lacking) == ZL_OK, "pieces");
            CHECK(n_ids == n_want && !memcmp(ids, want, (size_t)n_want * sizeof *ids), "round %d text %d: %lld ids, want %lld", round, turn,
                  (long long)n_ids, (long long)n_want);
            if (spaces) CHECK((lacking[0] < 0) == (lacks[0] < 0), "round %d text %d: byte %lld", round, turn, (long long)lacking[0]);
            else CHECK(!memcmp(lacking, lacks, sizeof lacks), "round %d text %d: byte %lld of %lld to %lld", round, turn, (long long)lacking[0],
                       (long long)lacking[1], (long long)lacking[2]);
            test_cuts(&p, text, n, ids, n_ids);
            cut += n > 0 && !joinable['a'], lacked += lacking[0] >= 0, ran += p.unknown >= 0;
        }
    }
    CHECK(cut > 100 && lacked > 100 && ran > 100, "cut %d, lacked %d, ran %d", cut, lacked, ran);
    zl_strings s = start();
    add(&s, "a", 1);
    finish(&s, 0);
    int64_t n, lacking[3];
    const uint8_t joinable[256] = {0};
    const zl_pieces p = {&s, NULL, joinable, bytes, -1};
    zl_pieces bad = p;
    bad.joinable = NULL;
    CHECK(zl_pieces_encode(&bad, text, 1, NULL, 0, ids, &n, lacking) == ZL_E_ARG && zl_pieces_encode(NULL, text, 1, NULL, 0, ids, &n, lacking) == ZL_E_ARG, "null");
    bad = p, bad.bytes = NULL;
    CHECK(zl_pieces_encode(&bad, text, 1, NULL, 0, ids, &n, lacking) == ZL_E_ARG, "no bytes");
    bad = p, bad.tokens = NULL;
    CHECK(zl_pieces_encode(&bad, text, 1, NULL, 0, ids, &n, lacking) == ZL_E_ARG, "no tokens");
    CHECK(zl_pieces_encode(&p, NULL, 1, NULL, 0, ids, &n, lacking) == ZL_E_ARG && zl_pieces_encode(&p, text, 1, NULL, 0, NULL, &n, lacking) == ZL_E_ARG &&
              zl_pieces_encode(&p, text, 1, NULL, 0, ids, NULL, lacking) == ZL_E_ARG && zl_pieces_encode(&p, text, 1, NULL, 0, ids, &n, NULL) == ZL_E_ARG,
          "null pointers");
    CHECK(zl_pieces_encode(&p, text, -1, NULL, 0, ids, &n, lacking) == ZL_E_SHAPE && zl_pieces_encode(&p, text, INT32_MAX, NULL, 0, ids, &n, lacking) == ZL_E_SHAPE,
          "sizes");
    const int32_t bad_cuts[][6] = {{0, 0, 1}, {-1, 1, 1}, {0, 2, 1}, {1, 1, 1}, {0, 1, 1, 0, 1, 1}};
    for (int i = 0; i < 5; i++)
        CHECK(zl_pieces_encode(&p, text, 1, bad_cuts[i], i == 4 ? 2 : 1, ids, &n, lacking) == ZL_E_BOUNDS && strstr(zl_error(), i == 4 ? "cut 1" : "cut 0"), "cuts %d", i);
    CHECK(zl_pieces_encode(&p, text, 1, NULL, 1, ids, &n, lacking) == ZL_E_ARG && zl_pieces_encode(&p, text, 1, bad_cuts[0], -1, ids, &n, lacking) == ZL_E_SHAPE, "cuts");
    CHECK(zl_pieces_encode(&p, NULL, 0, NULL, 0, NULL, &n, lacking) == ZL_OK && n == 0 && lacking[0] == -1, "nothing");
    bad = p, bad.unknown = 7; /* the first " c" goes on with what is unknown, the second begins anew */
    CHECK(zl_pieces_encode(&bad, (const uint8_t *)"c c a c", 7, NULL, 0, ids, &n, lacking) == ZL_OK && n == 3 && ids[0] == 7 && ids[1] == 0 && ids[2] == 7,
          "%lld ids", (long long)n);
}

static void test_errors(void) {
    int32_t ends[4] = {1, 2, 3, 4}, found[4];
    int64_t n_ends;
    zl_strings s = start(), bad;
    add(&s, "ab", 2), add(&s, "cde", 3);
    finish(&s, 0);
    const uint8_t *text = (const uint8_t *)"abcd";
    CHECK(s.longest == 3, "longest");
    CHECK(zl_strings_build(NULL, 0) == ZL_E_ARG, "no strings");
    bad = s, bad.slots = NULL;
    CHECK(zl_strings_build(&bad, 0) == ZL_E_ARG && zl_merge(&bad, NULL, -1, text, 4, ends, &n_ends) == ZL_E_ARG, "no slots");
    bad = s, bad.n_slots = 2;
    CHECK(zl_strings_build(&bad, 0) == ZL_E_SHAPE && strstr(zl_error(), "2 slots for 2 strings"), "too few slots");
    bad = s, bad.n_slots = 6;
    CHECK(zl_strings_build(&bad, 0) == ZL_E_SHAPE, "no power of two");
    bad = s, bad.n = -1;
    CHECK(zl_strings_build(&bad, 0) == ZL_E_SHAPE, "fewer than no strings");
    bad = s, bad.n_bytes--;
    CHECK(zl_strings_build(&bad, 0) == ZL_E_BOUNDS && strstr(zl_error(), "string 1"), "the last one leaves the data");
    static const int64_t hostile[][3] = {{0, 7, 21}, {-1, 10, 21}, {0, 30, 21}, {INT64_MAX, INT64_MIN, 21}, {8, 0, 21}, {6, 10, 21}};
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        bad = s, bad.offsets = hostile[i];
        CHECK(zl_strings_build(&bad, 0) == ZL_E_BOUNDS, "hostile offsets %zu", i);
    }
    CHECK(zl_strings_find(&s, text, 3, ends, 4, found) == ZL_E_BOUNDS && strstr(zl_error(), "piece 3"), "a piece past the end");
    ends[1] = 0;
    CHECK(zl_strings_find(&s, text, 4, ends, 2, found) == ZL_E_BOUNDS, "a piece that ends before it begins");
    CHECK(zl_strings_find(&s, NULL, 4, ends, 1, found) == ZL_E_ARG && zl_strings_find(&s, text, 4, ends, -1, found) == ZL_E_SHAPE, "no text");
    CHECK(zl_merge(&s, NULL, 256, text, 4, ends, &n_ends) == ZL_E_ARG && zl_merge(&s, NULL, -1, text, -1, ends, &n_ends) == ZL_E_SHAPE &&
              zl_merge(&s, NULL, -1, text, INT32_MAX, ends, &n_ends) == ZL_E_SHAPE && zl_merge(&s, NULL, -1, text, 4, NULL, &n_ends) == ZL_E_ARG,
          "words that are none");
    CHECK(zl_merge(&s, NULL, -1, text, 0, ends, &n_ends) == ZL_OK && n_ends == 0, "a word of nothing");
    add(&s, "", 0);
    finish(&s, 0);
    ends[0] = 0;
    CHECK(zl_strings_find(&s, NULL, 0, ends, 1, found) == ZL_OK && found[0] == 2, "the empty text among the strings");
}

int selftest_strings(zl_ctx *ctx) {
    (void)ctx;
    failures = 0;
    test_index();
    test_merge();
    test_spaces();
    test_pieces();
    test_errors();
    return failures;
}
