/* selftest_words.c - cuts of a text against loops that say the same in words: an automaton written by hand, threes, tails, and what is
 * refused. */
#include "selftest.h"

static int failures;
static uint64_t seed = 88172645463325252u;
static uint32_t below(uint32_t n) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

enum { M = 0x8000, LETTER = 0, SPACE = 1, OTHER = 2, MAX = 400 };
static uint8_t classes[ZL_CODE_POINTS], digits[ZL_CODE_POINTS];
/* x+|\s+(?!\S)|\s+ : a run of x; a run of spaces, but for its last one where something follows it. */
static const uint16_t automaton[5][4] = {{0}, {2, 3, 0, 0}, {2 | M, M, M, M}, {M, 4 | M, M, M}, {0, 4 | M, 0, M}};
static zl_cut words = {.kind = ZL_CUT_EXPRESSION, .n_classes = 3, .n_states = 5, .classes = classes, .next = automaton[0]};

/* Characters of 1 to 4 bytes; all but x and space are OTHER, e-acute and the last one are digits, o is what may not come after. */
static const char *const characters[] = {"x", " ", "o", "\xc3\xa9", "\xe4\xb8\x96", "\xf0\x9f\x99\x82"};

static void prepare(void) {
    memset(classes, OTHER, sizeof classes);
    memset(digits, 0, sizeof digits);
    classes['x'] = LETTER, classes[' '] = SPACE;
    digits[0xe9] = digits[0x1f642] = 1, digits['o'] = 2;
}

/* -> bytes; starts [count + 1], kinds [count] of the characters */
static int64_t random_text(uint8_t *text, int *count, int64_t *starts, int *kinds) {
    int64_t n = 0;
    *count = 0;
    for (int run = (int)below(30); run > 0; run--) {
        const int kind = (int)below(6);
        for (int k = (int)below(6); k >= 0; k--) {
            starts[*count] = n, kinds[(*count)++] = kind;
            memcpy(text + n, characters[kind], strlen(characters[kind]));
            n += (int64_t)strlen(characters[kind]);
        }
    }
    starts[*count] = n;
    return n;
}

static int is_digit(int kind) { return kind == 3 || kind == 5; }

/* Word numbers of characters, by the rule itself: neighbours with the same number are in one word. */
static void expect(const zl_cut *cut, const int *kinds, int begin, int end, int *word, int *next) {
    for (int i = begin; i < end; ) {
        int j = i;
        if (cut->kind == ZL_CUT_EXPRESSION) {
            while (j < end && kinds[j] == kinds[i]) j++;
            if (kinds[i] > 1) while (j < end && kinds[j] > 1) j++; /* no match: all that lies between is one word */
            if (kinds[i] == 1 && j < end && j - i > 1) j--;
        } else if (cut->kind == ZL_CUT_TAIL) {
            int tail = end;
            while (tail > i && is_digit(kinds[tail - 1])) tail--;
            j = tail > i ? tail : end;
        } else {
            int run = i; /* of digits, that is cut */
            for (;;) {
                while (run < end && !is_digit(kinds[run])) run++;
                int after = run;
                while (after < end && is_digit(kinds[after])) after++;
                if (run == end || after == end || kinds[after] != 2) {
                    const int joined = cut->kind == ZL_CUT_THREES_JOINED, first = run + (after - run) % 3;
                    if (run == end) j = end;
                    else if (!joined && run > i) j = run;
                    else if (first > i) j = first;
                    else if (after - i > 3) j = i + 3;
                    else if (!joined) j = after;
                    else { /* goes on to the next cut */
                        run = after;
                        int k = run;
                        for (;;) {
                            while (k < end && !is_digit(kinds[k])) k++;
                            int z = k;
                            while (z < end && is_digit(kinds[z])) z++;
                            if (k == end) { j = end; break; }
                            if ((z == end || kinds[z] != 2) && z - k >= 3) { j = k + (z - k) % 3; break; }
                            k = z;
                        }
                    }
                    if (joined && run < end && first > i && after - run < 3 && j == first) { run = after; continue; }
                    break;
                }
                run = after;
            }
        }
        for (; i < j; i++) word[i] = *next;
        ++*next;
    }
}

static void test_cuts(void) {
    static uint8_t text[MAX * 4];
    static int64_t starts[MAX + 1];
    static int kinds[MAX], word[MAX], other[MAX];
    static int32_t ends[MAX * 4];
    zl_cut cuts[2];
    for (int round = 0; round < 4000; round++) {
        int count, next = 0;
        int64_t n = random_text(text, &count, starts, kinds), n_ends = -1;
        for (int k = 0; k < 2; k++) {
            cuts[k] = words;
            cuts[k].kind = (int)below(4);
            if (cuts[k].kind != ZL_CUT_EXPRESSION) cuts[k].classes = digits;
        }
        if (cuts[0].kind == ZL_CUT_TAIL) cuts[0].kind = ZL_CUT_THREES; /* its class 2 is no matter */
        const int n_cuts = 1 + (int)below(2);
        CHECK(zl_cuts_check(cuts, n_cuts) == ZL_OK, "check");
        CHECK(zl_split(cuts, n_cuts, text, n, ends, &n_ends) == ZL_OK, "split");
        expect(cuts, kinds, 0, count, word, &next);
        if (n_cuts == 2) {
            int all = 0;
            for (int i = 0, j; i < count; i = j) {
                for (j = i; j < count && word[j] == word[i]; j++) {}
                expect(cuts + 1, kinds, i, j, other, &all);
            }
            memcpy(word, other, sizeof word);
        }
        int64_t at = 0;
        for (int i = 1; i <= count; i++)
            if (i == count || word[i] != word[i - 1]) {
                CHECK(at < n_ends && ends[at] == starts[i], "round %d, cuts %d %d: word %lld", round, cuts[0].kind, cuts[1].kind, (long long)at);
                at++;
            }
        CHECK(at == n_ends, "round %d: %lld words, not %lld", round, (long long)n_ends, (long long)at);
    }
}

/* x+o|x : a run of x with an o after it, else each x alone, and what lies between. All of a run is read for the o that does not come. */
static const uint16_t far_ahead[5][4] = {{0}, {2, 0, 0, 0}, {3 | M, M, 4 | M, M}, {3, 0, 4, 0}, {M, M, M, M}};

static void test_looking_far(void) {
    static uint8_t text[MAX];
    static int32_t ends[MAX], want[MAX];
    zl_cut cut = words;
    cut.next = far_ahead[0], cut.n_states = 5;
    CHECK(zl_cuts_check(&cut, 1) == ZL_OK, "check");
    for (int round = 0; round < 2000; round++) {
        int n = 0, count = 0;
        int64_t n_ends = -1;
        for (int k = (int)below(12); k > 0; k--) {
            for (int run = (int)below(9); run > 0; run--) text[n++] = 'x';
            text[n++] = (uint8_t)" o"[below(2)];
        }
        for (int i = 0; i < n; ) {
            int run = i;
            while (run < n && text[run] == 'x') run++;
            if (run == i) { /* what lies between */
                while (i < n && text[i] != 'x') i++;
                want[count++] = i;
            } else if (run < n && text[run] == 'o') {
                want[count++] = i = run + 1;
            } else {
                while (i < run) want[count++] = ++i;
            }
        }
        CHECK(zl_split(&cut, 1, text, n, ends, &n_ends) == ZL_OK && n_ends == count && !memcmp(ends, want, (size_t)count * sizeof *ends),
              "round %d: %lld words, not %d", round, (long long)n_ends, count);
    }
    /* (?:-zxqy|z)x*q|[-zqyx] : the search from - comes into the state of x*q behind the place where that from z leaves it */
    static const uint16_t late[9][7] = {{0}, {0, 2, 6, 8, 8, 8, 0}, {M, M, 3 | M, M, M, M, M}, {0, 0, 0, 0, 0, 4, 0}, {0, 0, 0, 5, 0, 0, 0},
                                        {0, 0, 0, 0, 7, 0, 0}, {M, M, M, 8 | M, M, 7 | M, M}, {0, 0, 0, 8, 0, 7, 0}, {M, M, M, M, M, M, M}};
    static uint8_t six[ZL_CODE_POINTS];
    for (uint8_t i = 1; i < 6; i++) six[(uint8_t)"?-zqyx"[i]] = i;
    static const int32_t six_ends[] = {1, 4, 5, 6, 7, 8};
    int64_t n_ends = -1;
    cut = (zl_cut){.kind = ZL_CUT_EXPRESSION, .n_classes = 6, .n_states = 9, .classes = six, .next = late[0]};
    CHECK(zl_cuts_check(&cut, 1) == ZL_OK && zl_split(&cut, 1, (const uint8_t *)"-zxqyxxx", 8, ends, &n_ends) == ZL_OK && n_ends == 6 &&
              !memcmp(ends, six_ends, sizeof six_ends), "%lld words", (long long)n_ends);
}

/* What is no UTF-8 is read byte by byte; nothing after the text is. */
static void test_bad_text(void) {
    static const struct { const char *text; int n; int32_t ends[4]; int n_ends; } cases[] = {
        {"x\xff\xffx", 4, {1, 3, 4}, 3},        {"x\xc3", 2, {1, 2}, 2},           {"x\xe4\xb8x", 4, {1, 3, 4}, 3},
        {"x\xc0\xa0x", 4, {1, 3, 4}, 3},        {"x\xf4\x90\x80\x80x", 6, {1, 5, 6}, 3}, {"\xf0\x9f\x99", 3, {3}, 1},
        {"x\xe0\x80\xa0x", 5, {1, 4, 5}, 3},    {"", 0, {0}, 0},
        {"x\xe0\x81\xb8x", 5, {1, 4, 5}, 3}, /* an x in three bytes is none */
    };
    zl_cut cut = words;
    CHECK(zl_cuts_check(&cut, 1) == ZL_OK, "check");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t ends[8];
        int64_t n_ends = -1;
        uint8_t *text = malloc((size_t)cases[i].n + 1); /* its very end, for the sanitizer */
        memcpy(text, cases[i].text, (size_t)cases[i].n);
        uint8_t *tight = realloc(text, cases[i].n ? (size_t)cases[i].n : 1);
        CHECK(zl_split(&cut, 1, tight, cases[i].n, ends, &n_ends) == ZL_OK && n_ends == cases[i].n_ends &&
                  !memcmp(ends, cases[i].ends, (size_t)n_ends * sizeof *ends), "case %zu", i);
        free(tight);
    }
    int32_t half[8]; /* a letter that a text ends within, and that would be whole behind it */
    int64_t n_half = -1;
    classes[0xe9] = LETTER;
    CHECK(zl_split(&cut, 1, (const uint8_t *)"x\xc3\xa9", 2, half, &n_half) == ZL_OK && n_half == 2 && half[0] == 1 && half[1] == 2, "half a letter");
    classes[0xe9] = OTHER;
    digits[0xfffd] = 1; /* a tail of two bytes that are no characters */
    zl_cut tail = {.kind = ZL_CUT_TAIL, .classes = digits};
    int32_t ends[8];
    int64_t n_ends;
    CHECK(zl_cuts_check(&tail, 1) == ZL_OK && zl_split(&tail, 1, (const uint8_t *)"x\x80\x80", 3, ends, &n_ends) == ZL_OK && n_ends == 2 && ends[0] == 1, "tail");
    digits[0xfffd] = 0;
}

static void test_errors(void) {
    int32_t ends[4];
    int64_t n_ends;
    const uint8_t *text = (const uint8_t *)"xx";
    uint16_t bad_next[8] = {0, 0, 0, 0, 2, 0, 0, 0};
    zl_cut cut = words;
    CHECK(zl_split(&cut, 1, text, 2, ends, &n_ends) == ZL_E_ARG && strstr(zl_error(), "not been checked"), "unchecked");
    CHECK(zl_cuts_check(NULL, 1) == ZL_E_ARG && zl_cuts_check(&cut, 0) == ZL_E_ARG && zl_cuts_check(&cut, 17) == ZL_E_ARG, "no cuts");
    cut = words, cut.kind = 4;
    CHECK(zl_cuts_check(&cut, 1) == ZL_E_ARG, "kind");
    cut = words, cut.kind = -1;
    CHECK(zl_cuts_check(&cut, 1) == ZL_E_ARG, "kind");
    cut = words, cut.next = NULL;
    CHECK(zl_cuts_check(&cut, 1) == ZL_E_ARG, "no automaton");
    cut = words, cut.classes = NULL;
    CHECK(zl_cuts_check(&cut, 1) == ZL_E_ARG, "no classes");
    cut = words, cut.n_classes = 2;
    CHECK(zl_cuts_check(&cut, 1) == ZL_E_BOUNDS && strstr(zl_error(), "class 2 of 2"), "a class too many");
    cut = words, cut.n_classes = 257;
    CHECK(zl_cuts_check(&cut, 1) == ZL_E_SHAPE, "classes");
    cut = words, cut.n_states = 1;
    CHECK(zl_cuts_check(&cut, 1) == ZL_E_SHAPE, "states");
    cut = words, cut.n_states = 2, cut.next = bad_next;
    CHECK(zl_cuts_check(&cut, 1) == ZL_E_BOUNDS && strstr(zl_error(), "state 2 of 2"), "a state too many");
    cut = words;
    CHECK(zl_cuts_check(&cut, 1) == ZL_OK, "check");
    CHECK(zl_split(NULL, 1, text, 2, ends, &n_ends) == ZL_E_ARG && zl_split(&cut, 1, NULL, 2, ends, &n_ends) == ZL_E_ARG &&
              zl_split(&cut, 1, text, 2, NULL, &n_ends) == ZL_E_ARG && zl_split(&cut, 1, text, 2, ends, NULL) == ZL_E_ARG, "null pointers");
    CHECK(zl_split(&cut, 1, text, -1, ends, &n_ends) == ZL_E_SHAPE && zl_split(&cut, 1, text, INT32_MAX, ends, &n_ends) == ZL_E_SHAPE, "length");
    CHECK(zl_split(&cut, 0, text, 2, ends, &n_ends) == ZL_E_ARG && zl_split(&cut, -1, text, 2, ends, &n_ends) == ZL_E_ARG &&
              zl_split(&cut, 17, text, 2, ends, &n_ends) == ZL_E_ARG, "numbers of cuts");
}

int selftest_words(zl_ctx *ctx) {
    (void)ctx;
    failures = 0;
    prepare();
    test_cuts();
    test_looking_far();
    test_bad_text();
    test_errors();
    return failures;
}
