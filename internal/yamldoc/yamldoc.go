// Package yamldoc parses a YAML text into its syntax tree, within bounds.
//
// Aliases stay nodes of the tree: nothing here expands them, so that a few lines
// cannot stand for gigabytes. But the parser's time and memory grow with the
// square of the nesting: 32 KiB of "[" take 2 GB. The scanner's do not, so the
// bounds are checked between the two.
package yamldoc

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/weir-metrics/weir/internal/smallfile"
)

// The bounds, each far above what a file of settings or datasets has.
const (
	mostTokens = 40_000 // 20,000 elements of a list
	mostNested = 64     // in brackets, or on one line
)

// Error is a mistake in a line.
type Error struct {
	Line int
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }

// Parse returns the tree of a text. Its errors show nothing of the text beyond
// what the parser's own do.
func Parse(text []byte) (*ast.File, error) {
	if len(text) > int(smallfile.YAML) {
		return nil, fmt.Errorf("it is larger than %d KiB", smallfile.YAML>>10)
	}
	if !utf8.Valid(text) {
		return nil, &Error{1 + bytes.Count(valid(text), []byte("\n")), "it is not UTF-8"}
	}
	tokens := lexer.Tokenize(string(text))
	if err := check(tokens); err != nil {
		return nil, err
	}
	return parser.Parse(tokens, 0)
}

// valid is what precedes the first byte that is not UTF-8.
func valid(text []byte) []byte {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n <= 1 {
			return text[:i]
		}
		i += n
	}
	return text
}

func check(tokens token.Tokens) error {
	if len(tokens) > mostTokens {
		return fmt.Errorf("it has %d elements; it must have at most %d", len(tokens), mostTokens)
	}
	brackets, row, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, row = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.CollectEntryType:
			row = 0
		case token.SequenceEntryType, token.MappingValueType, token.MappingKeyType, token.AnchorType, token.TagType:
			row++
		default:
		}
		if brackets > mostNested || row > mostNested {
			return &Error{line, fmt.Sprintf("it nests deeper than %d levels", mostNested)}
		}
	}
	return nil
}
