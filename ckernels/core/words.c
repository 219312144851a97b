/* words.c - cutting a text into words by the tables of a pre-tokenizer.
 *
 * A rule is some cuts, one after the other: each cuts every part that the one before left. An expression has become an automaton (Python
 * makes it, models/split_automaton.py), so that a text is read once whatever the expression is:
 *
 *      classes   code point -> class, one byte each            'a' -> 3, U+4E00 -> 3, ' ' -> 0, ...
 *      next      [state][class] -> state, and one column more for the end of the part
 *                a set top bit: what was read before this character is a match
 *
 * State 0 is the end: nothing longer matches. The last match seen counts. That is what a search from left to right finds which takes the
 * first alternative that fits and as much as it can: the order among alternatives is worked into the states. One character of looking
 * ahead costs nothing, for a match is only noted once the character after it is known.
 *
 * What is read past a match is read again, by the search from there. That is seldom much, but an expression may look a long way for a match
 * that it does not find, again and again: \s*[\r\n]+|\s{512} in a run of spaces. So the state that a search ended in is remembered, and
 * from where to where it stayed there in vain: a later search that comes into the same state in between finds nothing more either.
 *
 * Two cuts are no automata. Digits in threes from the right need the run's length; and a run at the end of a part is found from there.
 *
 * What it is not: it knows no expression and no Unicode; both are in the tables. What is no UTF-8 is read as U+FFFD, byte by byte.
 */
#include "core.h"
#include "utf8.h"

enum { MATCH = 0x8000, MOST_CUTS = 16 };

int zl_cuts_check(zl_cut *cuts, int n_cuts) {
    if (!cuts || n_cuts < 1 || n_cuts > MOST_CUTS) return zl_fail(ZL_E_ARG, "words: %d cuts", n_cuts);
    for (int k = 0; k < n_cuts; k++) {
        zl_cut *c = cuts + k;
        c->checked = 0;
        if (c->kind < ZL_CUT_EXPRESSION || c->kind > ZL_CUT_TAIL) return zl_fail(ZL_E_ARG, "words: cut %d is of kind %d", k, c->kind);
        if (!c->classes || (c->kind == ZL_CUT_EXPRESSION && !c->next)) return zl_fail(ZL_E_ARG, "words: cut %d lacks a table", k);
        if (c->kind == ZL_CUT_EXPRESSION) {
            if (c->n_classes < 1 || c->n_classes > 256 || c->n_states < 2 || c->n_states >= MATCH)
                return zl_fail(ZL_E_SHAPE, "words: cut %d has %d classes, %d states", k, c->n_classes, c->n_states);
            for (int i = 0; i < ZL_CODE_POINTS; i++)
                if (c->classes[i] >= c->n_classes)
                    return zl_fail(ZL_E_BOUNDS, "words: cut %d, U+%04X is of class %d of %d", k, i, c->classes[i], c->n_classes);
            for (int i = 0; i < c->n_states * (c->n_classes + 1); i++)
                if ((c->next[i] & ~MATCH) >= c->n_states)
                    return zl_fail(ZL_E_BOUNDS, "words: cut %d, entry %d leads to state %d of %d", k, i, c->next[i] & ~MATCH, c->n_states);
        }
        c->checked = 1;
    }
    return ZL_OK;
}

typedef struct {
    const zl_cut *cuts;
    int n_cuts;
    const uint8_t *text;
    int32_t *ends; /* [bytes of the text]: a word has one at least */
    int64_t n;
} cutting;

static void part(cutting *c, int k, int64_t begin, int64_t end);

static void expression(cutting *c, int k, int64_t begin, int64_t end) {
    const zl_cut *cut = c->cuts + k;
    const uint8_t *text = c->text, *classes = cut->classes;
    const int64_t columns = cut->n_classes + 1;
    int64_t between = begin; /* where what matches nothing began */
    int64_t vain_from = end, vain_to = -1; /* no match follows for who is in vain_state before a character from here to there */
    uint32_t vain_state = 0;
    for (int64_t at = begin; at < end; ) {
        int64_t last = at, length, i = at, since = at;
        uint32_t state = 1;
        for (;; i += length) {
            uint32_t entry, next;
            if (i >= end) {
                if (cut->next[state * columns + columns - 1] & MATCH) last = i;
                break;
            }
            entry = cut->next[state * columns + classes[zl_code_point(text, i, end, &length)]];
            if (entry & MATCH) last = i;
            if (!(next = entry & ~(uint32_t)MATCH)) break;
            if (next != state) {
                state = next, since = i + length;
                if (state == vain_state && since >= vain_from && since <= vain_to) break;
            }
        }
        if (i > vain_to) vain_state = state, vain_from = since > last ? since : last + 1, vain_to = i;
        if (last == at) {
            zl_code_point(text, at, end, &length);
            at += length;
            continue;
        }
        part(c, k + 1, between, at);
        part(c, k + 1, at, last);
        between = at = last;
    }
    part(c, k + 1, between, end);
}

/* Classes: 1 a digit, 2 what must not come after a run, 0 the rest. */
static void threes(cutting *c, int k, int64_t begin, int64_t end) {
    const zl_cut *cut = c->cuts + k;
    int64_t between = begin, length;
    for (int64_t at = begin; at < end; ) {
        int64_t count = 0, i = at;
        int after = 0;
        for (; i < end; i += length, count++)
            if ((after = cut->classes[zl_code_point(c->text, i, end, &length)]) != 1) break;
        if (count && after != 2) { /* at the end `after` is the last digit's */
            if (cut->kind == ZL_CUT_THREES) part(c, k + 1, between, at), between = at;
            for (; at < i; at += length, count--) {
                if (count % 3 == 0 && at > between) part(c, k + 1, between, at), between = at;
                zl_code_point(c->text, at, end, &length);
            }
            if (cut->kind == ZL_CUT_THREES) part(c, k + 1, between, i), between = i;
        }
        at = i;
        if (at < end) {
            zl_code_point(c->text, at, end, &length);
            at += length;
        }
    }
    part(c, k + 1, between, end);
}

/* Classes: 1 belongs to the run. */
static void tail(cutting *c, int k, int64_t begin, int64_t end) {
    int64_t at = end, length;
    while (at > begin) {
        int64_t i = at - 1;
        while (i > begin && i > at - 4 && (c->text[i] & 0xc0) == 0x80) i--;
        uint32_t code = zl_code_point(c->text, i, at, &length);
        if (i + length != at) code = ZL_REPLACEMENT, i = at - 1;
        if (c->cuts[k].classes[code] != 1) break;
        at = i;
    }
    part(c, k + 1, begin, at);
    part(c, k + 1, at, end);
}

static void part(cutting *c, int k, int64_t begin, int64_t end) {
    if (begin >= end) return;
    if (k == c->n_cuts) c->ends[c->n++] = (int32_t)end;
    else if (c->cuts[k].kind == ZL_CUT_EXPRESSION) expression(c, k, begin, end);
    else if (c->cuts[k].kind == ZL_CUT_TAIL) tail(c, k, begin, end);
    else threes(c, k, begin, end);
}

int zl_split(const zl_cut *cuts, int n_cuts, const uint8_t *text, int64_t n, int32_t *ends, int64_t *n_ends) {
    if (!cuts || !n_ends || (n && (!text || !ends))) return zl_fail(ZL_E_ARG, "words: a null pointer");
    if (n_cuts < 1 || n_cuts > MOST_CUTS) return zl_fail(ZL_E_ARG, "words: %d cuts", n_cuts);
    for (int k = 0; k < n_cuts; k++)
        if (cuts[k].checked != 1) return zl_fail(ZL_E_ARG, "words: cut %d has not been checked", k);
    if (n < 0 || n >= INT32_MAX) return zl_fail(ZL_E_SHAPE, "words: a text of %lld bytes", (long long)n);
    cutting c = {cuts, n_cuts, text, ends, 0};
    part(&c, 0, 0, n);
    *n_ends = c.n;
    return ZL_OK;
}
