package yamlspec

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/yamldoc"
)

// Decode reads the only document of a text into the struct that to points to and
// returns every mistake in it, in the order of the file. What is wrong is left as
// it was, except for text that breaks a rule: others may refer to it. name is the
// file's name in the places and the mistakes.
func (f Format) Decode(name string, text []byte, to any) []error {
	d := decoder{format: f, file: name}
	if root := d.parse(text); root != nil {
		d.object(root, reflect.ValueOf(to).Elem(), path{"file", ""}, d.at(root))
	}
	return d.problems
}

type decoder struct {
	format   Format
	file     string
	problems []error
}

// path is how messages call a value: its name, and the objects around it.
type path struct{ name, around string }

func (p path) String() string { return p.around + p.name }

// in is the path of a key of the object at p.
func (p path) in(key string) path {
	if p.name == "file" {
		return path{key, ""}
	}
	return path{key, p.String() + ": "}
}

func (d *decoder) add(n ast.Node, format string, args ...any) {
	d.problems = append(d.problems, d.at(n).Problemf(format, args...))
}

// at is where a node is declared.
func (d *decoder) at(n ast.Node) Place {
	p := Place{File: d.file, Line: 1}
	if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
		p.Line = n.GetToken().Position.Line
	}
	return p
}

// parse returns the root of the only document, nil when there is none, which is a mistake.
func (d *decoder) parse(text []byte) ast.Node {
	f, err := yamldoc.Parse(text)
	if err != nil {
		at, what := d.at(nil), err.Error()
		if s := new(yaml.SyntaxError); errors.As(err, &s) && s.Token != nil && s.Token.Position != nil {
			at.Line, what = s.Token.Position.Line, s.Message
		} else if in := new(yamldoc.Error); errors.As(err, &in) {
			at.Line, what = in.Line, in.Text
		}
		d.problems = append(d.problems, at.Problemf("not YAML: %s", strings.Join(strings.Fields(what), " ")))
		return nil
	}
	var root ast.Node
	for _, doc := range f.Docs {
		switch {
		case doc.Body == nil:
		case root != nil:
			d.add(doc.Body, "second document; a file holds one")
		default:
			root = doc.Body
		}
	}
	if root == nil {
		d.problems = append(d.problems, d.at(nil).Problemf("file is empty; it must be an object"))
	}
	return root
}

type entry struct {
	key         string
	node, value ast.Node
}

// entries are the keys and values of an object.
func (d *decoder) entries(n ast.Node, p path) []entry {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		d.add(n, "%s is %s; it must be an object", p, describe(n))
		return nil
	}
	var out []entry
	for _, v := range values {
		key, ok := v.Key.(ast.ScalarNode)
		if !ok || v.Key.IsMergeKey() {
			d.add(v.Key, "%s has a key that is not plain text", p)
			continue
		}
		text := fmt.Sprint(key.GetValue())
		if slices.ContainsFunc(out, func(e entry) bool { return e.key == text }) {
			d.add(v.Key, "%s has key %q twice", p, text)
			continue
		}
		out = append(out, entry{text, v.Key, v.Value})
	}
	return out
}

// object decodes a struct that is declared at a place.
func (d *decoder) object(n ast.Node, to reflect.Value, p path, at Place) {
	known := fields(to.Type())
	if f := to.FieldByName("Place"); f.IsValid() && f.Type() == placeType {
		f.Set(reflect.ValueOf(at))
	}
	entries := d.entries(n, p)
	if entries == nil && !isEmptyObject(n) {
		return
	}
	for _, f := range known {
		i := slices.IndexFunc(entries, func(e entry) bool { return e.key == f.key })
		switch required := f.Tag.Get("required"); {
		case required != "" && i < 0:
			d.add(n, "%s has no %s", p, f.key)
		case required == "id" && i >= 0:
			if text, ok := textOf(entries[i].value); ok {
				p.name += " " + bucket.Clip(text)
			}
		}
	}
	for _, e := range entries {
		i := slices.IndexFunc(known, func(f field) bool { return f.key == e.key })
		if i < 0 {
			var keys []string
			for _, f := range known {
				keys = append(keys, f.key)
			}
			slices.Sort(keys)
			d.add(e.node, "%s has unknown key %q; known are %s", p, e.key, strings.Join(keys, ", "))
			continue
		}
		d.value(e.value, to.FieldByIndex(known[i].Index), p.in(e.key), known[i].Tag)
	}
}

func isEmptyObject(n ast.Node) bool {
	m, ok := n.(*ast.MappingNode)
	return ok && len(m.Values) == 0
}

// value decodes one value by the type of where it goes.
func (d *decoder) value(n ast.Node, to reflect.Value, p path, tag reflect.StructTag) {
	if u, ok := to.Addr().Interface().(encoding.TextUnmarshaler); ok {
		text, ok := textOf(n)
		if err := u.UnmarshalText([]byte(text)); !ok || err != nil {
			d.add(n, "%s is %s; it must be %v", p, describe(n), err)
		}
		return
	}
	switch {
	case to.Type() == durationType:
		d.duration(n, to, p, d.format.rule(tag.Get("is")))
	case to.Kind() == reflect.Pointer:
		v := reflect.New(to.Type().Elem())
		if d.sound(n, v.Elem(), p, tag) {
			to.Set(v)
		}
	case to.Kind() == reflect.Struct:
		d.object(n, to, p, d.at(n))
	case to.Kind() == reflect.Slice:
		d.list(n, to, p, tag)
	case to.Kind() == reflect.Map:
		d.table(n, to, p, tag)
	case to.Kind() == reflect.String:
		text, ok := textOf(n)
		if !ok {
			d.add(n, "%s is %s; it must be text", p, describe(n))
		} else {
			d.text(n, p, text, tag.Get("is"))
			to.SetString(text)
		}
	case to.Kind() == reflect.Int:
		d.number(n, to, p, d.format.rule(tag.Get("is")))
	case to.Kind() == reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.add(n, "%s is %s; it must be true or false", p, describe(n))
			return
		}
		to.SetBool(b.Value)
	case to.Kind() == reflect.Interface:
		if v, ok := d.plain(n, p); ok {
			to.Set(reflect.ValueOf(v))
		}
	default:
		panic(fmt.Sprintf("yamlspec: field %s of type %s", p, to.Type()))
	}
}

// sound decodes a value and reports whether it is worth keeping: an object or a
// text with a mistake still is, a wrong number is not.
func (d *decoder) sound(n ast.Node, to reflect.Value, p path, tag reflect.StructTag) bool {
	before := len(d.problems)
	d.value(n, to, p, tag)
	switch to.Kind() {
	case reflect.Struct, reflect.String:
		return true
	case reflect.Pointer:
		return !to.IsNil()
	default:
		return len(d.problems) == before
	}
}

// list decodes each element. A list that is present is never nil, so that an
// overlay can empty one.
func (d *decoder) list(n ast.Node, to reflect.Value, p path, tag reflect.StructTag) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.add(n, "%s is %s; it must be a list", p, describe(n))
		return
	}
	if name, ok := tag.Lookup("each"); ok {
		p.name = name
	} else {
		p.name += " element"
	}
	to.Set(reflect.MakeSlice(to.Type(), 0, len(seq.Values)))
	for _, v := range seq.Values {
		element := reflect.New(to.Type().Elem()).Elem()
		if d.sound(v, element, p, tag) {
			to.Set(reflect.Append(to, element))
		}
	}
}

// table decodes a map.
func (d *decoder) table(n ast.Node, to reflect.Value, p path, tag reflect.StructTag) {
	to.Set(reflect.MakeMap(to.Type()))
	name, object := tag.Lookup("each")
	for _, e := range d.entries(n, p) {
		key := reflect.New(to.Type().Key()).Elem()
		if key.Type() == durationType {
			v, ok := ParseDuration(e.key)
			if !ok {
				d.add(e.node, "key of %s is %q; it must be a duration such as 5m", p, bucket.Clip(e.key))
				continue
			}
			key.SetInt(int64(v))
		} else if key.SetString(e.key); !d.text(e.node, path{"key of " + p.name, p.around}, e.key, tag.Get("keys")) {
			continue
		}
		element := reflect.New(to.Type().Elem()).Elem()
		if object {
			d.object(e.value, element, path{name + " " + bucket.Clip(e.key), p.around}, d.at(e.node))
		} else if !d.sound(e.value, element, path{p.name + " " + bucket.Clip(e.key), p.around}, tag) {
			continue
		}
		to.SetMapIndex(key, element)
	}
}
