/* selftest_json_schema.c - the machine that asks what a byte does: against a parser of a small language, and a stack that counts; what is kept,
 * and what is refused. */
#include "selftest.h"
#include "../core/grammar_machine.h"

static int failures;
static uint64_t seed = 88172645463325252u;
static uint32_t below(uint32_t n) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

enum { GO, PUSH, POP, OVER };
static int32_t entry(int32_t n, int kind) { return n * 4 + kind; }

/* ---- numbers in lists: all items of a list are numbers, or all are lists of numbers ---------------------------------------------- */

enum { DOCUMENT, LAST, DIGITS, OPEN, FIRST, NUMBERS, NUMBER_NEXT, NUMBER_WAITS, LISTS, LIST_NEXT, LIST_WAITS, N_PLACES };
static int rows_asked[N_PLACES], ends_asked[N_PLACES][3], refuse_row, refuse_end;

/* A value begins: digits or a list, while `frame` waits. */
static void begin(int32_t *row, int32_t *pairs, int32_t frame) {
    for (int b = '0'; b <= '9'; b++) row[b] = entry(0, PUSH);
    row['['] = entry(1, PUSH);
    pairs[0] = DIGITS, pairs[1] = frame, pairs[2] = OPEN, pairs[3] = frame;
}

static int lists_row(void *who, int32_t place, int32_t *row, int32_t *pairs) {
    if (refuse_row) return 1;
    rows_asked[place]++;
    *(int32_t *)who += 1;
    for (int b = 0; b < 257; b++) row[b] = -1;
    if (place == DOCUMENT) begin(row, pairs, DOCUMENT);
    if (place == DIGITS) {
        for (int b = 0; b < 257; b++) row[b] = entry(0, OVER);
        for (int b = '0'; b <= '9'; b++) row[b] = entry(DIGITS, GO);
        row[256] = 0;
    }
    if (place == OPEN) begin(row, pairs, FIRST);
    if (place == NUMBER_NEXT) begin(row, pairs, NUMBER_WAITS);
    if (place == LIST_NEXT) begin(row, pairs, LIST_WAITS);
    if (place == NUMBERS) row[','] = entry(NUMBER_NEXT, GO), row[']'] = entry(1, POP);
    if (place == LISTS) row[','] = entry(LIST_NEXT, GO), row[']'] = entry(2, POP);
    return 0;
}

static int lists_after(void *who, int32_t frame, int32_t result, int32_t *place) {
    (void)who;
    if (refuse_end) return 1;
    ends_asked[frame][result]++;
    *place = -1;
    if (frame == DOCUMENT) *place = LAST;
    if (frame == FIRST && result < 2) *place = result ? LISTS : NUMBERS;
    if (frame == NUMBER_WAITS && result == 0) *place = NUMBERS;
    if (frame == LIST_WAITS && result == 1) *place = LISTS;
    return 0;
}

enum { NEVER = -1, MORE = -2 };
/* What is read at text[*at]: 0 a number, 1 a list of numbers, 2 a list of lists; NEVER, or MORE where the text ends before it. */
static int expect(const char *text, int n, int *at, int depth) {
    if (*at == n) return MORE;
    if (text[*at] >= '0' && text[*at] <= '9') {
        while (*at < n && text[*at] >= '0' && text[*at] <= '9') ++*at;
        return *at == n && depth ? MORE : 0;
    }
    if (text[(*at)++] != '[') return NEVER;
    for (int all = -1;;) {
        int item = expect(text, n, at, depth + 1);
        if (item < 0) return item;
        if (item == 2 || (all >= 0 && item != all)) return NEVER;
        all = item;
        if (*at == n) return MORE;
        char c = text[(*at)++];
        if (c == ']') return all ? 2 : 1;
        if (c != ',') return NEVER;
    }
}

static zl_machine *make(zl_json_schema ask) {
    zl_machine *m = NULL;
    CHECK(zl_json_schema_new(&ask, &m) == ZL_OK && m, "new");
    return m;
}

static void test_lists(void) {
    int32_t calls = 0;
    zl_json_schema ask = {.who = &calls, .row = lists_row, .after = lists_after, .first = DOCUMENT, .last = LAST, .root = -1};
    zl_machine *m = make(ask);
    memset(rows_asked, 0, sizeof rows_asked);
    memset(ends_asked, 0, sizeof ends_asked);
    for (int round = 0; round < 4000; round++) {
        char text[24];
        int32_t state = m->start;
        for (int n = 0; n < (int)sizeof text; n++) {
            int at = 0, whole = n ? expect(text, n, &at, 0) : MORE, done = 0;
            CHECK(zl_machine_finished(m, state, &done) == ZL_OK && done == (whole >= 0 && at == n), "finished %.*s", n, text);
            text[n] = "01[],["[below(6)];
            if (below(60) == 0) text[n] = 'x';
            at = 0;
            whole = expect(text, n + 1, &at, 0);
            int alive = whole == MORE || (whole >= 0 && at == n + 1);
            int32_t next = zl_machine_step(m, state, (uint8_t)text[n]);
            CHECK((next >= 0) == alive && next >= ZL_DEAD, "%.*s leads to %d", n + 1, text, next);
            if (next < 0) break;
            state = next;
        }
    }
    /* Asked once: rows of places that a text can be at, and of frames none; ends of each frame and result. */
    for (int p = 0; p < N_PLACES; p++) {
        int frame = p == FIRST || p == NUMBER_WAITS || p == LIST_WAITS;
        CHECK(rows_asked[p] == !frame, "row of place %d asked %d times", p, rows_asked[p]);
        for (int r = 0; r < 3; r++) CHECK(ends_asked[p][r] <= 1, "end of %d with %d asked %d times", p, r, ends_asked[p][r]);
    }
    CHECK(calls == N_PLACES - 3, "%d calls", calls);
    CHECK(m->n_states > 20 && m->n_states < 200, "%d states", m->n_states); /* a few for each depth, of which there are 24 */
    zl_machine_free(m);
}

/* ---- a stack that counts: place n, an 'a' leads to n + 1, a '(' into a value, a ')' out of it ------------------------------------- */

enum { MANY = 100000 };
static int count_row(void *who, int32_t place, int32_t *row, int32_t *pairs) {
    (void)who;
    for (int b = 0; b < 257; b++) row[b] = -1;
    row['a'] = entry(place + 1, GO);
    row['('] = entry(0, PUSH), pairs[0] = 0, pairs[1] = place;
    row[')'] = entry(place & 1, POP);
    return 0;
}

static int count_after(void *who, int32_t frame, int32_t result, int32_t *place) {
    (void)who;
    *place = frame + 1 + result;
    return 0;
}

static void test_counting(void) {
    static struct {
        int n, stack[16];
        int32_t state;
    } seen[6000];
    int n_seen = 0;
    zl_json_schema ask = {.row = count_row, .after = count_after, .first = 0, .last = MANY, .root = -1};
    zl_machine *m = make(ask);
    const int32_t first_value = zl_machine_step(m, m->start, '(');
    for (int round = 0; round < 300; round++) {
        int stack[16] = {0}, n = 1; /* the places from the outermost value on; the last is where the text is */
        int32_t state = m->start;
        for (int i = 0; i < 60; i++) {
            uint32_t what = below(8);
            uint8_t byte = what < 3 ? '(' : what < 5 ? ')' : 'a';
            if ((byte == '(' && n == 16) || (byte == ')' && n == 1)) byte = 'a';
            if (byte == 'a') stack[n - 1]++;
            else if (byte == '(') stack[n++] = 0;
            else {
                int result = stack[--n] & 1;
                stack[n] = 0;
                stack[n - 1] += 1 + result;
            }
            int32_t next = zl_machine_step(m, state, byte);
            CHECK(next >= 0, "%c leads to %d", byte, next);
            if (next < 0) break;
            state = next;
            int k = 0;
            while (k < n_seen && (seen[k].n != n || memcmp(seen[k].stack, stack, sizeof stack))) k++;
            if (k < n_seen) {
                CHECK(seen[k].state == state, "the same stack is state %d and %d", seen[k].state, state);
            } else if (n_seen < 6000) {
                for (k = 0; k < n_seen; k++) CHECK(seen[k].state != state, "two stacks are state %d", state);
                seen[n_seen].n = n, seen[n_seen].state = state;
                memcpy(seen[n_seen++].stack, stack, sizeof stack);
            }
        }
    }
    CHECK(n_seen > 3000 && m->n_states >= n_seen, "%d stacks, %d states", n_seen, m->n_states);
    /* Beside what is kept of it: the first stack is found again after the tables have grown. */
    CHECK(m->step(m, m->start, '(') == first_value, "the first stack");
    int64_t used = 0, states = 0;
    CHECK(zl_machine_limit(m, 0, 0, &used, &states) == ZL_OK && used > states * 16, "%lld bytes for %lld states", (long long)used, (long long)states);
    /* No more memory: a budget, and what is known goes on working. */
    CHECK(zl_machine_limit(m, used, 0, &used, &states) == ZL_OK, "limit");
    int32_t state = m->start, status = 0;
    for (int i = 0; i < MANY && state >= 0; i++) state = zl_machine_step(m, state, 'a');
    CHECK(state == ZL_BUDGET, "%d", state);
    status = zl_machine_fail(m);
    CHECK(status == ZL_E_BUDGET && strstr(zl_error(), "bytes of memory"), "%d", status);
    zl_machine_free(m);
}

/* ---- what is refused --------------------------------------------------------------------------------------------------------------- */

static int32_t bad_entry, bad_pair[2] = {0, 0}, bad_after;
static int bad_row(void *who, int32_t place, int32_t *row, int32_t *pairs) {
    (void)who, (void)place;
    for (int b = 0; b < 257; b++) row[b] = -1;
    row['a'] = bad_entry, row['('] = entry(0, PUSH), row[')'] = entry(0, POP);
    pairs[0] = bad_pair[0], pairs[1] = bad_pair[1];
    return 0;
}
static int bad_end(void *who, int32_t frame, int32_t result, int32_t *place) {
    (void)who, (void)frame, (void)result;
    *place = bad_after;
    return 0;
}

/* What a byte gives that a bad answer is asked for: ZL_BUDGET, with its text. */
static void refused(const char *text, const char *why) {
    zl_json_schema ask = {.row = bad_row, .after = bad_end, .first = 0, .last = 1, .root = -1};
    zl_machine *m = make(ask);
    int32_t state = m->start;
    for (; *text && state >= 0; text++) state = zl_machine_step(m, state, (uint8_t)*text);
    CHECK(state == ZL_BUDGET && zl_machine_fail(m) == ZL_E_BUDGET && strstr(zl_error(), "places"), "%s: %d", why, state);
    zl_machine_free(m);
}

static void test_refused(void) {
    zl_machine *m = NULL;
    zl_json_schema ask = {.row = lists_row, .after = lists_after, .first = DOCUMENT, .last = LAST, .root = -1}, bad = ask;
    CHECK(zl_json_schema_new(NULL, &m) == ZL_E_ARG && zl_json_schema_new(&ask, NULL) == ZL_E_ARG, "null pointers");
    bad.row = NULL;
    CHECK(zl_json_schema_new(&bad, &m) == ZL_E_ARG, "no row");
    bad = ask, bad.after = NULL;
    CHECK(zl_json_schema_new(&bad, &m) == ZL_E_ARG, "no after");
    bad = ask, bad.first = -1;
    CHECK(zl_json_schema_new(&bad, &m) == ZL_E_BOUNDS && strstr(zl_error(), "places -1 and 1"), "first");
    bad = ask, bad.last = -1;
    CHECK(zl_json_schema_new(&bad, &m) == ZL_E_BOUNDS, "last");

    bad_entry = entry(-1, GO);
    refused("a", "an entry below -1");
    bad_entry = entry(256, PUSH);
    refused("a", "a pair that there is not");
    bad_entry = entry(0, GO), bad_pair[0] = -1;
    refused("a", "a child below 0");
    bad_pair[0] = 0, bad_pair[1] = -1;
    refused("a", "a frame below 0");
    bad_pair[1] = 0;
    refused(")", "an end without a beginning");
    bad_after = -2;
    refused("()", "a place after below -1");

    /* Whoever is asked fails once: the same byte works afterwards. */
    int32_t calls = 0, done = 0;
    ask.who = &calls;
    m = make(ask);
    refuse_row = 1;
    CHECK(zl_machine_step(m, m->start, '[') == ZL_BUDGET && zl_machine_fail(m) == ZL_E_BUDGET, "a row that fails");
    CHECK(zl_machine_finished(m, m->start, &done) == ZL_OK && !done, "finished");
    refuse_row = 0;
    int32_t list = zl_machine_step(m, m->start, '['), number = zl_machine_step(m, list, '1');
    CHECK(list >= 0 && number >= 0, "states %d, %d", list, number);
    refuse_end = 1;
    CHECK(zl_machine_step(m, number, ',') == ZL_BUDGET && zl_machine_step(m, number, ',') == ZL_BUDGET, "an end that fails");
    refuse_end = 0;
    int32_t next = zl_machine_step(m, number, ',');
    CHECK(next >= 0, "%d", next);
    int32_t second = zl_machine_step(m, next, '2'), third = zl_machine_step(m, zl_machine_step(m, second, ','), '3');
    CHECK(second >= 0 && second == third && second != number, "the same place in the same list: %d, %d", second, third);
    CHECK(zl_machine_step(m, number, ']') >= 0 && zl_machine_step(m, number, 'x') == ZL_DEAD, "afterwards");
    zl_machine_free(m);
}

/* Sevens, which no byte ends: that they may end is only asked. Place 0 is before them, 1 within, 2 after. */
static int sevens_row(void *who, int32_t place, int32_t *row, int32_t *pairs) {
    (void)who;
    if (refuse_row) return 1;
    for (int b = 0; b < 257; b++) row[b] = -1;
    row['7'] = place ? entry(1, GO) : entry(0, PUSH);
    pairs[0] = 1, pairs[1] = 0;
    row[256] = place == 1 ? 0 : -1;
    return 0;
}
static int sevens_after(void *who, int32_t frame, int32_t result, int32_t *place) {
    (void)who, (void)frame, (void)result;
    *place = 2;
    return refuse_end;
}

/* Whether a text may end is asked too, and is no "no" where there was no answer. */
static void test_no_answer(void) {
    int32_t done = -1, after = 0, one = 0;
    uint8_t out[4], data[] = "7";
    int64_t offsets[] = {0, 1, 1}, n = 0;
    uint32_t mask = 0;
    zl_vocabulary *v = NULL;
    CHECK(zl_vocabulary_new(data, offsets, 2, (int32_t[]){1}, 1, &v) == ZL_OK, "vocabulary");
    zl_json_schema ask = {.row = sevens_row, .after = sevens_after, .first = 0, .last = 2, .root = -1};
    zl_machine *m = make(ask);
    int32_t number = zl_machine_step(m, m->start, '7');
    refuse_row = 1;
    CHECK(zl_machine_finished(m, number, &done) == ZL_E_BUDGET && done == -1, "no row: %d", done);
    CHECK(zl_machine_forced(m, number, out, 4, &n, &after) == ZL_E_BUDGET, "no row, forced");
    refuse_row = 0, refuse_end = 1;
    CHECK(zl_machine_step(m, number, '7') == number, "sevens");
    CHECK(zl_machine_finished(m, number, &done) == ZL_E_BUDGET && done == -1 && strstr(zl_error(), "places"), "no end: %d", done);
    CHECK(zl_machine_forced(m, number, out, 4, &n, &after) == ZL_E_BUDGET, "no end, forced");
    CHECK(zl_vocabulary_mask(v, m, number, &mask, &n, &one) == ZL_E_BUDGET, "no end, mask");
    refuse_end = 0;
    CHECK(zl_machine_finished(m, number, &done) == ZL_OK && done == 1, "at last: %d", done);
    CHECK(zl_vocabulary_mask(v, m, number, &mask, &n, &one) == ZL_OK && mask == 3, "mask %x", mask);
    zl_machine_free(m);
    zl_vocabulary_free(v);
}

int selftest_json_schema(zl_ctx *ctx) {
    (void)ctx;
    failures = 0;
    test_lists();
    test_counting();
    test_refused();
    test_no_answer();
    return failures;
}
