/* json_schema.c - the machine of a JSON Schema: places within a value, and a stack of the values around it.
 *
 * What a byte does at a place is Python's to say (zigllama/inference/grammar/json_schema): there the schema's keywords are understood. Here it is asked once
 * per place, and once per end of a value, and kept; the twin is transducer.py. A place is a number; what is asked of it is a row:
 *
 *      row [256]     of each byte  GO p      to place p, within the same value
 *                                  PUSH i    into a value within: to place child[i], while place frame[i] waits below it
 *                                  POP r     out of the value, with result r: to after(frame, r)
 *                                  OVER r    the same, but the byte is for the place after (a number ends before what follows it)
 *                                  -1        no text goes on so
 *      row [256]     the result if the value may have ended here without a further byte, else -1
 *
 * An entry is n << 2 | kind. A state is (place, stack); a stack is (frame, the stack below). Both are interned in tables of
 * open addressing, so that the same state is the same number:
 *
 *      place  stack              stack 4:  frame 17, below 2          {"a": [1, 2
 *      93     4                        2:  frame 5,  below -1         ^     ^  ^ place 93
 *                                                                     |     frame 17
 *                                                                     frame 5
 *
 * What it is not: it knows no schema and no JSON.
 */
#include "json_schema.h"
#include <stdlib.h>
#include <string.h>

enum { ROW = 257, FIRST_SLOTS = 256 };

static inline uint32_t hash(int32_t a, int32_t b) {
    uint64_t x = ((uint64_t)(uint32_t)a << 32 | (uint32_t)b) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(x >> 32) ^ (uint32_t)x;
}

/* The slots of a table, twice as many. */
static int rehash(zl_machine *m, zl_pairs_table *t) {
    int64_t n = t->n_slots ? t->n_slots * 2 : FIRST_SLOTS;
    if (zl_machine_grow(m, &t->slots, &t->slots_bytes, n * (int64_t)sizeof *t->slots)) return -1;
    t->n_slots = n;
    for (int64_t i = 0; i < n; i++) t->slots[i] = EMPTY;
    for (int32_t i = 0; i < t->n; i++) {
        uint32_t at = hash(t->pairs[2 * i], t->pairs[2 * i + 1]) & (uint32_t)(n - 1);
        while (t->slots[at] != EMPTY) at = (at + 1) & (uint32_t)(n - 1);
        t->slots[at] = i;
    }
    return 0;
}

int32_t zl_pairs_intern(zl_machine *m, zl_pairs_table *t, int32_t a, int32_t b, int *fresh) {
    *fresh = 0;
    if (2 * (int64_t)t->n >= t->n_slots && rehash(m, t)) return ZL_BUDGET;
    uint32_t at = hash(a, b) & (uint32_t)(t->n_slots - 1);
    for (; t->slots[at] != EMPTY; at = (at + 1) & (uint32_t)(t->n_slots - 1)) {
        const int32_t *pair = t->pairs + 2 * (int64_t)t->slots[at];
        if (pair[0] == a && pair[1] == b) return t->slots[at];
    }
    if (zl_machine_grow(m, &t->pairs, &t->pairs_bytes, 2 * ((int64_t)t->n + 1) * (int64_t)sizeof *t->pairs)) return ZL_BUDGET;
    t->pairs[2 * (int64_t)t->n] = a;
    t->pairs[2 * (int64_t)t->n + 1] = b;
    t->slots[at] = t->n;
    *fresh = 1;
    return t->n++;
}

static int32_t state_of(zl_schema *s, int32_t place, int32_t stack) {
    int fresh;
    int32_t found = zl_pairs_intern(&s->base, &s->states, place, stack, &fresh);
    s->base.n_states = s->states.n;
    return found;
}

int zl_schema_refuse(zl_schema *s) {
    s->base.over = ZL_OVER_ASKED;
    return -1;
}

const int32_t *zl_schema_row_at(zl_schema *s, int32_t place) {
    zl_machine *m = &s->base;
    if (place >= s->n_places) {
        if (zl_machine_grow(m, &s->row_of, &s->row_of_bytes, ((int64_t)place + 1) * (int64_t)sizeof *s->row_of)) return NULL;
        int32_t room = (int32_t)(s->row_of_bytes / (int64_t)sizeof *s->row_of);
        for (int32_t i = s->n_places; i < room; i++) s->row_of[i] = EMPTY;
        s->n_places = room;
    }
    if (s->row_of[place] != EMPTY) return s->rows + (int64_t)s->row_of[place] * ROW;
    if (zl_machine_grow(m, &s->rows, &s->rows_bytes, ((int64_t)s->n_rows + 1) * ROW * (int64_t)sizeof *s->rows)) return NULL;
    int32_t *row = s->rows + (int64_t)s->n_rows * ROW, pairs[512];
    if (s->ask.row(s->ask.who, place, row, pairs)) {
        zl_schema_refuse(s);
        return NULL;
    }
    for (int b = 0; b < ROW; b++) {
        int32_t n = row[b] >> 2, kind = row[b] & 3;
        if (row[b] == NONE || b == 256) continue;
        if (row[b] < 0 || n >= OWN || (kind == PUSH && (n > 255 || pairs[2 * n] < 0 || pairs[2 * n + 1] < 0))) {
            zl_schema_refuse(s);
            return NULL;
        }
        if (kind != PUSH) continue;
        int fresh;
        int32_t push = zl_pairs_intern(m, &s->pushes, pairs[2 * n], pairs[2 * n + 1], &fresh);
        if (push < 0) return NULL;
        row[b] = push << 2 | PUSH;
    }
    s->row_of[place] = s->n_rows++;
    return row;
}

/* The place after a result, for the frame that waited for it; NONE: there is none; ZL_BUDGET. */
static int32_t place_after(zl_schema *s, int32_t frame, int32_t result) {
    int fresh;
    int32_t i = zl_pairs_intern(&s->base, &s->ends, frame, result, &fresh);
    if (i < 0) return ZL_BUDGET;
    if (!fresh) return s->end_place[i];
    int32_t place = frame & OWN ? zl_schema_after(s, frame, result) : NONE;
    if (place == ZL_BUDGET || zl_machine_grow(&s->base, &s->end_place, &s->end_bytes, ((int64_t)i + 1) * (int64_t)sizeof place) ||
        (!(frame & OWN) && (s->ask.after(s->ask.who, frame, result, &place) || place < NONE) && zl_schema_refuse(s))) {
        s->ends.n--; /* not known after all: its slot is the one to be cleared */
        for (int64_t at = 0; at < s->ends.n_slots; at++)
            if (s->ends.slots[at] == i) s->ends.slots[at] = EMPTY;
        return ZL_BUDGET;
    }
    return s->end_place[i] = place;
}

/* What a byte does at a place; see json_schema.h. */
static int32_t act(zl_schema *s, int32_t place, uint8_t byte, int *kind) {
    if (place & OWN) return zl_schema_act(s, place, byte, kind);
    const int32_t *row = zl_schema_row_at(s, place);
    if (!row) return ZL_BUDGET;
    *kind = row[byte] & 3;
    return row[byte] == NONE ? NONE : row[byte] >> 2;
}

static int32_t step(zl_machine *m, int32_t state, uint8_t byte) {
    zl_schema *s = (zl_schema *)(void *)m;
    int32_t place = s->states.pairs[2 * (int64_t)state], stack = s->states.pairs[2 * (int64_t)state + 1];
    for (;;) {
        int kind;
        int32_t n = act(s, place, byte, &kind);
        if (n < 0) return n == NONE ? ZL_DEAD : n;
        if (kind == GO) return state_of(s, n, stack);
        if (kind == PUSH) {
            int fresh;
            const int32_t *push = s->pushes.pairs + 2 * (int64_t)n;
            int32_t child = push[0], above = zl_pairs_intern(m, &s->stacks, push[1], stack, &fresh);
            return above < 0 ? ZL_BUDGET : state_of(s, child, above);
        }
        if (stack < 0) return zl_schema_refuse(s), ZL_BUDGET; /* an end without a beginning */
        int32_t frame = s->stacks.pairs[2 * (int64_t)stack];
        stack = s->stacks.pairs[2 * (int64_t)stack + 1];
        place = place_after(s, frame, n);
        if (place == ZL_BUDGET) return ZL_BUDGET;
        if (place == NONE) return ZL_DEAD;
        if (kind == POP) return state_of(s, place, stack);
    }
}

/* Within a string of which all characters are alike: the state after any. */
static int32_t alike(zl_machine *m, int32_t state) {
    zl_schema *s = (zl_schema *)(void *)m;
    int32_t place = s->states.pairs[2 * (int64_t)state], stack = s->states.pairs[2 * (int64_t)state + 1];
    int32_t to = place & OWN ? zl_schema_alike(s, place) : NONE;
    if (to < 0) return to == NONE ? ZL_UNKNOWN : to;
    return to == place ? state : state_of(s, to, stack);
}

/* At the place after the document's value; or in that value, where it may end and its end leads there. ZL_BUDGET where that cannot be asked. */
static int finished(zl_machine *m, int32_t state) {
    zl_schema *s = (zl_schema *)(void *)m;
    int32_t place = s->states.pairs[2 * (int64_t)state], stack = s->states.pairs[2 * (int64_t)state + 1];
    if (stack < 0) return place == s->last;
    if (s->stacks.pairs[2 * (int64_t)stack + 1] >= 0) return 0;
    if (place & OWN) return 0; /* only numbers end without a byte of their own */
    const int32_t *row = zl_schema_row_at(s, place);
    if (!row) return ZL_BUDGET;
    if (row[256] < 0) return 0;
    int32_t after = place_after(s, s->stacks.pairs[2 * (int64_t)stack], row[256]);
    return after == ZL_BUDGET ? ZL_BUDGET : after == s->last;
}

static void release_table(zl_pairs_table *t) {
    free(t->pairs);
    free(t->slots);
}

void zl_schema_release(zl_machine *m) {
    zl_schema *s = (zl_schema *)(void *)m;
    release_table(&s->states);
    release_table(&s->stacks);
    release_table(&s->pushes);
    release_table(&s->ends);
    release_table(&s->own);
    release_table(&s->listeners);
    release_table(&s->keyed);
    zl_schema_release_places(s);
    free(s->end_place);
    free(s->row_of);
    free(s->rows);
}

zl_schema *zl_schema_of(zl_machine *m) { return m && m->release == zl_schema_release ? (zl_schema *)(void *)m : NULL; }

int zl_json_schema_automaton(zl_machine *m, const zl_json_automaton *given, int32_t *number) {
    zl_schema *s = zl_schema_of(m);
    if (!s || !given || !number || !given->class_of || !given->next || !given->shortest)
        return zl_fail(ZL_E_ARG, "json_schema: a null pointer, or another machine");
    if (given->n_states < 1 || given->n_states > 1 << 24 || given->n_classes < 1 || given->n_classes > 256)
        return zl_fail(ZL_E_SHAPE, "json_schema: an automaton of %d states and %d classes", given->n_states, given->n_classes);
    for (int b = 0; b < 256; b++)
        if (given->class_of[b] >= given->n_classes) return zl_fail(ZL_E_BOUNDS, "json_schema: byte %d is of class %d", b, given->class_of[b]);
    const int64_t cells = (int64_t)given->n_states * given->n_classes;
    for (int64_t i = 0; i < cells; i++)
        if (given->next[i] < NONE || given->next[i] >= given->n_states)
            return zl_fail(ZL_E_BOUNDS, "json_schema: an automaton of %d states leads to %d", given->n_states, given->next[i]);
    for (int32_t i = 0; i < given->n_states; i++)
        if (given->shortest[i] < 0) return zl_fail(ZL_E_BOUNDS, "json_schema: %d characters", given->shortest[i]);
    if (zl_machine_grow(m, &s->automata, &s->automata_bytes, (s->n_automata + 1) * (int64_t)sizeof *s->automata)) return zl_machine_fail(m);
    zl_text_automaton made = {.n_states = given->n_states, .n_classes = given->n_classes};
    if (zl_machine_grow(m, &made.next, &made.bytes, (cells + given->n_states) * (int64_t)sizeof *made.next)) return zl_machine_fail(m);
    memcpy(made.class_of, given->class_of, sizeof made.class_of);
    memcpy(made.next, given->next, (size_t)cells * sizeof *made.next);
    memcpy(made.next + cells, given->shortest, (size_t)given->n_states * sizeof *made.next);
    *number = s->n_automata;
    s->automata[s->n_automata++] = made;
    return ZL_OK;
}

int zl_json_schema_new(const zl_json_schema *ask, zl_machine **out) {
    if (!ask || !out || !ask->row || !ask->after) return zl_fail(ZL_E_ARG, "json_schema: a null pointer");
    if (ask->root >= 0 && !ask->say) return zl_fail(ZL_E_ARG, "json_schema: a null pointer");
    if (ask->root < 0 && (ask->first < 0 || ask->last < 0)) return zl_fail(ZL_E_BOUNDS, "json_schema: places %d and %d", ask->first, ask->last);
    zl_schema *s = calloc(1, sizeof *s);
    if (!s) return zl_fail(ZL_E_MEMORY, "json_schema: %zu bytes", sizeof *s);
    zl_machine_init(&s->base, step, finished, zl_schema_release, NULL, 256);
    s->base.alike = alike;
    s->base.fresh = zl_schema_fresh;
    zl_schema_rows(s);
    s->ask = *ask;
    s->last = ask->root < 0 ? ask->last : zl_schema_document(s, 1);
    int32_t first = ask->root < 0 ? ask->first : zl_schema_document(s, 0);
    s->base.start = first < 0 || s->last < 0 ? ZL_BUDGET : state_of(s, first, NONE);
    if (s->base.start < 0) {
        int status = zl_machine_fail(&s->base);
        zl_machine_free(&s->base);
        return status;
    }
    *out = &s->base;
    return ZL_OK;
}
