package catalogue

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/weir-metrics/weir/internal/yamldoc"
)

// The decoder walks the syntax tree itself instead of filling structs by
// reflection: a library stops at the first key that it does not know, and
// whoever edits a catalogue wants every mistake at once, each with its line.

// place is where something was declared.
type place struct {
	file string
	line int
}

func (p place) String() string {
	if p.file == "" {
		return "settings"
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

// problems collects what is wrong, in the order found.
type problems struct{ list []error }

func (p *problems) add(at place, format string, args ...any) {
	p.list = append(p.list, fmt.Errorf("%s: %s", at, fmt.Sprintf(format, args...)))
}

func (p *problems) err() error { return errors.Join(p.list...) }

// reader decodes one file.
type reader struct {
	file string
	*problems
}

// field decodes the value of one key.
type field func(ast.Node)

// parse returns the root of the file's only document, nil when it is empty or
// cannot be parsed.
func (r reader) parse(text []byte) ast.Node {
	f, err := yamldoc.Parse(text)
	if err != nil {
		r.add(place{r.file, 1}, "not YAML: %s", strings.Join(strings.Fields(err.Error()), " "))
		return nil
	}
	var root ast.Node
	for _, doc := range f.Docs {
		switch {
		case doc.Body == nil:
		case root != nil:
			r.add(r.at(doc.Body), "second document; a file holds one")
		default:
			root = doc.Body
		}
	}
	return root
}

func (r reader) at(n ast.Node) place {
	p := place{file: r.file, line: 1}
	if t := n.GetToken(); t != nil && t.Position != nil {
		p.line = t.Position.Line
	}
	return p
}

// mapping decodes an object whose keys are all in fields.
func (r reader) mapping(n ast.Node, what string, fields map[string]field) {
	for _, e := range r.entries(n, what) {
		if f, ok := fields[e.key]; ok {
			f(e.value)
			continue
		}
		known := slices.Sorted(maps.Keys(fields))
		r.add(r.at(e.node), "%s has unknown key %q; known are %s", what, e.key, strings.Join(known, ", "))
	}
}

type yamlEntry struct {
	key         string
	node, value ast.Node
}

// entries are the keys and values of an object.
func (r reader) entries(n ast.Node, what string) []yamlEntry {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		r.add(r.at(n), "%s is %s; it must be an object", what, describe(n))
		return nil
	}
	var out []yamlEntry
	for _, v := range values {
		key, ok := v.Key.(ast.ScalarNode)
		if !ok || v.Key.IsMergeKey() {
			r.add(r.at(v.Key), "%s has a key that is not plain text", what)
			continue
		}
		text := fmt.Sprint(key.GetValue())
		if slices.ContainsFunc(out, func(e yamlEntry) bool { return e.key == text }) {
			r.add(r.at(v.Key), "%s has key %q twice", what, text)
			continue
		}
		out = append(out, yamlEntry{text, v.Key, v.Value})
	}
	return out
}

// list decodes each element of a list.
func (r reader) list(what string, each func(ast.Node)) field {
	return func(n ast.Node) {
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			r.add(r.at(n), "%s is %s; it must be a list", what, describe(n))
			return
		}
		for _, v := range seq.Values {
			each(v)
		}
	}
}

// text decodes a scalar that is meant as text; numbers are taken as written,
// since 404 and 5 are label values too.
func (r reader) text(what string, to func(string)) field {
	return func(n ast.Node) {
		switch n := n.(type) {
		case *ast.StringNode:
			to(n.Value)
		case *ast.LiteralNode:
			to(strings.TrimSpace(n.Value.Value))
		case *ast.IntegerNode:
			to(n.GetToken().Value)
		default:
			r.add(r.at(n), "%s is %s; it must be text", what, describe(n))
		}
	}
}

func (r reader) texts(what string, to *[]string) field {
	return func(n ast.Node) {
		*to = []string{} // present, even if empty: an override may empty a list
		r.list(what, r.text(what+" element", func(s string) { *to = append(*to, s) }))(n)
	}
}

func (r reader) number(what string, to func(int)) field {
	return func(n ast.Node) {
		if i, ok := n.(*ast.IntegerNode); ok {
			if v, err := strconv.Atoi(fmt.Sprint(i.Value)); err == nil {
				to(v)
				return
			}
		}
		r.add(r.at(n), "%s is %s; it must be a whole number", what, describe(n))
	}
}

func (r reader) boolean(what string, to func(bool)) field {
	return func(n ast.Node) {
		if b, ok := n.(*ast.BoolNode); ok {
			to(b.Value)
			return
		}
		r.add(r.at(n), "%s is %s; it must be true or false", what, describe(n))
	}
}

// duration decodes 300 (seconds), 5m, 1h30m or 1d.
func (r reader) duration(what string, to func(time.Duration)) field {
	return func(n ast.Node) {
		var text string
		switch n := n.(type) {
		case *ast.StringNode:
			text = n.Value
		case *ast.IntegerNode:
			text = fmt.Sprint(n.Value)
		}
		d, ok := parseDuration(text)
		if !ok {
			r.add(r.at(n), "%s is %s; it must be a duration such as 300, 5m, 1h or 1d", what, describe(n))
			return
		}
		to(d)
	}
}

func parseDuration(text string) (time.Duration, bool) {
	unit := time.Duration(0)
	digits, isDays := strings.CutSuffix(text, "d")
	if isDays {
		unit = 24 * time.Hour
	} else if _, err := strconv.Atoi(text); err == nil {
		unit, digits = time.Second, text
	}
	if unit == 0 {
		d, err := time.ParseDuration(text)
		return d, err == nil && d >= 0
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n > 1e6 {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

// describe names a value for an error message.
func describe(n ast.Node) string {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "empty"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "an object"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		return "an anchor, alias, tag or merge, which are not supported here"
	case *ast.LiteralNode:
		return "a block of text"
	case ast.ScalarNode:
		return strconv.Quote(clip(n.GetToken().Value))
	}
	return "something else"
}
