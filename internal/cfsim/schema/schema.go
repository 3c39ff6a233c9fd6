// Package schema is the part of Cloudflare's GraphQL schema that the simulator
// knows: datasets, the containers inside them, fields and types. It is data
// (datasets.txt), because the real one is too, and moves every month.
//
// What happens in the datasets is the matter of package traffic.
package schema

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed datasets.txt
var text string

// Scope says where a dataset may stand.
type Scope string

// The scopes of datasets.
const (
	Zone    Scope = "zone"
	Account Scope = "account"
)

// Field is a leaf, or a list of objects when it has Fields.
type Field struct {
	Name   string
	Type   string // Cloudflare's scalar name; "" for a list of objects
	List   bool   // list of scalars
	Fields []Field
}

// Dataset is one node below a zone or an account. Datasets are shared and read
// only.
type Dataset struct {
	Name       string
	Scopes     []Scope
	Containers []string // in schema order; "count" is a number itself
	Raw        bool     // rows instead of groups: the only container is "raw"

	fields      map[string][]Field
	filterOnly  []Field
	accountOnly []Field // further dimensions in an account's scope
}

var (
	datasets = mustParse(text)
	byName   = index(datasets)
)

// Lookup returns the dataset of that name in that scope, or nil.
func Lookup(scope Scope, name string) *Dataset {
	if d := byName[name]; d != nil && slices.Contains(d.Scopes, scope) {
		return d
	}
	return nil
}

// Datasets are all datasets of a scope, in the schema's order.
func Datasets(scope Scope) []*Dataset {
	var out []*Dataset
	for _, d := range datasets {
		if slices.Contains(d.Scopes, scope) {
			out = append(out, d)
		}
	}
	return out
}

// Has reports whether the dataset has a container of that name.
func (d *Dataset) Has(container string) bool { return slices.Contains(d.Containers, container) }

// Fields are the fields of a container.
func (d *Dataset) Fields(scope Scope, container string) []Field {
	f := d.fields[container]
	if container == "dimensions" && scope == Account {
		f = append(slices.Clip(f), d.accountOnly...)
	}
	return f
}

// Field finds one field of a container.
func (d *Dataset) Field(scope Scope, container, name string) (Field, bool) {
	return find(d.Fields(scope, container), name)
}

// Filterable finds the field that a filter may name, without operator suffix.
func (d *Dataset) Filterable(scope Scope, name string) (Field, bool) {
	if d.Raw {
		return find(d.fields["raw"], name)
	}
	if f, ok := d.Field(scope, "dimensions", name); ok {
		return f, true
	}
	return find(d.filterOnly, name)
}

// Filters are the fields that a filter may name, without operator suffixes.
func (d *Dataset) Filters(scope Scope) []Field {
	if d.Raw {
		return slices.DeleteFunc(slices.Clone(d.fields["raw"]), func(f Field) bool { return f.Type == "" })
	}
	return append(slices.Clip(d.Fields(scope, "dimensions")), d.filterOnly...)
}

func find(fields []Field, name string) (Field, bool) {
	for _, f := range fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// Flat are the names that the settings node lists as availableFields: "count",
// "sum_requests", "dimensions_datetime". A list of objects appears under its
// own name and with each of its fields, since which of the two the real API
// uses is not published.
func (d *Dataset) Flat(scope Scope) []string {
	var out []string
	for _, c := range d.Containers {
		switch c {
		case "count":
			out = append(out, c)
		case "confidence":
			for _, f := range d.fields[c] {
				out = append(out, "confidence_"+f.Name)
			}
		default:
			prefix := c + "_"
			if d.Raw {
				prefix = ""
			}
			for _, f := range d.Fields(scope, c) {
				out = append(out, prefix+f.Name)
				for _, sub := range f.Fields {
					out = append(out, prefix+f.Name+"_"+sub.Name)
				}
			}
		}
	}
	return out
}

func index(all []*Dataset) map[string]*Dataset {
	m := make(map[string]*Dataset, len(all))
	for _, d := range all {
		m[d.Name] = d
	}
	return m
}

// mustParse panics on a malformed file: it is compiled in, so no input can
// cause it.
func mustParse(text string) []*Dataset {
	var all []*Dataset
	var d *Dataset
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		head, rest := words[0], words[1:]
		switch {
		case head == "dataset":
			d = &Dataset{Name: rest[0], fields: map[string][]Field{}}
			for _, s := range rest[1:] {
				d.Scopes = append(d.Scopes, Scope(s))
			}
			all = append(all, d)
		case d == nil:
			panic(fmt.Sprintf("schema: line %d: %q before any dataset", i+1, head))
		case head == "filter":
			d.filterOnly = parseFields(rest)
		case head == "account":
			d.accountOnly = parseFields(rest)
		default:
			d.Containers = append(d.Containers, head)
			d.Raw = d.Raw || head == "raw"
			if head != "count" {
				d.fields[head] = parseFields(rest)
			}
		}
	}
	return all
}

func parseFields(words []string) []Field {
	var out []Field
	for _, w := range words {
		name, list, ok := strings.Cut(w, "[")
		if ok && !strings.HasSuffix(name, ":") { // name[a:t,b:t]
			out = append(out, Field{Name: name, Fields: parseFields(strings.Split(strings.TrimSuffix(list, "]"), ","))})
			continue
		}
		name, typ, _ := strings.Cut(w, ":")
		f := Field{Name: name, Type: strings.Trim(typ, "[]"), List: strings.HasPrefix(typ, "[")}
		out = append(out, f)
	}
	return out
}
