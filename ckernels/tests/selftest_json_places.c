/* selftest_json_places.c - the places of JSON that C knows by itself: documents of a small schema, told by hand; what is kept, what is refused,
 * what happens when whoever is asked gives no answer or a wrong one, and when there is no more memory. */
#include "selftest.h"
#include "../core/grammar_machine.h"

static int failures;

enum { GO, PUSH, POP, OVER };
static int32_t entry(int32_t n, int kind) { return n * 4 + kind; }

static zl_machine *make(zl_json_schema ask) {
    zl_machine *m = NULL;
    CHECK(zl_json_schema_new(&ask, &m) == ZL_OK && m, "new");
    return m;
}

static int told_after(void *who, int32_t frame, int32_t result, int32_t *place) { /* never asked: all frames are C's own */
    (void)who, (void)frame, (void)result;
    *place = -1;
    return 1;
}

/* An object of four names, whose values are literals, a string of a length, an array, a string that is listened to,
 * a number; the document's value is the object. */

enum { CONTROL, A, AB, ACCENT, N_NAMES, DIGITS_PLACE = 7 };
static struct {
    zl_machine *m;
    int asked[7][64], refuse, wrong, counted; /* how often each thing was asked for; what is asked that fails, or is answered wrongly */
    int32_t list, second, names[16];
} told;

static int32_t name_place(int seen) {
    int32_t results[N_NAMES];
    for (int i = 0; i < N_NAMES; i++) results[i] = seen >> i & 1 ? -1 : i;
    zl_json_text text = {.list = told.list, .other = -1, .first = -1, .results = results, .automaton = -1};
    if (told.names[seen] < 0 && zl_json_schema_text(told.m, &text, &told.names[seen])) return -2; /* no memory */
    return told.names[seen];
}

static int told_say(void *who, int32_t what, int32_t a, int32_t b, int32_t c, int32_t *out) {
    (void)who;
    told.asked[what][a & 63]++;
    told.counted++;
    if (what == told.refuse) return 1;
    if (what == ZL_SAY_PLAN) {
        for (int i = 0; i < ZL_SAY_MOST_OF_PLAN; i++) out[i] = -1;
        zl_json_text length = {.list = ZL_TEXT_FREE, .least = 1, .most = 2, .other = 9, .first = -1, .automaton = -1};
        zl_json_text heard = {.list = ZL_TEXT_ASKED, .other = -1, .first = 0, .automaton = -1};
        if (a == 4) out[16] = 0;
        if (a == CONTROL) out[0] = 3, out[1] = 4;
        if (a == A && zl_json_schema_text(told.m, &length, &out[14])) return 1;
        int32_t three[N_NAMES] = {3, 3, 3, 3}; /* one of the list, or what is listened to */
        zl_json_text either = {.list = told.second, .other = -1, .first = 0, .results = three, .automaton = -1};
        if (a == CONTROL && zl_json_schema_text(told.m, &either, &out[14])) return 1;
        if (a == AB) out[15] = 0;
        if (a == ACCENT && zl_json_schema_text(told.m, &heard, &out[14])) return 1;
        if (a == ACCENT) out[5] = DIGITS_PLACE;
    }
    if (what == ZL_SAY_OBJECT) out[0] = a >> A & 1 ? 5 : -1, out[1] = a == 15 ? -1 : name_place(a);
    if (what == ZL_SAY_VALUE) out[0] = b;
    if (what == ZL_SAY_ARRAY) out[0] = a == 1 ? -1 : 6, out[1] = a < 3 ? CONTROL : -1;
    if (what == ZL_SAY_PROPERTY_END) out[0] = b == CONTROL && c == 4 ? -1 : a | 1 << b;
    if (what == ZL_SAY_ITEM_END) out[0] = a + 1;
    if (what == ZL_SAY_LISTENER) { /* pairs of p and q; after an x whatever there is */
        for (int i = 0; i < 258; i++) out[i] = -1;
        if (a == 0) out['p'] = out['a'] = 1, out['x'] = 2, out[256] = 8;
        if (a == 1) out['q'] = 0, out[0xc3] = 3;
        if (a == 3) out[0xa9] = 0;
        if (a == 2) out[257] = 2, out[256] = 8;
    }
    if (what == told.wrong) out[0] = what == ZL_SAY_PLAN ? -2 : what == ZL_SAY_OBJECT ? 1 << 28 : -2;
    return 0;
}

static int told_row(void *who, int32_t place, int32_t *row, int32_t *pairs) {
    (void)who, (void)pairs;
    for (int b = 0; b < 257; b++) row[b] = entry(8, OVER);
    for (int b = '0'; b <= '9'; b++) row[b] = entry(place, GO);
    row[256] = 8;
    return place != DIGITS_PLACE;
}

static zl_machine *make_told(void) {
    static const uint8_t names[] = "\naab\xc3\xa9";
    static const int64_t offsets[] = {0, 1, 2, 4, 6};
    memset(&told, 0, sizeof told);
    told.refuse = told.wrong = -1;
    for (int i = 0; i < 16; i++) told.names[i] = -1;
    told.m = make((zl_json_schema){.row = told_row, .after = told_after, .say = told_say, .root = 4});
    static const uint8_t texts[] = "/aab\xc3\xa9";
    CHECK(zl_json_schema_list(told.m, names, offsets, N_NAMES, &told.list) == ZL_OK && told.list == 0, "list");
    CHECK(zl_json_schema_list(told.m, texts, offsets, N_NAMES, &told.second) == ZL_OK && told.second == 1, "list");
    return told.m;
}

/* How many bytes of a text are read, and whether it is a whole document. */
static int reads(zl_machine *m, const char *text, int *done) {
    int64_t n = 0;
    int32_t state = 0;
    CHECK(zl_machine_read(m, m->start, (const uint8_t *)text, (int64_t)strlen(text), &n, &state) == ZL_OK, "read %s", text);
    CHECK(zl_machine_finished(m, state, done) == ZL_OK, "finished");
    return (int)n;
}

/* Documents that are read whole, and what is read up to the byte that is refused. */
static void check_told(zl_machine *m) {
    static const char *const good[] = {
        "{\"a\":\"x\"}",
        " \t\n\r{ \"a\" : \"xy\" , \"ab\" : [ null , null ] }",
        "{\"a\":\"\xc3\xa9\xe2\x82\xac\"}",
        "{\"a\":\"\xf0\x9f\x98\x80\x7f\"}",
        "{\"a\":\"\xe0\xa0\x80\xed\x9f\xbf\"}",
        "{\"a\":\"\xf4\x8f\xbf\xbf\xf1\x80\x80\x80\"}",
        "{\"a\":\"\\n\\u00Fe\"}",
        "{\"a\":\"\\uD83d\\uDe00\\/\"}",
        "{\"a\":\"\\ud7ffb\"}",
        "{\"a\":\"\\uabcd\\u0dc0\"}",
        "{\"\\n\":null,\"a\":\"x\"}",
        "{\"\\u000A\":null,\"a\":\"x\"}",
        "{\"\xc3\xa9\":\"pqp\xc3\xa9\",\"a\":\"x\"}",
        "{\"\xc3\xa9\":\"x\\ud83d\\ude00\xe2\x82\xac\",\"a\":\"x\"}",
        "{\"\xc3\xa9\":101,\"a\":\"x\"}",
        "{\"\xc3\xa9\":1 ,\"a\":\"x\"}",
        "{\"a\":\"x\",\"ab\":[],\"\\n\":null,\"\xc3\xa9\":\"\"}",
        "{\"\\n\":\"ab\",\"a\":\"x\"}",
        "{\"\\n\":\"\\/\",\"a\":\"x\"}",
        "{\"\\n\":\"aq\",\"a\":\"x\"}",
        "{\"\\n\":\"\xc3\xa9\",\"a\":\"x\"}",
        "{\"\\n\":\"pqxyz\",\"a\":\"x\"}",
    };
    /* Each up to the byte that is refused. */
    static const char *const bad[] = {
        "{\"a\":\"xyz", "{\"a\":\"\"", "{\"a\":\"\xc3x", "{\"a\":\"\xe0\x9f", "{\"a\":\"\xed\xa0", "{\"a\":\"\xf4\x90", "{\"a\":\"\xf0\x8f", "{\"a\":\"\xc1",
        "{\"a\":\"\xf5", "{\"a\":\"\x80", "{\"a\":\"\x1f", "{\"a\":\"\\x", "{\"a\":\"\\udc", "{\"a\":\"\\ud800x", "{\"a\":\"\\ud800\\n", "{\"a\":\"\\ud800\\ue",
        "{\"a\":\"\\ud800\\udb", "{\"a\":\"\\u00g", "{\"a\":\"xy\\", "{\"\\u000b", "{\"\\u001", "{\"\\u1", "{\"\\t", "{\"\\n\":true",
        "{\"\\n\":f", "{\"\\n\":nuu", "{\"a\\", "{\"b", "{\"ac", "{\"\xc3\xa9\":\"p\"", "{\"\xc3\xa9\":\"pp", "{\"\xc3\xa9\":\"\\", "{\"\xc3\xa8",
        "{\"\xc3\xa9\":0", "{\"\xc3\xa9\":1}", "{\"ab\":[null]", "{\"ab\":[null,null,]", "{\"ab\":[null,null,null,", "{\"ab\":[],}", "{\"ab\":[]}", "{\"ab\":[,", "{\"ab\":[null,]",
        "{\"a\":\"x\",}", "{\"a\":\"x\",\"a\"", "{\"a\":\"x\",\"ab\":[],\"\\n\":null,\"\xc3\xa9\":\"\",", "{}", "{\"a\" \"", "{\"a\":,", "{,", "[", "{\"a\":\"x\"}x", "{\"a\":\"x\"}]", "{\"a\":\"x\"} ",
        "{\"a\":\"x\",\"ab\":[],\"a", "{\"a\":\"x\"x", "{\"\\n\":\"abq", "{\"\\n\":\"aqab", "{\"\\n\":\"b", "{\"\\n\":\"\\u", "{\"\\n\":\"p\"", "{\"\\n\":\"aqa\"",
    };
    for (int round = 0; round < 2; round++) { /* a second time from what is kept */
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
            int done = 0, n = reads(m, good[i], &done);
            CHECK(n == (int)strlen(good[i]) && done, "%s: %d bytes, %d", good[i], n, done);
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            int done = 0, n = reads(m, bad[i], &done);
            CHECK(n == (int)strlen(bad[i]) - 1, "%s: %d bytes", bad[i], n);
        }
    }
}

/* By the rules alone, without what is entered as refused before they are asked (json_schema_bytes.c): the same. */
static void test_told_by_rules(void) {
    zl_machine *m = make_told();
    m->fresh = NULL;
    check_told(m);
    zl_machine_free(m);
}

static void test_told(void) {
    zl_machine *m = make_told();
    check_told(m);
    for (int what = 0; what < 7; what++)
        for (int a = 0; a < 64; a++) {
            int several = what == ZL_SAY_VALUE || what == ZL_SAY_PROPERTY_END || what == ZL_SAY_ITEM_END;
            CHECK(told.asked[what][a] <= (several ? 8 : 1), "%d of %d asked %d times", what, a, told.asked[what][a]);
        }
    /* Within a string of a length and where all characters lead to the same: it says so; else it does not know. */
    static const struct {
        const char *before, *after;
    } alike[] = {{"{\"a\":\"", "{\"a\":\"x"}, {"{\"a\":\"xy", NULL}, {"{\"a\":\"\xc3", NULL}, {"{\"\xc3\xa9\":\"x", "{\"\xc3\xa9\":\"xx"}, {"{\"\xc3\xa9\":\"", NULL}, {"{", NULL}, {"{\"a", NULL}};
    for (size_t i = 0; i < sizeof alike / sizeof *alike; i++) {
        int64_t n;
        int32_t state = 0, want = ZL_UNKNOWN;
        zl_machine_read(m, m->start, (const uint8_t *)alike[i].before, (int64_t)strlen(alike[i].before), &n, &state);
        if (alike[i].after) zl_machine_read(m, m->start, (const uint8_t *)alike[i].after, (int64_t)strlen(alike[i].after), &n, &want);
        CHECK(m->alike(m, state) == want, "%s: %d, not %d", alike[i].before, m->alike(m, state), want);
    }
    zl_machine_free(m);
}

/* Whatever is asked fails once or is answered wrongly: a budget; and works afterwards. */
static void test_told_wrongly(void) {
    static const char text[] = "{\"\xc3\xa9\":\"pq\",\"ab\":[null],\"a\":\"x\"}";
    for (int what = 0; what < 7; what++)
        for (int wrong = 0; wrong < 2; wrong++) {
            zl_machine *m = make_told();
            int64_t n = 0;
            int32_t state = 0;
            int done = 0;
            *(wrong ? &told.wrong : &told.refuse) = what;
            CHECK(zl_machine_read(m, m->start, (const uint8_t *)text, sizeof text - 1, &n, &state) == ZL_E_BUDGET, "%d: %lld", what, (long long)n);
            CHECK(strstr(zl_error(), "places") != NULL, "%s", zl_error());
            told.refuse = told.wrong = -1;
            CHECK(reads(m, "{\"\xc3\xa9\":\"pq\",\"ab\":[],\"a\":\"x\"}", &done) == 27 && done, "afterwards, %d", what);
            zl_machine_free(m);
        }
    /* No more memory: a budget and no crash, wherever it comes. */
    for (int64_t room = 0; room < 60000; room += 997) {
        zl_machine *m = make_told();
        int64_t used = 0, states = 0, n = 0;
        int32_t state = 0;
        zl_machine_limit(m, 0, 0, &used, &states);
        zl_machine_limit(m, used + room, 0, &used, &states);
        int status = zl_machine_read(m, m->start, (const uint8_t *)text, sizeof text - 1, &n, &state);
        CHECK(status == ZL_OK || status == ZL_E_BUDGET, "%lld more bytes: %d", (long long)room, status);
        zl_machine_free(m);
    }
}

static void test_lists_refused(void) {
    zl_machine *m = make_told(), *other = NULL;
    const uint8_t *data = (const uint8_t *)"abac";
    const int64_t good[] = {0, 2, 4}, same[] = {0, 1, 1}, back[] = {0, 2, 1}, late[] = {1, 2, 4}, down[] = {0, 2, 3}, ones[] = {0, 1, 2};
    int32_t list = -1, place = -1, results[] = {0, 1};
    CHECK(zl_json_schema_list(m, data, good, 2, &list) == ZL_OK && list == 2, "%d", list);
    CHECK(zl_json_schema_list(NULL, data, good, 2, &list) == ZL_E_ARG && zl_json_schema_list(m, NULL, good, 2, &list) == ZL_E_ARG, "null");
    CHECK(zl_json_schema_list(m, data, NULL, 2, &list) == ZL_E_ARG && zl_json_schema_list(m, data, good, 2, NULL) == ZL_E_ARG, "null");
    CHECK(zl_json_schema_list(m, data, good, 0, &list) == ZL_E_SHAPE && zl_json_schema_list(m, data, late, 2, &list) == ZL_E_SHAPE, "shape");
    CHECK(zl_json_schema_list(m, data, back, 2, &list) == ZL_E_BOUNDS && strstr(zl_error(), "text 1 has -1"), "%s", zl_error());
    CHECK(zl_json_schema_list(m, data, same, 2, &list) == ZL_E_ARG && zl_json_schema_list(m, data, down, 2, &list) == ZL_E_ARG, "not ascending");
    CHECK(zl_json_schema_list(m, data + 1, ones, 2, &list) == ZL_E_ARG && strstr(zl_error(), "text 1 is not above"), "%s", zl_error());
    zl_json_text text = {.list = 2, .other = -1, .first = -1, .results = results, .automaton = -1}, bad;
    CHECK(zl_json_schema_text(m, &text, &place) == ZL_OK && place >= 0, "%d", place);
    CHECK(zl_json_schema_text(NULL, &text, &place) == ZL_E_ARG && zl_json_schema_text(m, NULL, &place) == ZL_E_ARG, "null");
    CHECK(zl_json_schema_text(m, &text, NULL) == ZL_E_ARG, "null");
    bad = text, bad.results = NULL;
    CHECK(zl_json_schema_text(m, &bad, &place) == ZL_E_ARG, "no results");
    bad = text, bad.list = 3;
    CHECK(zl_json_schema_text(m, &bad, &place) == ZL_E_BOUNDS && strstr(zl_error(), "list 3 of 3"), "%s", zl_error());
    bad = text, bad.list = -3;
    CHECK(zl_json_schema_text(m, &bad, &place) == ZL_E_BOUNDS, "list");
    bad = text, bad.least = -1;
    CHECK(zl_json_schema_text(m, &bad, &place) == ZL_E_BOUNDS, "least");
    bad = text, bad.most = -2;
    CHECK(zl_json_schema_text(m, &bad, &place) == ZL_E_BOUNDS, "most");
    bad = text, bad.other = -2;
    CHECK(zl_json_schema_text(m, &bad, &place) == ZL_E_BOUNDS, "other");
    bad = text, bad.first = -2;
    CHECK(zl_json_schema_text(m, &bad, &place) == ZL_E_BOUNDS, "first");
    zl_json_schema ask = {.row = told_row, .after = told_after, .root = 0};
    CHECK(zl_json_schema_new(&ask, &other) == ZL_E_ARG, "a root and nobody to ask");
    zl_machine_free(m);
}

/* Strings of a+ and one accent anywhere, of `most` characters; beside them, in an array, the list {"ab"}. */
static struct {
    zl_machine *m;
    int32_t most;
} spelt;

static int spelt_say(void *who, int32_t what, int32_t a, int32_t b, int32_t c, int32_t *out) {
    (void)who, (void)b, (void)c;
    static const int32_t next[] = {-1, 1, 2, -1, -1, 1, 2, -1, -1, -1, -1, 1}, shortest[] = {1, 0, 0}, ends[] = {-1, 8, -1}, listed[] = {3};
    static const int64_t offsets[] = {0, 2};
    uint8_t class_of[256] = {['a'] = 1, [0xc3] = 2, [0xa9] = 3};
    zl_json_automaton given = {.n_states = 3, .n_classes = 4, .class_of = class_of, .next = next, .shortest = shortest};
    zl_json_text text = {.list = ZL_TEXT_ASKED, .most = spelt.most, .other = -1, .first = 0, .ends = ends};
    if (what == ZL_SAY_ARRAY) out[0] = 1, out[1] = 1;
    if (what == ZL_SAY_ITEM_END) out[0] = 0;
    if (what != ZL_SAY_PLAN) return 0;
    for (int i = 0; i < ZL_SAY_MOST_OF_PLAN; i++) out[i] = -1;
    if (zl_json_schema_automaton(spelt.m, &given, &text.automaton)) return 1;
    if (a == 0) out[15] = 0;
    if (a == 1) {
        if (zl_json_schema_list(spelt.m, (const uint8_t *)"ab", offsets, 1, &text.list)) return 1;
        text.results = listed;
    }
    return zl_json_schema_text(spelt.m, &text, &out[14]);
}

/* How much is read of a text after [" or ", and whether it may end there. */
static int64_t spelt_read(const char *text, int *end) {
    int64_t n;
    int32_t at;
    CHECK(zl_machine_read(spelt.m, spelt.m->start, (const uint8_t *)text, (int64_t)strlen(text), &n, &at) == ZL_OK, "%s", zl_error());
    *end = spelt.m->finished(spelt.m, at);
    return n;
}

static void test_automata(void) {
    static const struct {
        int32_t most;
        const char *text;
        int64_t n;
        int end;
    } cases[] = {{-1, "\"aaaa\"", 6, 1}, {-1, "\"\"", 1, 0}, {-1, "\"ab", 2, 0}, {2, "\"aa\"", 4, 1}, {2, "\"aaa", 3, 0}, {2, "\"a\xc3\xa9\"", 5, 1},
                 {1, "\"\xc3\xa9\"", 4, 1}, {1, "\"\xc3\"", 2, 0}, {-1, "[\"ab\",\"a\",\"aa\"]", 15, 1}, {-1, "[\"abb", 4, 0}, {-1, "[\"b", 2, 0},
                 {2, "[\"ab\",\"aaa", 9, 0}, {-1, "[\"\\", 2, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zl_json_schema ask = {.row = told_row, .after = told_after, .say = spelt_say, .root = 0};
        spelt.most = cases[i].most;
        CHECK(zl_json_schema_new(&ask, &spelt.m) == ZL_OK, "%s", zl_error());
        int end;
        int64_t n = spelt_read(cases[i].text, &end);
        CHECK(n == cases[i].n && end == cases[i].end, "%s of %d: %d of %d, end %d", cases[i].text, cases[i].most, (int)n, (int)cases[i].n, end);
        if (i + 1 < sizeof cases / sizeof *cases) zl_machine_free(spelt.m);
    }
    uint8_t class_of[256] = {['a'] = 1};
    int32_t number, next[] = {-1, 1, -1, 1}, shortest[] = {1, 0}, over[] = {-1, 1, 2, 1}, under[] = {-1, 1, -2, 1}, less[] = {1, -1}, ends[] = {-1, 0}, place;
    zl_json_automaton good = {.n_states = 2, .n_classes = 2, .class_of = class_of, .next = next, .shortest = shortest}, bad = good;
    zl_machine *m = spelt.m;
    CHECK(zl_json_schema_automaton(m, &good, &number) == ZL_OK, "%s", zl_error());
    CHECK(zl_json_schema_automaton(NULL, &good, &number) == ZL_E_ARG && zl_json_schema_automaton(m, NULL, &number) == ZL_E_ARG, "null");
    CHECK(zl_json_schema_automaton(m, &good, NULL) == ZL_E_ARG, "null");
    bad.next = over;
    CHECK(zl_json_schema_automaton(m, &bad, &number) == ZL_E_BOUNDS && strstr(zl_error(), "leads to 2"), "%s", zl_error());
    bad.next = under;
    CHECK(zl_json_schema_automaton(m, &bad, &number) == ZL_E_BOUNDS, "next");
    bad = good, bad.shortest = less;
    CHECK(zl_json_schema_automaton(m, &bad, &number) == ZL_E_BOUNDS, "shortest");
    bad = good, bad.n_classes = 1;
    CHECK(zl_json_schema_automaton(m, &bad, &number) == ZL_E_BOUNDS, "class");
    bad = good, bad.n_states = 0;
    CHECK(zl_json_schema_automaton(m, &bad, &number) == ZL_E_SHAPE, "shape");
    zl_json_text text = {.list = ZL_TEXT_ASKED, .most = -1, .other = -1, .first = 0, .automaton = number, .ends = ends}, wrong = text;
    CHECK(zl_json_schema_text(m, &text, &place) == ZL_OK, "%s", zl_error());
    wrong.automaton = number + 1;
    CHECK(zl_json_schema_text(m, &wrong, &place) == ZL_E_BOUNDS, "automaton");
    wrong = text, wrong.ends = NULL;
    CHECK(zl_json_schema_text(m, &wrong, &place) == ZL_E_BOUNDS, "ends");
    wrong = text, wrong.first = 1;
    CHECK(zl_json_schema_text(m, &wrong, &place) == ZL_E_BOUNDS, "first");
    wrong = text, wrong.most = 1 << 28;
    CHECK(zl_json_schema_text(m, &wrong, &place) == ZL_E_BOUNDS, "most");
    wrong = text, wrong.list = ZL_TEXT_FREE;
    CHECK(zl_json_schema_text(m, &wrong, &place) == ZL_E_BOUNDS, "free");
    zl_machine_free(m);
}

int selftest_json_places(zl_ctx *ctx) {
    (void)ctx;
    failures = 0;
    test_told();
    test_told_by_rules();
    test_told_wrongly();
    test_lists_refused();
    test_automata();
    return failures;
}
