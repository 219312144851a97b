// Asks llama.cpp's own grammar code about texts: for tools/compare_gbnf.py, which compiles and feeds it.
//
// stdin, every string as its length in decimal, a newline, its bytes:
//     number of grammars; per grammar: its text, number of texts, the texts
// stdout, a line per grammar: E where it is refused, else a 1 or 0 per text: the whole text is accepted or not
#include "llama-grammar.h"

#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

static std::string take() {
    std::string digits;
    std::getline(std::cin, digits);
    std::string text(std::stoul(digits), '\0');
    std::cin.read(text.data(), static_cast<std::streamsize>(text.size()));
    return text;
}

static size_t length_of(unsigned char first) { return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4; }

static bool accepted(llama_grammar * grammar, const std::string & text) {
    auto & stacks = llama_grammar_get_stacks(grammar);
    for (size_t at = 0; at < text.size();) {
        const size_t n = length_of(static_cast<unsigned char>(text[at]));
        try {
            llama_grammar_accept_token(*grammar, 0, text.substr(at, n));
        } catch (const std::exception &) {
            return false;
        }
        if (stacks.empty()) return false;
        at += n;
    }
    for (const auto & stack : stacks) {
        if (stack.empty()) return true;
    }
    return false;
}

int main() {
    const size_t n_grammars = std::stoul(take());
    for (size_t i = 0; i < n_grammars; i++) {
        const std::string source = take();
        const size_t n_texts = std::stoul(take());
        llama_grammar * grammar = llama_grammar_init_impl(nullptr, source.c_str(), "root", false, nullptr, 0, nullptr, 0);
        const auto begin = grammar ? llama_grammar_get_stacks(grammar) : llama_grammar_stacks{};
        std::string said = grammar ? "" : "E";
        for (size_t j = 0; j < n_texts; j++) {
            const std::string text = take();
            if (!grammar) continue;
            llama_grammar_get_stacks(grammar) = begin;
            said += accepted(grammar, text) ? '1' : '0';
        }
        if (grammar) llama_grammar_free_impl(grammar);
        std::printf("%s\n", said.c_str());
    }
}
