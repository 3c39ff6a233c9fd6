// Package query reads GraphQL requests the way Cloudflare's API does: it
// parses the language, puts the variables in, spreads the fragments, and
// leaves it to the caller to say which fields exist.
//
// The real API is lax where the standard is strict. Variables may be used
// without being declared, and declared with any type name ("string", "Time",
// "uint64", even "filter"); so nothing here looks at declarations except for
// default values.
package query

import (
	"encoding/json"
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

// Field is one selected field with its arguments, variables already replaced.
//
// Argument values are nil, bool, string (also for enum values), json.Number,
// []any and map[string]any.
type Field struct {
	Name   string
	Alias  string // the key in the answer; Name when none was given
	Args   map[string]any
	Fields []Field // nil for a field without braces
}

// Limits of one document: far above what clients send, low enough that a
// hostile one cannot exhaust the simulator.
const (
	maxTokens = 100_000
	maxFields = 20_000
	maxDepth  = 40
)

// Parse reads one document. operation names the operation to take when there
// are several; it may be empty otherwise. Parse errors say what is wrong and
// where, in the parser's words.
func Parse(text, operation string, variables map[string]any) ([]Field, error) {
	doc, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: text}, maxTokens)
	if err != nil {
		return nil, fmt.Errorf("parse query: %w", err)
	}
	op, err := choose(doc, operation)
	if err != nil {
		return nil, err
	}
	if op.Operation != ast.Query {
		return nil, fmt.Errorf("%s is not supported, only queries are", op.Operation)
	}
	vars := make(map[string]any, len(variables))
	for _, def := range op.VariableDefinitions {
		if def.DefaultValue != nil {
			vars[def.Variable], _ = value(def.DefaultValue, nil)
		}
	}
	for name, v := range variables {
		vars[name] = v
	}
	r := resolver{doc: doc, vars: vars}
	return r.fields(op.SelectionSet, 0)
}

func choose(doc *ast.QueryDocument, name string) (*ast.OperationDefinition, error) {
	switch {
	case len(doc.Operations) == 0:
		return nil, fmt.Errorf("document has no operation")
	case name == "" && len(doc.Operations) > 1:
		return nil, fmt.Errorf("document has %d operations and the request names none", len(doc.Operations))
	case name == "":
		return doc.Operations[0], nil
	}
	for _, op := range doc.Operations {
		if op.Name == name {
			return op, nil
		}
	}
	return nil, fmt.Errorf("document has no operation %q", name)
}

type resolver struct {
	doc   *ast.QueryDocument
	vars  map[string]any
	count int
}

func (r *resolver) fields(set ast.SelectionSet, depth int) ([]Field, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("query is nested deeper than %d levels", maxDepth)
	}
	var out []Field
	for _, sel := range set {
		// Spreads count too: forty fragments, each with the next one twice, are a
		// short text without a single field, and no end.
		if r.count++; r.count > maxFields {
			return nil, fmt.Errorf("query selects more than %d fields and fragments", maxFields)
		}
		var nested ast.SelectionSet
		switch s := sel.(type) {
		case *ast.Field:
			if r.excluded(s.Directives) {
				continue
			}
			f, err := r.field(s, depth)
			if err != nil {
				return nil, err
			}
			out = append(out, f)
			continue
		case *ast.FragmentSpread:
			def := r.doc.Fragments.ForName(s.Name)
			if def == nil {
				return nil, fmt.Errorf("unknown fragment %q", s.Name)
			}
			if r.excluded(s.Directives) {
				continue
			}
			nested = def.SelectionSet
		case *ast.InlineFragment:
			if r.excluded(s.Directives) {
				continue
			}
			nested = s.SelectionSet
		}
		fields, err := r.fields(nested, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, fields...)
	}
	return out, nil
}

func (r *resolver) field(f *ast.Field, depth int) (Field, error) {
	out := Field{Name: f.Name, Alias: f.Alias, Args: make(map[string]any, len(f.Arguments))}
	if out.Alias == "" {
		out.Alias = f.Name
	}
	for _, a := range f.Arguments {
		if v, set := value(a.Value, r.vars); set {
			out.Args[a.Name] = v
		}
	}
	if f.SelectionSet == nil {
		return out, nil
	}
	nested, err := r.fields(f.SelectionSet, depth+1)
	if nested == nil {
		nested = []Field{}
	}
	out.Fields = nested
	return out, err
}

// excluded evaluates @include and @skip.
func (r *resolver) excluded(list ast.DirectiveList) bool {
	on := func(name string) (bool, bool) {
		d := list.ForName(name)
		if d == nil || d.Arguments.ForName("if") == nil {
			return false, false
		}
		v, _ := value(d.Arguments.ForName("if").Value, r.vars)
		b, ok := v.(bool)
		return b, ok
	}
	if include, ok := on("include"); ok && !include {
		return true
	}
	skip, ok := on("skip")
	return ok && skip
}

// value resolves a literal or variable. set is false for a variable without a
// value, which the standard treats as if the argument had not been written.
func value(v *ast.Value, vars map[string]any) (result any, set bool) {
	switch v.Kind {
	case ast.Variable:
		result, set = vars[v.Raw]
		return result, set
	case ast.IntValue, ast.FloatValue:
		return json.Number(v.Raw), true
	case ast.BooleanValue:
		return v.Raw == "true", true
	case ast.NullValue:
		return nil, true
	case ast.ListValue:
		list := []any{}
		for _, c := range v.Children {
			if e, ok := value(c.Value, vars); ok {
				list = append(list, e)
			}
		}
		return list, true
	case ast.ObjectValue:
		object := map[string]any{}
		for _, c := range v.Children {
			if e, ok := value(c.Value, vars); ok {
				object[c.Name] = e
			}
		}
		return object, true
	}
	return v.Raw, true
}
