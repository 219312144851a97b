/* json_schema.h - the machine of a JSON Schema, as its two halves see it: the stack and what is asked (json_schema.c), and the places that C
 * knows by itself (json_schema_places.c). */
#ifndef ZL_JSON_SCHEMA_H
#define ZL_JSON_SCHEMA_H
#include "grammar_machine.h"

enum { GO, PUSH, POP, OVER };
enum { NONE = -1, EMPTY = -1, OWN = 1 << 28 };
enum { IN_TEXT, IN_CHARACTER, IN_ESCAPE, IN_DIGITS, IN_TOKENS, FRESH_ROWS };

/* Phases of own places and what is kept of strings, see json_schema_places.c. */
enum {
    BETWEEN, UTF8, ESCAPE = UTF8 + 7, DIGITS, PAIR, PAIR_ESCAPE, PAIR_DIGITS, LITERAL, OBJECT_FIRST, OBJECT_NAME, OBJECT_NAMED, OBJECT_COLON,
    OBJECT_VALUE, OBJECT_WAITS, OBJECT_COMMA, ARRAY_FIRST, ARRAY_ITEM, ARRAY_WAITS, ARRAY_COMMA, DOCUMENT, DOCUMENT_WAITS, DOCUMENT_LAST
};
enum { KIND_BITS = 5, OUT = -1, LEFT = -2, ALIKE = 257, CLOSE = 256, LISTENED = 258 };

static const char ESCAPES[] = "\"\\/bfnrt";
static const char *const WORDS[] = {"null", "true", "false"};

/* Pairs of numbers, each pair once: its index is its name. */
typedef struct {
    int32_t n;
    int32_t *pairs; /* [n][2] */
    int64_t pairs_bytes;
    int32_t *slots; /* [n_slots] index of a pair, or EMPTY; n_slots a power of two, at most half full */
    int64_t slots_bytes, n_slots;
} zl_pairs_table;

/* Rows of so many numbers that are asked for once, by their index; the first number is UNKNOWN until then. */
typedef struct {
    int32_t n;
    int32_t *rows; /* [n][width] */
    int64_t bytes;
} zl_asked_rows;

/* Texts, sorted, as a trie, depth first (as in grammar_mask.c): node 0 is the root; below node i are i + 1 .. end - 1. */
typedef struct {
    int32_t end, first, last; /* the texts below: first .. last - 1 */
    int32_t exact;            /* the text that ends here, or NONE */
    uint8_t byte;
} zl_text_node;

typedef struct {
    int32_t n, n_nodes;
    zl_text_node *nodes;
    int64_t bytes;
} zl_text_list;

/* What a string may be; see zl_json_text. */
typedef struct {
    int32_t list, least, most, other, first, automaton;
    int32_t *results; /* [n] and then, of each text, how many before it may come: [n + 1]; with `first`, of each node its listener */
    int64_t bytes;
    int32_t *ends;    /* [n_states] of the automaton */
    int64_t ends_bytes;
} zl_text;

/* See zl_json_automaton. */
typedef struct {
    int32_t n_states, n_classes;
    uint8_t class_of[256];
    int32_t *next; /* [n_states][n_classes] and then [n_states] the shortest ends */
    int64_t bytes;
} zl_text_automaton;

typedef struct {
    zl_machine base;
    zl_json_schema ask;
    int32_t last;                     /* the place after the document                                        */
    zl_pairs_table states, stacks, pushes; /* (place, stack) (frame, below) (child, frame)                   */
    zl_pairs_table ends;              /* (frame, result)                                                     */
    int32_t *end_place;               /* [ends.n] the place after it; NONE: none goes on so                  */
    int64_t end_bytes;
    int32_t *row_of;                  /* [n_places] row of a place, or EMPTY                                 */
    int64_t row_of_bytes;
    int32_t n_places, n_rows;
    int32_t *rows;                    /* [n_rows][257]                                                       */
    int64_t rows_bytes;
    /* places that are known here: */
    zl_pairs_table own, listeners, keyed; /* (subject, phase) (text, how far) (object, key)                  */
    zl_asked_rows objects, arrays, plans, values, listened;
    zl_text_list *lists;
    zl_text *texts;
    zl_text_automaton *automata;
    int32_t n_lists, n_texts, n_automata;
    int64_t lists_bytes, texts_bytes, automata_bytes;
    int32_t fresh[FRESH_ROWS][256];
} zl_schema;

/* The index of a pair, which is entered if it is new: *fresh says so. ZL_BUDGET: no room. */
int32_t zl_pairs_intern(zl_machine *m, zl_pairs_table *t, int32_t a, int32_t b, int *fresh);

/* What was answered is what went wrong there, or not what these files say: fails closed. -1. */
int zl_schema_refuse(zl_schema *s);

/* The machine as what it is; NULL for another kind. */
zl_schema *zl_schema_of(zl_machine *m);

/* What a byte does at an own place: *kind and the number that goes with it (GO a place, POP a result, PUSH an index of `pushes`), NONE, or
 * ZL_BUDGET. */
int32_t zl_schema_act(zl_schema *s, int32_t place, uint8_t byte, int *kind);
/* See zl_machine.fresh. */
void zl_schema_fresh(zl_machine *m, int32_t state, int32_t *row);
void zl_schema_rows(zl_schema *s); /* makes s->fresh */
/* The row of a place of Python's, asked for if it is new; NULL with `over` set. Valid until the next is asked for. */
const int32_t *zl_schema_row_at(zl_schema *s, int32_t place);
/* The value of a hexadecimal digit, -1 for another byte. */
int zl_schema_hex(uint8_t b);
/* The place after any character of a string, if an own place is between characters and all lead to the same; NONE; ZL_BUDGET. */
int32_t zl_schema_alike(zl_schema *s, int32_t place);
/* The place after a result, for an own frame; NONE; ZL_BUDGET. */
int32_t zl_schema_after(zl_schema *s, int32_t frame, int32_t result);
/* The place before the document, or after it; ZL_BUDGET. */
int32_t zl_schema_document(zl_schema *s, int after);
void zl_schema_release(zl_machine *m);
void zl_schema_release_places(zl_schema *s);
#endif
