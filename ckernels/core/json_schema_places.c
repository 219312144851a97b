/* json_schema_places.c - places that C knows by itself: strings with their escapes and UTF-8, literals, and what stands between the tokens of
 * objects and arrays. Beside them only the digits of numbers, and strings of which more is asked than a list or a length, are Python's rows.
 *
 * What the schema says is asked for in a few numbers, once each (zl_json_schema.say):
 *
 *      plan        what may begin a value: results of null, true, false; first places of a number by its first byte; the string's place;
 *                  the array; the object
 *      object      properties so far, a number of Python's: the result if it may end here, and which names may come (a string's place)
 *      value       the plan of the value after a name
 *      array       items so far: the result if it may end here, and the plan of the next item
 *      ends        of a property and of an item: the object or array with one more
 *      listener    of a string that is no list: where each byte of its text leads
 *
 * An own place is (subject, phase); its number is OWN plus the index of that pair. Phases of a string, whose subject is a listener (text, how
 * far): how far is a node of the text's list, or OUT of it, where any text is alike; or without a list how many characters there were.
 *
 * (LEFT - a listener of Python's or a state of an automaton, where what is not in the list is one's to say; without a list that number itself).
 *
 *      BETWEEN  characters   UTF8 + s  in the middle of one   ESCAPE \   DIGITS \u and n digits   PAIR after \ud83d   PAIR_ESCAPE   PAIR_DIGITS
 *
 * The twins are Quoted, Said, Name, Literal, Inside, Within and Document in zigllama/inference/grammar/json_schema.
 */
#include "json_schema.h"
#include <stdlib.h>
#include <string.h>

enum { AT_NULL, AT_TRUE, AT_FALSE, AT_NUMBER, AT_STRING = AT_NUMBER + 11, AT_ARRAY, AT_OBJECT, PLAN = ZL_SAY_MOST_OF_PLAN };

/* ---- what is asked, once ------------------------------------------------------------------------------------------------------- */

/* Row i of a table, asked for if it is new: `what` of a, b. NULL with `over` set. Valid until the next is asked for. */
static const int32_t *row_of(zl_schema *s, zl_asked_rows *t, int width, int32_t i, int what, int32_t a, int32_t b) {
    zl_machine *m = &s->base;
    if (i < t->n && t->rows[(int64_t)i * width] != ZL_UNKNOWN) return t->rows + (int64_t)i * width;
    int32_t out[LISTENED];
    for (int k = 0; k < width; k++) out[k] = ZL_UNKNOWN;
    if (!s->ask.say || s->ask.say(s->ask.who, what, a, b, 0, out)) return zl_schema_refuse(s), NULL;
    for (int k = 0; k < width; k++) {
        int in_own = out[k] >= 0 && (out[k] & OWN), place = (what == ZL_SAY_PLAN && k == AT_STRING) || (what == ZL_SAY_OBJECT && k == 1);
        if (out[k] < NONE || (in_own && !place) || (in_own && (out[k] & ~OWN) >= s->own.n)) return zl_schema_refuse(s), NULL;
    }
    if (i >= t->n) {
        int64_t row = width * (int64_t)sizeof *t->rows;
        if (zl_machine_grow(m, &t->rows, &t->bytes, (i + 1) * row)) return NULL;
        int32_t room = (int32_t)(t->bytes / row);
        for (int64_t k = (int64_t)t->n * width; k < (int64_t)room * width; k++) t->rows[k] = ZL_UNKNOWN;
        t->n = room;
    }
    return memcpy(t->rows + (int64_t)i * width, out, (size_t)width * sizeof *out);
}

static const int32_t *object_at(zl_schema *s, int32_t object) { return row_of(s, &s->objects, 2, object, ZL_SAY_OBJECT, object, 0); }
static const int32_t *array_at(zl_schema *s, int32_t array) { return row_of(s, &s->arrays, 2, array, ZL_SAY_ARRAY, array, 0); }
static const int32_t *plan_at(zl_schema *s, int32_t plan) { return row_of(s, &s->plans, PLAN, plan, ZL_SAY_PLAN, plan, 0); }
static const int32_t *heard(zl_schema *s, int32_t listener) {
    return row_of(s, &s->listened, LISTENED, listener, ZL_SAY_LISTENER, listener, 0);
}

static int32_t own(zl_schema *s, int32_t subject, int32_t phase) {
    int fresh;
    int32_t i = zl_pairs_intern(&s->base, &s->own, subject, phase, &fresh);
    return i < 0 ? i : i < OWN ? OWN | i : ZL_BUDGET;
}

/* ---- strings ------------------------------------------------------------------------------------------------------------------- */

static int32_t listener(zl_schema *s, int32_t text, int32_t far) {
    int fresh;
    return zl_pairs_intern(&s->base, &s->listeners, text, far, &fresh);
}

/* Whether a text of the list that may come is below a node. */
static int below(const zl_schema *s, const zl_text *t, int32_t node) {
    const zl_text_list *l = &s->lists[t->list];
    const int32_t *before = t->results + l->n;
    return before[l->nodes[node].last] > before[l->nodes[node].first];
}

/* What is asked about is a number: a listener of Python's, or, where an automaton knows, its state with how many characters there were, as far
 * as that matters: state + n_states * characters. Where a byte leads from it; NONE; ZL_BUDGET. */
static int32_t asked_step(zl_schema *s, const zl_text *t, int32_t asked, uint8_t byte) {
    if (t->automaton < 0) {
        const int32_t *row = heard(s, asked);
        return row ? row[byte] : ZL_BUDGET;
    }
    const zl_text_automaton *a = &s->automata[t->automaton];
    int32_t count = asked / a->n_states, to = a->next[(int64_t)(asked % a->n_states) * a->n_classes + a->class_of[byte]];
    if (to < 0 || t->most < 0) return to;
    if ((byte & 0xc0) != 0x80) count++;
    return count + a->next[(int64_t)a->n_states * a->n_classes + to] > t->most ? NONE : to + a->n_states * count;
}

/* The result of a text that ends there. */
static int32_t asked_end(zl_schema *s, const zl_text *t, int32_t asked) {
    if (t->automaton >= 0) return t->ends[asked % s->automata[t->automaton].n_states];
    const int32_t *row = heard(s, asked);
    return row ? row[CLOSE] : ZL_BUDGET;
}

/* Where any character leads from there; NONE: they are not known to be alike. */
static int32_t asked_alike(zl_schema *s, const zl_text *t, int32_t asked) {
    if (t->automaton >= 0) return NONE;
    const int32_t *row = heard(s, asked);
    return row ? row[ALIKE] : ZL_BUDGET;
}

/* The listener of a text that is asked about: itself, or, where there is a list, of what is not in it. -1 for none, ZL_BUDGET. Of a node of the
 * list it is where the bytes down to the node lead, and is kept. */
static int32_t asked_at(zl_schema *s, int32_t text, int32_t far) {
    const zl_text *t = &s->texts[text];
    if (t->list == ZL_TEXT_ASKED) return far;
    if (far <= LEFT) return LEFT - far;
    if (far == OUT || t->first < 0) return NONE;
    int32_t *kept = t->results + 2 * (int64_t)s->lists[t->list].n + 1;
    if (kept[far] != ZL_UNKNOWN) return kept[far];
    const zl_text_node *nodes = s->lists[t->list].nodes;
    int32_t l = t->first, at = 0;
    while (at != far && l >= 0) {
        int32_t to = at + 1;
        while (nodes[to].end <= far) to = nodes[to].end;
        l = asked_step(s, t, l, nodes[to].byte);
        if (l == ZL_BUDGET) return l;
        at = to;
    }
    return kept[far] = l;
}

/* The listener after one more byte of the text, NONE, ZL_BUDGET. Not for texts that are alike. */
static int32_t feed(zl_schema *s, int32_t l, uint8_t byte) {
    int32_t text = s->listeners.pairs[2 * (int64_t)l], far = s->listeners.pairs[2 * (int64_t)l + 1];
    const zl_text *t = &s->texts[text];
    if (t->list == ZL_TEXT_FREE) return NONE; /* as many characters as may come */
    int32_t asked = asked_at(s, text, far), after = NONE, to = OUT;
    if (asked == ZL_BUDGET) return asked;
    if (asked >= 0 && (after = asked_step(s, t, asked, byte)) == ZL_BUDGET) return after;
    if (far >= 0 && t->list >= 0) {
        const zl_text_node *nodes = s->lists[t->list].nodes;
        int32_t end = nodes[far].end;
        for (to = far + 1; to < end && nodes[to].byte != byte;) to = nodes[to].end;
        if (to >= end) to = OUT;
        else if (after < 0 && t->other < 0 && !below(s, t, to)) return NONE;
    }
    if (to == OUT && after >= 0) to = t->list == ZL_TEXT_ASKED ? after : LEFT - after;
    return to != OUT || t->other >= 0 ? listener(s, text, to) : NONE;
}

/* Where each character leads, if all lead to the same; NONE; ZL_BUDGET. */
static int32_t any_character(zl_schema *s, int32_t l) {
    int32_t text = s->listeners.pairs[2 * (int64_t)l], far = s->listeners.pairs[2 * (int64_t)l + 1];
    const zl_text *t = &s->texts[text];
    if (t->list == ZL_TEXT_ASKED || far <= LEFT) {
        int32_t to = asked_alike(s, t, asked_at(s, text, far));
        return to < 0 ? to : listener(s, text, t->list == ZL_TEXT_ASKED ? to : LEFT - to);
    }
    if (t->list >= 0) return far == OUT ? l : NONE;
    if (t->most >= 0 && far >= t->most) return NONE;
    return t->most < 0 && far >= t->least ? l : listener(s, text, far + 1);
}

/* The result if the string may end here. */
static int32_t close_text(zl_schema *s, int32_t l) {
    int32_t text = s->listeners.pairs[2 * (int64_t)l], far = s->listeners.pairs[2 * (int64_t)l + 1];
    const zl_text *t = &s->texts[text];
    if (t->list == ZL_TEXT_FREE) return far >= t->least ? t->other : NONE;
    if (t->list >= 0 && far >= 0 && s->lists[t->list].nodes[far].exact >= 0) return t->results[s->lists[t->list].nodes[far].exact];
    int32_t asked = asked_at(s, text, far);
    return asked < 0 ? (asked == ZL_BUDGET ? asked : t->other) : asked_end(s, t, asked);
}

static int32_t say(zl_schema *s, int32_t l, uint8_t byte) {
    int32_t alike = any_character(s, l);
    return alike == NONE ? feed(s, l, byte) : alike;
}

static const uint8_t MEANT[] = {'"', '\\', '/', 8, 12, 10, 13, 9};

/* Whether a control character whose four digits begin with these n may follow. */
static int some(zl_schema *s, int32_t l, int32_t digits, int n) {
    int32_t found = NONE;
    for (int c = 0; c < 32 && found == NONE; c++)
        if (c >> 4 * (4 - n) == digits) found = feed(s, l, (uint8_t)c);
    return found == ZL_BUDGET ? ZL_BUDGET : found != NONE;
}

/* Whether something that is written with a backslash may follow. */
static int escapable(zl_schema *s, int32_t l) {
    int32_t found = any_character(s, l);
    if (found == NONE && (found = some(s, l, 0, 0)) == 0) found = NONE;
    for (int i = 0; i < 8 && found == NONE; i++) found = feed(s, l, MEANT[i]);
    return found == ZL_BUDGET ? ZL_BUDGET : found != NONE;
}

int zl_schema_hex(uint8_t b) {
    if (b >= '0' && b <= '9') return b - '0';
    b |= 32;
    return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static const uint8_t AFTER_LEAD[8][2] = {{0}, {0x80, 0xbf}, {0x80, 0xbf}, {0x80, 0xbf}, {0xa0, 0xbf}, {0x80, 0x9f}, {0x90, 0xbf}, {0x80, 0x8f}};
static const uint8_t THEN[8] = {0, 0, 1, 2, 1, 1, 2, 2};

/* UTF-8 as an automaton, with the numbers of strings.py: the state after a byte, -1 where none begins or goes on so. */
static int utf8(int state, uint8_t b) {
    if (state) return b >= AFTER_LEAD[state][0] && b <= AFTER_LEAD[state][1] ? THEN[state] : -1;
    if (b < 0x80) return b < 0x20 ? -1 : 0;
    if (b < 0xc2 || b > 0xf4) return -1;
    if (b < 0xe0) return 1;
    if (b < 0xf0) return b == 0xe0 ? 4 : b == 0xed ? 5 : 2;
    return b == 0xf0 ? 6 : b == 0xf4 ? 7 : 3;
}

static int32_t at(zl_schema *s, int32_t l, int32_t phase) { return l < 0 ? l : own(s, l, phase); }

/* A byte of \uXXXX, of which there were n digits. Where characters are alike, digits are told apart as far as halves of pairs go. */
static int32_t digit(zl_schema *s, int32_t l, int32_t n, int32_t value, uint8_t byte) {
    int d = zl_schema_hex(byte);
    if (d < 0) return NONE;
    int32_t alike = any_character(s, l);
    if (alike == ZL_BUDGET) return alike;
    value = value << 4 | d, n++;
    if (alike != NONE) {
        if (n == 1 && d != 0xd) value = 0;
        if (n == 2 && value >= 0xdc) return NONE; /* the second half of a pair, without the first */
        if (n == 2 && value >= 0xd0) value = value >= 0xd8 ? 0xd8 : 0xd0;
        if (n == 2 && value < 0xd0) value = 0;
        if (n > 2) value = value & ~0xf;
    } else {
        int may = some(s, l, value, n);
        if (may != 1) return may ? may : NONE;
    }
    if (n < 4) return at(s, l, DIGITS | n << KIND_BITS | value << (KIND_BITS + 2));
    if (value == 0xd800) return at(s, l, PAIR);
    return at(s, alike == NONE ? feed(s, l, (uint8_t)value) : alike, BETWEEN);
}

/* And of the second half of a pair: dc00 to dfff. */
static int32_t second(zl_schema *s, int32_t l, int32_t n, uint8_t byte) {
    int d = zl_schema_hex(byte);
    if (d < 0 || (n == 0 && d != 0xd) || (n == 1 && d < 0xc)) return NONE;
    return n == 3 ? at(s, any_character(s, l), BETWEEN) : at(s, l, PAIR_DIGITS | (n + 1) << KIND_BITS);
}

static int32_t in_string(zl_schema *s, int32_t l, int32_t phase, uint8_t byte, int *kind) {
    int32_t sort = phase & ((1 << KIND_BITS) - 1), n = phase >> KIND_BITS & 3;
    if (sort == BETWEEN && byte == '"') {
        *kind = POP;
        return close_text(s, l);
    }
    if (sort == BETWEEN && byte == '\\') {
        int may = escapable(s, l);
        return may == 1 ? at(s, l, ESCAPE) : may ? may : NONE;
    }
    if (sort < ESCAPE) {
        int state = utf8(sort, byte);
        if (state < 0) return NONE;
        int32_t alike = any_character(s, l);
        if (alike == NONE) return at(s, feed(s, l, byte), state);
        return at(s, state ? l : alike, state);
    }
    if (sort == ESCAPE) {
        const char *found = byte ? strchr(ESCAPES, byte) : NULL;
        if (found) return at(s, say(s, l, MEANT[found - ESCAPES]), BETWEEN);
        if (byte != 'u') return NONE;
        int32_t alike = any_character(s, l);
        int may = alike == NONE ? some(s, l, 0, 0) : alike == ZL_BUDGET ? ZL_BUDGET : 1;
        return may == 1 ? at(s, l, DIGITS) : may ? may : NONE;
    }
    if (sort == DIGITS) return digit(s, l, n, phase >> (KIND_BITS + 2), byte);
    if (sort == PAIR) return byte == '\\' ? at(s, l, PAIR_ESCAPE) : NONE;
    if (sort == PAIR_ESCAPE) return byte == 'u' ? at(s, l, PAIR_DIGITS) : NONE;
    return second(s, l, n, byte);
}

/* ---- values, objects, arrays --------------------------------------------------------------------------------------------------- */

static int32_t push(zl_schema *s, int32_t child, int32_t frame, int *kind) {
    int fresh;
    if (child < 0 || frame < 0) return child < 0 ? child : frame;
    *kind = PUSH;
    return zl_pairs_intern(&s->base, &s->pushes, child, frame, &fresh);
}

/* The first byte of a value, for which (subject, phase) waits. */
static int32_t begin(zl_schema *s, int32_t plan, uint8_t byte, int32_t subject, int32_t phase, int *kind) {
    if (plan < 0) return NONE;
    const int32_t *row = plan_at(s, plan);
    if (!row) return ZL_BUDGET;
    int32_t child = NONE;
    int word = byte == 'n' ? AT_NULL : byte == 't' ? AT_TRUE : byte == 'f' ? AT_FALSE : -1;
    if (word >= 0) child = row[word] < 0 ? NONE : own(s, word << 3 | 1, LITERAL | row[word] << KIND_BITS);
    else if (byte == '"') child = row[AT_STRING];
    else if (byte == '-') child = row[AT_NUMBER];
    else if (byte >= '0' && byte <= '9') child = row[AT_NUMBER + 1 + byte - '0'];
    else if (byte == '[') child = row[AT_ARRAY] < 0 ? NONE : own(s, row[AT_ARRAY], ARRAY_FIRST);
    else if (byte == '{') child = row[AT_OBJECT] < 0 ? NONE : own(s, row[AT_OBJECT], OBJECT_FIRST);
    return child < 0 ? child : push(s, child, own(s, subject, phase), kind);
}

static int32_t in_object(zl_schema *s, int32_t object, int32_t sort, uint8_t byte, int *kind) {
    const int32_t *row = object_at(s, object);
    if (!row) return ZL_BUDGET;
    if (byte == '}' && sort != OBJECT_NAME) {
        *kind = POP;
        return row[0];
    }
    if (row[1] < 0) return NONE;
    if (sort == OBJECT_COMMA) return byte == ',' ? own(s, object, OBJECT_NAME) : NONE;
    return byte == '"' ? push(s, row[1], own(s, object, OBJECT_NAMED), kind) : NONE;
}

static int32_t in_property(zl_schema *s, int32_t keyed, int32_t sort, uint8_t byte, int *kind) {
    if (sort == OBJECT_COLON) return byte == ':' ? own(s, keyed, OBJECT_VALUE) : NONE;
    const int32_t *key = s->keyed.pairs + 2 * (int64_t)keyed;
    const int32_t *row = row_of(s, &s->values, 1, keyed, ZL_SAY_VALUE, key[0], key[1]);
    return row ? begin(s, row[0], byte, keyed, OBJECT_WAITS, kind) : ZL_BUDGET;
}

static int32_t in_array(zl_schema *s, int32_t array, int32_t sort, uint8_t byte, int *kind) {
    const int32_t *row = array_at(s, array);
    if (!row) return ZL_BUDGET;
    if (byte == ']' && sort != ARRAY_ITEM) {
        *kind = POP;
        return row[0];
    }
    if (sort == ARRAY_COMMA) return byte == ',' && row[1] >= 0 ? own(s, array, ARRAY_ITEM) : NONE;
    return begin(s, row[1], byte, array, ARRAY_WAITS, kind);
}

int32_t zl_schema_act(zl_schema *s, int32_t place, uint8_t byte, int *kind) {
    int64_t i = 2 * (int64_t)(place & ~OWN);
    int32_t subject = s->own.pairs[i], phase = s->own.pairs[i + 1], sort = phase & ((1 << KIND_BITS) - 1);
    *kind = GO;
    if (sort < LITERAL) return in_string(s, subject, phase, byte, kind);
    if (sort == LITERAL) {
        const char *word = WORDS[subject >> 3];
        int k = subject & 7;
        if ((uint8_t)word[k] != byte) return NONE;
        if (word[k + 1]) return own(s, subject + 1, phase);
        *kind = POP;
        return phase >> KIND_BITS;
    }
    if (sort == DOCUMENT_LAST) return NONE;
    if (byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r') return place;
    if (sort == DOCUMENT) return begin(s, subject, byte, subject, DOCUMENT_WAITS, kind);
    if (sort >= ARRAY_FIRST) return in_array(s, subject, sort, byte, kind);
    if (sort == OBJECT_COLON || sort == OBJECT_VALUE) return in_property(s, subject, sort, byte, kind);
    return in_object(s, subject, sort, byte, kind);
}

int32_t zl_schema_alike(zl_schema *s, int32_t place) {
    int64_t i = 2 * (int64_t)(place & ~OWN);
    return s->own.pairs[i + 1] == BETWEEN ? at(s, any_character(s, s->own.pairs[i]), BETWEEN) : NONE;
}

int32_t zl_schema_after(zl_schema *s, int32_t frame, int32_t result) {
    int64_t i = 2 * (int64_t)(frame & ~OWN);
    int32_t subject = s->own.pairs[i], sort = s->own.pairs[i + 1], out = ZL_UNKNOWN;
    int fresh, failed;
    if (sort == DOCUMENT_WAITS) return own(s, 0, DOCUMENT_LAST);
    if (sort == OBJECT_NAMED) {
        int32_t keyed = zl_pairs_intern(&s->base, &s->keyed, subject, result, &fresh);
        return at(s, keyed, OBJECT_COLON);
    }
    if (sort == OBJECT_WAITS) {
        int32_t object = s->keyed.pairs[2 * (int64_t)subject], key = s->keyed.pairs[2 * (int64_t)subject + 1];
        failed = s->ask.say(s->ask.who, ZL_SAY_PROPERTY_END, object, key, result, &out);
    } else {
        failed = s->ask.say(s->ask.who, ZL_SAY_ITEM_END, subject, result, 0, &out);
    }
    if (failed || out < NONE) return zl_schema_refuse(s), ZL_BUDGET;
    return at(s, out, sort == OBJECT_WAITS ? OBJECT_COMMA : ARRAY_COMMA);
}

int32_t zl_schema_document(zl_schema *s, int after) { return own(s, after ? 0 : s->ask.root, after ? DOCUMENT_LAST : DOCUMENT); }

/* ---- what Python tells -------------------------------------------------------------------------------------------------------- */

static int32_t shared(const uint8_t *a, int64_t n, const uint8_t *b, int64_t k) {
    int32_t i = 0;
    while (i < n && i < k && a[i] == b[i]) i++;
    return i;
}

int zl_json_schema_list(zl_machine *m, const uint8_t *data, const int64_t *offsets, int64_t n, int32_t *list) {
    zl_schema *s = zl_schema_of(m);
    if (!s || !list || !offsets || (offsets[n > 0 ? n : 0] && !data)) return zl_fail(ZL_E_ARG, "json_schema: a null pointer, or another machine");
    if (n < 1 || n > 1 << 24 || offsets[0] != 0) return zl_fail(ZL_E_SHAPE, "json_schema: a list of %lld texts", (long long)n);
    int64_t n_nodes = 1;
    for (int64_t i = 0; i < n; i++) {
        int64_t length = offsets[i + 1] - offsets[i], before = i ? offsets[i] - offsets[i - 1] : 0;
        if (length < 0 || offsets[i + 1] > 1 << 28) return zl_fail(ZL_E_BOUNDS, "json_schema: text %lld has %lld bytes", (long long)i, (long long)length);
        int32_t same = i ? shared(data + offsets[i - 1], before, data + offsets[i], length) : 0;
        if (i && (same == length || (same < before && data[offsets[i - 1] + same] > data[offsets[i] + same])))
            return zl_fail(ZL_E_ARG, "json_schema: text %lld is not above the one before it", (long long)i);
        n_nodes += length - same;
    }
    if (zl_machine_grow(m, &s->lists, &s->lists_bytes, (s->n_lists + 1) * (int64_t)sizeof *s->lists)) return zl_machine_fail(m);
    zl_text_list made = {.n = (int32_t)n};
    if (zl_machine_grow(m, &made.nodes, &made.bytes, n_nodes * (int64_t)sizeof *made.nodes)) return zl_machine_fail(m);
    int64_t longest = 0, open_bytes = 0;
    for (int64_t i = 0; i < n; i++)
        if (offsets[i + 1] - offsets[i] > longest) longest = offsets[i + 1] - offsets[i];
    int32_t *open = NULL; /* the nodes from the root down to the last one */
    if (zl_machine_grow(m, &open, &open_bytes, (longest + 1) * (int64_t)sizeof *open)) {
        m->bytes -= made.bytes;
        free(made.nodes);
        return zl_machine_fail(m);
    }
    int32_t k = 0, depth = 0;
    made.nodes[k] = (zl_text_node){.last = (int32_t)n, .exact = NONE};
    open[0] = k++;
    for (int32_t i = 0; i < n; i++) {
        const uint8_t *text = data + offsets[i];
        int64_t length = offsets[i + 1] - offsets[i];
        int32_t same = i ? shared(data + offsets[i - 1], offsets[i] - offsets[i - 1], text, length) : 0;
        for (; depth > same; depth--) made.nodes[open[depth]].end = k, made.nodes[open[depth]].last = i;
        for (; depth < length; open[++depth] = k++) made.nodes[k] = (zl_text_node){.first = i, .exact = NONE, .byte = text[depth]};
        made.nodes[open[depth]].exact = i;
    }
    for (; depth >= 0; depth--) made.nodes[open[depth]].end = k, made.nodes[open[depth]].last = (int32_t)n;
    made.n_nodes = k;
    m->bytes -= open_bytes;
    free(open);
    *list = s->n_lists;
    s->lists[s->n_lists++] = made;
    return ZL_OK;
}

int zl_json_schema_text(zl_machine *m, const zl_json_text *text, int32_t *place) {
    zl_schema *s = zl_schema_of(m);
    if (!s || !text || !place || (text->list >= 0 && !text->results)) return zl_fail(ZL_E_ARG, "json_schema: a null pointer, or another machine");
    if (text->list < ZL_TEXT_ASKED || text->list >= s->n_lists || text->other < NONE || text->least < 0 || text->most < NONE || text->first < NONE)
        return zl_fail(ZL_E_BOUNDS, "json_schema: list %d of %d, %d to %d characters, result %d, listener %d", text->list, s->n_lists, text->least,
                       text->most, text->other, text->first);
    int32_t n_states = text->automaton >= 0 && text->automaton < s->n_automata ? s->automata[text->automaton].n_states : 0;
    if (text->automaton < NONE || text->automaton >= s->n_automata ||
        (text->automaton >= 0 && (text->list == ZL_TEXT_FREE || text->first != 0 || !text->ends || text->most >= (1 << 28) / n_states - 1)))
        return zl_fail(ZL_E_BOUNDS, "json_schema: automaton %d of %d, list %d, listener %d, %d characters", text->automaton, s->n_automata,
                       text->list, text->first, text->most);
    if (zl_machine_grow(m, &s->texts, &s->texts_bytes, (s->n_texts + 1) * (int64_t)sizeof *s->texts)) return zl_machine_fail(m);
    zl_text made = {.list = text->list, .least = text->least, .most = text->most, .other = text->other, .first = text->first,
                    .automaton = text->automaton};
    if (n_states) {
        if (zl_machine_grow(m, &made.ends, &made.ends_bytes, n_states * (int64_t)sizeof *made.ends)) return zl_machine_fail(m);
        memcpy(made.ends, text->ends, (size_t)n_states * sizeof *made.ends);
    }
    if (text->list >= 0) {
        int32_t n = s->lists[text->list].n, n_nodes = s->lists[text->list].n_nodes;
        int64_t room = 2 * (int64_t)n + 1 + (text->first < 0 ? 0 : n_nodes);
        if (zl_machine_grow(m, &made.results, &made.bytes, room * (int64_t)sizeof *made.results)) {
            m->bytes -= made.ends_bytes;
            free(made.ends);
            return zl_machine_fail(m);
        }
        for (int32_t i = 0; text->first >= 0 && i < n_nodes; i++) made.results[2 * (int64_t)n + 1 + i] = ZL_UNKNOWN;
        int32_t *before = made.results + n;
        before[0] = 0;
        for (int32_t i = 0; i < n; i++) {
            made.results[i] = text->results[i];
            before[i + 1] = before[i] + (text->results[i] >= 0);
        }
    }
    s->texts[s->n_texts] = made;
    int32_t found = at(s, listener(s, s->n_texts++, text->list == ZL_TEXT_ASKED ? text->first : 0), BETWEEN);
    if (found < 0) return zl_machine_fail(m);
    *place = found;
    return ZL_OK;
}

static void release_rows(zl_asked_rows *t) { free(t->rows); }

void zl_schema_release_places(zl_schema *s) {
    for (int32_t i = 0; i < s->n_lists; i++) free(s->lists[i].nodes);
    for (int32_t i = 0; i < s->n_texts; i++) free(s->texts[i].results), free(s->texts[i].ends);
    for (int32_t i = 0; i < s->n_automata; i++) free(s->automata[i].next);
    free(s->automata);
    free(s->lists);
    free(s->texts);
    release_rows(&s->objects);
    release_rows(&s->arrays);
    release_rows(&s->plans);
    release_rows(&s->values);
    release_rows(&s->listened);
}
