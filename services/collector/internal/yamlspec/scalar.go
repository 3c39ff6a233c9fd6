package yamlspec

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/weir-metrics/weir/internal/bucket"
)

// text checks a text against the rule of a tag.
func (d *decoder) text(n ast.Node, p path, text, tag string) bool {
	switch r := d.format.rule(tag); {
	case r.oneOf != nil && !slices.Contains(r.oneOf, text):
		d.add(n, "%s is %q; it must be %s", p, bucket.Clip(text), r.alternatives())
	case r.pattern.Regexp != nil && !r.pattern.MatchString(text):
		d.add(n, "%s is %q; it must %s", p, bucket.Clip(text), r.pattern.Want)
	default:
		return true
	}
	return false
}

func (d *decoder) duration(n ast.Node, to reflect.Value, p path, r rule) {
	text, _ := textOf(n)
	v, ok := ParseDuration(text)
	switch {
	case r.oneOf != nil && !slices.ContainsFunc(r.oneOf, func(s string) bool { one, _ := ParseDuration(s); return ok && v == one }):
		d.add(n, "%s is %s; it must be %s", p, describe(n), r.alternatives())
	case !ok:
		d.add(n, "%s is %s; it must be a duration such as 300, 5m, 1h or 1d", p, describe(n))
	default:
		to.SetInt(int64(v))
	}
}

func (d *decoder) number(n ast.Node, to reflect.Value, p path, r rule) {
	v, ok := 0, false
	if i, isInteger := n.(*ast.IntegerNode); isInteger {
		var err error
		v, err = strconv.Atoi(fmt.Sprint(i.Value))
		ok = err == nil
	}
	switch {
	case !ok:
		d.add(n, "%s is %s; it must be a whole number", p, describe(n))
	case r.ranged && (v < r.low || v > r.high):
		d.add(n, "%s is %d; it must be %d to %d", p, v, r.low, r.high)
	default:
		to.SetInt(int64(v))
	}
}

// plain decodes text, a whole number, or a list of both.
func (d *decoder) plain(n ast.Node, p path) (any, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode:
		if i, err := strconv.ParseInt(fmt.Sprint(n.Value), 10, 64); err == nil {
			return i, true
		}
	case *ast.SequenceNode:
		list := make([]any, 0, len(n.Values))
		for _, v := range n.Values {
			if _, nested := v.(*ast.SequenceNode); nested {
				d.add(v, "%s element is a list; it must be text or a whole number", p)
			} else if value, ok := d.plain(v, path{p.name + " element", p.around}); ok {
				list = append(list, value)
			}
		}
		return list, true
	}
	d.add(n, "%s is %s; it must be text or a whole number", p, describe(n))
	return nil, false
}

// textOf is the text of a scalar that is meant as text. Numbers are taken as
// written, since 404 and 5 are label values too.
func textOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value), true
	case *ast.IntegerNode:
		return n.GetToken().Value, true
	case *ast.FloatNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// ParseDuration reads 300 (seconds), 5m, 1h30m or 1d.
func ParseDuration(text string) (time.Duration, bool) {
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
		return strconv.Quote(bucket.Clip(n.GetToken().Value))
	}
	return "something else"
}
