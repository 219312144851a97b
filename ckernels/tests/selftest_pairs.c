/* selftest_pairs.c - encoding by pairs against a loop that looks at every pair of texts again after each join. */
#include "selftest.h"

static int failures;
static uint64_t seed = 88172645463325252u;
static uint32_t below(uint32_t n) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

enum { MAX_STRINGS = 128, MAX_BYTES = 8192, MAX_TEXT = 2000 };
typedef struct {
    zl_strings s;
    uint8_t data[MAX_BYTES];
    int64_t offsets[MAX_STRINGS + 1];
    int32_t slots[4 * MAX_STRINGS];
} list;

static void clear(list *l) {
    memset(l, 0, sizeof *l);
    l->s = (zl_strings){.data = l->data, .offsets = l->offsets, .slots = l->slots, .key = {below(99), below(99)}};
}

static int32_t search(const list *l, const uint8_t *text, int64_t n, int last) {
    int32_t found = -1;
    for (int64_t i = 0; i < l->s.n && (found < 0 || last); i++)
        if (l->offsets[i + 1] - l->offsets[i] - 8 == n && !memcmp(l->data + l->offsets[i] + 8, text, (size_t)n)) found = (int32_t)i;
    return found;
}

static void add(list *l, const void *text, int64_t n) {
    memcpy(l->data + l->s.n_bytes + 8, text, (size_t)n);
    l->s.n_bytes += 8 + n;
    l->offsets[++l->s.n] = l->s.n_bytes;
}

static void finish(list *l, int last) {
    for (l->s.n_slots = 1; l->s.n_slots <= l->s.n;) l->s.n_slots *= 2;
    CHECK(zl_strings_build(&l->s, last) == ZL_OK, "build");
}

static list tokens, merges, others;
static int32_t parts[3 * MAX_STRINGS], lengths[2 * MAX_STRINGS + 4], bytes[256], lone[256], slots[16 * MAX_STRINGS];
static uint16_t letters[256];

/* The letter of a byte: 'a' and 'b' are themselves, of the rest some are U+0100 and on. */
static int64_t spell(const uint8_t *text, int64_t n, int by_letters, uint8_t *out) {
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint16_t letter = by_letters ? letters[text[i]] : text[i];
        if (by_letters && letter >= 0x80) out[m++] = (uint8_t)(0xc0 | letter >> 6), out[m++] = (uint8_t)(0x80 | (letter & 0x3f));
        else out[m++] = (uint8_t)letter;
    }
    return m;
}

static int64_t expect(const uint8_t *text, int64_t n, int by_letters, int whole, int32_t *ids) {
    static uint8_t spelt[2 * MAX_TEXT], pair[2 * MAX_TEXT + 1];
    static int64_t ends[MAX_TEXT];
    int64_t m = 0, count = 0, n_ids = 0;
    int newlines = 1;
    for (int64_t i = 0; i < n; i++) newlines &= text[i] == '\n';
    m = spell(text, n, by_letters, spelt);
    const int32_t token = search(&tokens, spelt, m, 1);
    if (token >= 0 && (whole == ZL_WHOLE_ALWAYS || (whole == ZL_WHOLE_NEWLINES && newlines))) return ids[0] = token, 1;
    for (int64_t i = 1; i <= m; i++)
        if (i == m || (spelt[i] & 0xc0) != 0x80) ends[count++] = i;
    for (;;) {
        int64_t at = -1;
        int32_t best = INT32_MAX;
        for (int64_t i = 0; i + 1 < count; i++) {
            const int64_t begin = i ? ends[i - 1] : 0, a = ends[i] - begin, b = ends[i + 1] - ends[i];
            memcpy(pair, spelt + begin, (size_t)a), pair[a] = ' ', memcpy(pair + a + 1, spelt + ends[i], (size_t)b);
            const int32_t found = search(&merges, pair, a + b + 1, 0);
            if (found >= 0 && found < best) best = found, at = i;
        }
        if (at < 0) break;
        memmove(ends + at, ends + at + 1, (size_t)(count-- - at - 1) * sizeof *ends);
    }
    for (int64_t i = 0, begin = 0, byte = 0; i < count; begin = ends[i++]) {
        const int32_t found = search(&tokens, spelt + begin, ends[i] - begin, 1);
        int64_t end = byte;
        for (int64_t j = begin; j < ends[i]; j++) end += !by_letters || (spelt[j] & 0xc0) != 0x80;
        if (found >= 0) ids[n_ids++] = found;
        else for (int64_t j = byte; j < end; j++)
            if (lone[text[j]] >= 0) ids[n_ids++] = lone[text[j]];
        byte = end;
    }
    return n_ids;
}

static const char *const alphabet[] = {"a", "b", "\n", "\xf0\x9f\x99\x82", "\x01"};

static int64_t random_text(uint8_t *text, int64_t most, int by_letters) {
    int64_t n = 0;
    for (int64_t k = below((uint32_t)most) + 1; k > 0; k--) {
        const char *c = alphabet[below(below(4) ? 2 : by_letters ? 5 : 4)];
        memcpy(text + n, c, strlen(c)), n += (int64_t)strlen(c);
    }
    return n;
}

/* A vocabulary: merges at random of symbols that are there; of what they make some are tokens, some not. */
static zl_pairs vocabulary(int by_letters, int whole) {
    uint8_t text[512], spelt[1024];
    clear(&tokens), clear(&merges), clear(&others);
    for (int i = 0; i < 256; i++) letters[i] = (uint16_t)(i == 'a' || i == 'b' ? i : 0x100 + i), lone[i] = -1, bytes[i] = -1;
    list symbols;
    clear(&symbols);
    for (int i = 0; i < (by_letters ? 5 : 4); i++) {
        int64_t n = (int64_t)strlen(alphabet[i]);
        for (int64_t j = 0; j < (by_letters ? n : 1); j++) {
            int64_t m = spell((const uint8_t *)alphabet[i] + j, by_letters ? 1 : n, by_letters, spelt);
            add(&symbols, spelt, m);
            if (below(8)) add(&tokens, spelt, m);
        }
    }
    for (int i = (int)below(40); i > 0; i--) {
        const int64_t a = below((uint32_t)symbols.s.n), b = below((uint32_t)symbols.s.n);
        const int64_t na = symbols.offsets[a + 1] - symbols.offsets[a] - 8, nb = symbols.offsets[b + 1] - symbols.offsets[b] - 8;
        if (na + nb > 40) continue;
        memcpy(text, symbols.data + symbols.offsets[a] + 8, (size_t)na), text[na] = ' ';
        memcpy(text + na + 1, symbols.data + symbols.offsets[b] + 8, (size_t)nb);
        add(&merges, text, na + nb + 1);
        memmove(text + na, text + na + 1, (size_t)nb);
        if (search(&symbols, text, na + nb, 0) < 0) add(&symbols, text, na + nb);
        if (below(4)) add(&tokens, text, na + nb);
    }
    finish(&tokens, 1), finish(&merges, 0);
    for (int64_t i = 0; i < symbols.s.n; i++) {
        const uint8_t *t = symbols.data + symbols.offsets[i] + 8;
        const int64_t n = symbols.offsets[i + 1] - symbols.offsets[i] - 8;
        if (search(&tokens, t, n, 1) < 0) add(&others, t, n);
    }
    finish(&others, 0);
    CHECK(zl_pairs_parts(&tokens.s, &merges.s, parts) == ZL_OK, "parts");
    zl_pairs p = {.n_slots = 1, .slots = slots, .key = {below(1u << 31), below(1u << 31)}, .n_tokens = tokens.s.n, .n_symbols = tokens.s.n + others.s.n,
                  .lengths = lengths, .bytes = by_letters ? bytes : NULL, .letters = by_letters ? letters : NULL, .lone = lone, .tokens = &tokens.s,
                  .others = &others.s, .whole = whole};
    while (p.n_slots <= merges.s.n) p.n_slots *= 2;
    for (int64_t i = 0; i < merges.s.n; i++) {
        const uint8_t *t = merges.data + merges.offsets[i] + 8;
        const int64_t n = merges.offsets[i + 1] - merges.offsets[i] - 8, a = (const uint8_t *)memchr(t + 1, ' ', (size_t)n) - t;
        memcpy(text, t, (size_t)a), memcpy(text + a, t + a + 1, (size_t)(n - a - 1));
        const struct { const uint8_t *t; int64_t n; } three[3] = {{t, a}, {t + a + 1, n - a - 1}, {text, n - 1}};
        for (int j = 0; j < 3; j++) {
            const int32_t token = search(&tokens, three[j].t, three[j].n, 1);
            CHECK(parts[3 * i + j] == token, "part %d of merge %lld", j, (long long)i);
            if (token < 0) parts[3 * i + j] = (int32_t)(p.n_tokens + search(&others, three[j].t, three[j].n, 0));
        }
    }
    for (int64_t i = 0; i < p.n_symbols; i++) {
        const list *l = i < p.n_tokens ? &tokens : &others;
        const int64_t k = i < p.n_tokens ? i : i - p.n_tokens;
        lengths[i] = 0;
        for (int64_t j = l->offsets[k] + 8; j < l->offsets[k + 1]; j++) lengths[i] += !by_letters || (l->data[j] & 0xc0) != 0x80;
    }
    for (int i = 1; i <= 4; i++) lengths[p.n_symbols + i - 1] = i;
    for (int i = 0; i < 256; i++) {
        uint8_t b = (uint8_t)i;
        const int64_t m = spell(&b, 1, by_letters, spelt);
        const int32_t token = search(&tokens, spelt, m, 1), other = search(&others, spelt, m, 0);
        bytes[i] = token >= 0 ? token : other >= 0 ? (int32_t)(p.n_tokens + other) : (int32_t)p.n_symbols;
        if (below(2) && tokens.s.n) lone[i] = (int32_t)below((uint32_t)tokens.s.n);
    }
    CHECK(zl_pairs_build(&p, parts, merges.s.n) == ZL_OK, "pairs");
    return p;
}

static void test_words(void) {
    static uint8_t text[2 * MAX_TEXT];
    static int32_t ends[64], ids[2 * MAX_TEXT], id_ends[64], seen[8], want[MAX_TEXT];
    for (int round = 0; round < 600; round++) {
        const int by_letters = round & 1, whole = (int)below(3);
        zl_pairs p = vocabulary(by_letters, whole);
        int64_t n = 0, n_ends = 0;
        for (; n_ends < 40 && n < MAX_TEXT - 400; n_ends++) {
            n += random_text(text + n, n_ends % 8 == 7 ? 180 : n_ends % 4 == 3 ? 36 : 5, by_letters);
            ends[n_ends] = (int32_t)n;
        }
        CHECK(zl_pairs_encode(&p, text, n, ends, n_ends, seen, 8, ids, id_ends) == ZL_OK, "encode");
        for (int64_t w = 0, begin = 0, at = 0; w < n_ends; at = id_ends[w], begin = ends[w++]) {
            const int64_t count = expect(text + begin, ends[w] - begin, by_letters, whole, want);
            CHECK(id_ends[w] - at == count && !memcmp(ids + at, want, (size_t)count * sizeof *want), "round %d, word %lld of %lld bytes", round,
                  (long long)w, (long long)(ends[w] - begin));
        }
    }
}

/* A run of one letter, doubled by eleven merges: the heap fills and is cleared. */
static void test_runs(void) {
    static uint8_t text[MAX_TEXT], one[1 << 10];
    static int32_t ids[MAX_TEXT];
    clear(&tokens), clear(&merges);
    memset(text, 'a', sizeof text), memset(one, 'a', sizeof one);
    add(&tokens, one, 1);
    for (int i = 0; i < 9; i++) {
        uint8_t pair[1 << 10];
        memset(pair, 'a', sizeof pair), pair[1 << i] = ' ';
        add(&merges, pair, (2 << i) + 1), add(&tokens, one, 2 << i);
    }
    finish(&tokens, 1), finish(&merges, 0);
    CHECK(zl_pairs_parts(&tokens.s, &merges.s, parts) == ZL_OK, "parts");
    for (int i = 0; i < 256; i++) bytes[i] = i == 'a' ? 0 : 10, lone[i] = -1;
    for (int i = 0; i < 10; i++) lengths[i] = 1 << i;
    for (int i = 0; i < 4; i++) lengths[10 + i] = i + 1;
    zl_pairs p = {.n_slots = 16, .slots = slots, .n_tokens = 10, .n_symbols = 10, .lengths = lengths, .bytes = bytes, .lone = lone, .tokens = &tokens.s};
    CHECK(zl_pairs_build(&p, parts, merges.s.n) == ZL_OK, "build");
    for (int32_t n = 1; n <= MAX_TEXT; n += n < 70 ? 1 : 97) {
        int32_t seen[1], id_ends[1], left = n, at = 0;
        CHECK(zl_pairs_encode(&p, text, n, &n, 1, seen, 1, ids, id_ends) == ZL_OK, "encode");
        for (int i = 9; i >= 0; i--)
            for (; left >= 1 << i; left -= 1 << i, at++) CHECK(ids[at] == i, "%d letters: id %d", n, at);
        CHECK(id_ends[0] == at, "%d letters: %d ids", n, id_ends[0]);
    }
}

/* abab...: the pairs b a, that all go stale, wait behind those that each join gives, so that the heap is full. */
static void test_full_heap(void) {
    static uint8_t text[MAX_TEXT];
    static int32_t ids[MAX_TEXT];
    clear(&tokens), clear(&merges);
    add(&tokens, "a", 1), add(&tokens, "b", 1), add(&tokens, "ab", 2), add(&tokens, "abab", 4), add(&tokens, "aba", 3), add(&tokens, "ba", 2);
    add(&merges, "a b", 3), add(&merges, "ab a", 4), add(&merges, "ab ab", 5), add(&merges, "b a", 3);
    finish(&tokens, 1), finish(&merges, 0);
    CHECK(zl_pairs_parts(&tokens.s, &merges.s, parts) == ZL_OK, "parts");
    for (int i = 0; i < 256; i++) bytes[i] = i == 'a' ? 0 : i == 'b' ? 1 : 6, lone[i] = -1;
    static const int32_t sizes[] = {1, 1, 2, 4, 3, 2, 1, 2, 3, 4};
    memcpy(lengths, sizes, sizeof sizes);
    zl_pairs p = {.n_slots = 8, .slots = slots, .n_tokens = 6, .n_symbols = 6, .lengths = lengths, .bytes = bytes, .lone = lone, .tokens = &tokens.s};
    CHECK(zl_pairs_build(&p, parts, merges.s.n) == ZL_OK, "build");
    for (int i = 0; i < MAX_TEXT; i++) text[i] = "ab"[i & 1];
    for (int32_t n = 4; n <= MAX_TEXT; n += n < 80 ? 2 : 94) {
        int32_t seen[1], id_ends[1];
        CHECK(zl_pairs_encode(&p, text, n, &n, 1, seen, 1, ids, id_ends) == ZL_OK && id_ends[0] == (n + 2) / 4, "%d letters: %d ids", n, id_ends[0]);
        for (int32_t i = 0; i < id_ends[0]; i++) CHECK(ids[i] == (4 * i + 4 <= n ? 3 : 2), "%d letters: id %d", n, i);
    }
}

/* A word that is a token and that no merge makes, in letters of two bytes. */
static void test_whole(void) {
    static const uint8_t text[] = {0xe9, 1, 0xff};
    uint8_t spelt[8];
    clear(&tokens);
    for (int i = 0; i < 256; i++) letters[i] = (uint16_t)(0x100 + i), bytes[i] = 2, lone[i] = -1;
    add(&tokens, "?", 1), add(&tokens, spelt, spell(text, 3, 1, spelt));
    finish(&tokens, 1);
    static const int32_t sizes[] = {1, 3, 1, 2, 3, 4};
    memcpy(lengths, sizes, sizeof sizes);
    zl_pairs p = {.n_slots = 1, .slots = slots, .n_tokens = 2, .n_symbols = 2, .lengths = lengths, .bytes = bytes, .letters = letters, .lone = lone,
                  .tokens = &tokens.s, .whole = ZL_WHOLE_ALWAYS};
    CHECK(zl_pairs_build(&p, parts, 0) == ZL_OK, "build");
    int32_t end = 3, seen[1], ids[3], id_ends[1];
    CHECK(zl_pairs_encode(&p, text, 3, &end, 1, seen, 1, ids, id_ends) == ZL_OK && id_ends[0] == 1 && ids[0] == 1, "%d ids", id_ends[0]);
}

static void test_errors(void) {
    const uint8_t *text = (const uint8_t *)"ab";
    int32_t ends[2] = {1, 2}, ids[2], id_ends[2], seen[2];
    zl_pairs p = vocabulary(1, 0), bad = p;
    bad.checked = 0;
    CHECK(zl_pairs_encode(&bad, text, 2, ends, 2, seen, 2, ids, id_ends) == ZL_E_ARG && strstr(zl_error(), "not been built"), "not built");
    CHECK(zl_pairs_encode(NULL, text, 2, ends, 2, seen, 2, ids, id_ends) == ZL_E_ARG, "null");
    CHECK(zl_pairs_encode(&p, text, -1, ends, 2, seen, 2, ids, id_ends) == ZL_E_SHAPE &&
              zl_pairs_encode(&p, text, INT32_MAX, ends, 2, seen, 2, ids, id_ends) == ZL_E_SHAPE &&
              zl_pairs_encode(&p, text, 2, ends, -1, seen, 2, ids, id_ends) == ZL_E_SHAPE &&
              zl_pairs_encode(&p, text, 2, ends, 2, seen, 3, ids, id_ends) == ZL_E_SHAPE &&
              zl_pairs_encode(&p, text, 2, ends, 2, seen, 0, ids, id_ends) == ZL_E_SHAPE, "shapes");
    CHECK(zl_pairs_encode(&p, NULL, 2, ends, 2, seen, 2, ids, id_ends) == ZL_E_ARG && zl_pairs_encode(&p, text, 2, NULL, 2, seen, 2, ids, id_ends) == ZL_E_ARG &&
              zl_pairs_encode(&p, text, 2, ends, 2, NULL, 2, ids, id_ends) == ZL_E_ARG && zl_pairs_encode(&p, text, 2, ends, 2, seen, 2, NULL, id_ends) == ZL_E_ARG &&
              zl_pairs_encode(&p, text, 2, ends, 2, seen, 2, ids, NULL) == ZL_E_ARG, "null pointers");
    ends[1] = 3;
    CHECK(zl_pairs_encode(&p, text, 2, ends, 2, seen, 2, ids, id_ends) == ZL_E_BOUNDS && strstr(zl_error(), "word 1"), "past the end");
    ends[1] = 0;
    CHECK(zl_pairs_encode(&p, text, 2, ends, 2, seen, 2, ids, id_ends) == ZL_E_BOUNDS, "descending");
    ends[0] = ends[1] = 1;
    CHECK(zl_pairs_encode(&p, text, 2, ends, 2, seen, 2, ids, id_ends) == ZL_E_BOUNDS && strstr(zl_error(), "begins at 1"), "an empty word");
    ends[0] = 1, ends[1] = 2;
    int32_t three[3] = {0, 0, (int32_t)p.n_symbols}, *no_slots = NULL;
    CHECK(zl_pairs_build(&p, three, 1) == ZL_E_BOUNDS && strstr(zl_error(), "merge 0"), "a symbol too many");
    three[2] = 0, three[0] = -1;
    CHECK(zl_pairs_build(&p, three, 1) == ZL_E_BOUNDS, "no symbol");
    bad = p, bad.slots = no_slots;
    CHECK(zl_pairs_build(&bad, three, 1) == ZL_E_ARG && zl_pairs_build(&p, NULL, 1) == ZL_E_ARG && zl_pairs_build(NULL, three, 1) == ZL_E_ARG, "null");
    bad = p, bad.n_slots = 3;
    CHECK(zl_pairs_build(&bad, three, 1) == ZL_E_SHAPE, "no power of two");
    bad = p, bad.n_slots = 2;
    CHECK(zl_pairs_build(&bad, three, 2) == ZL_E_SHAPE && strstr(zl_error(), "2 slots for 2 merges"), "too few slots");
    bad = p, bad.n_tokens = p.n_symbols + 1;
    CHECK(zl_pairs_build(&bad, three, 0) == ZL_E_SHAPE, "more tokens than symbols");
    bytes[7] = (int32_t)p.n_symbols + 1; /* the unknown character of two bytes */
    CHECK(zl_pairs_build(&p, three, 0) == ZL_E_BOUNDS && strstr(zl_error(), "byte 7"), "a byte of two bytes");
    bytes[7] = (int32_t)p.n_symbols, lengths[p.n_symbols + 3] = 5;
    CHECK(zl_pairs_build(&p, three, 0) == ZL_E_BOUNDS, "an unknown one of five bytes");
    clear(&merges), add(&merges, "ab ", 3), finish(&merges, 0);
    CHECK(zl_pairs_parts(&tokens.s, &merges.s, parts) == ZL_E_ARG && strstr(zl_error(), "merge 0"), "no space between");
}

int selftest_pairs(zl_ctx *ctx) {
    (void)ctx;
    failures = 0;
    test_words();
    test_runs();
    test_full_heap();
    test_whole();
    test_errors();
    return failures;
}
