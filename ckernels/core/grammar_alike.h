/* grammar_alike.h - classes of characters, each of which holds the one before, and what a machine's state does with all of one class. */
#ifndef ZL_GRAMMAR_ALIKE_H
#define ZL_GRAMMAR_ALIKE_H
#include "grammar_machine.h"

enum { LOWER, NAME, ASCII, TEXT, REST, TAILS, N_GROUPS };

static inline int class_of(uint8_t b) {
    if (b >= 'a' && b <= 'z') return LOWER;
    if ((b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || b == '_') return NAME;
    if (b >= ' ' && b <= '~' && b != '"' && b != '\\') return ASCII;
    return b >= 0x80 ? TEXT : REST;
}

/* UTF-8 beyond ASCII as an automaton: rows of {lowest byte, highest byte, row after it}; row 0 is a character's end. */
typedef struct {
    uint8_t low, high, then;
} utf8_edge;
static const utf8_edge utf8[][9] = {
    {{0xc2, 0xdf, 1}, {0xe0, 0xe0, 3}, {0xe1, 0xec, 2}, {0xed, 0xed, 4}, {0xee, 0xef, 2}, {0xf0, 0xf0, 6}, {0xf1, 0xf3, 5}, {0xf4, 0xf4, 7}},
    {{0x80, 0xbf, 0}}, {{0x80, 0xbf, 1}}, {{0xa0, 0xbf, 1}}, {{0x80, 0x9f, 1}}, {{0x80, 0xbf, 2}}, {{0x90, 0xbf, 2}}, {{0x80, 0x8f, 2}}};

/* The state that each character of the class leads to from `state`, ZL_DEAD where none may follow; ZL_MIXED where they do not agree. */
int32_t zl_alike_uniform(zl_machine *m, int32_t state, int class);
/* How many characters of the class may follow one another, `most` at most; 0 where it depends on which they are; -1 budget. */
int zl_alike_run_of(zl_machine *m, int32_t state, int class, int most);
/* Whether no text of the class's characters, `most` of them, is refused after `state`; 0 also where it cannot be said; -1 budget. */
int zl_alike_closed(zl_machine *m, int32_t state, int class, int most);
/* A state that all of the class lead back to, and most of its bytes, whose states are `next`; ZL_DEAD: none. */
int32_t zl_alike_usual(zl_machine *m, const int32_t *next, int class);
#endif
