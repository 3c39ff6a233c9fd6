package cloudflare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
)

// SchemaNode is a node of the API as its schema describes it, whether or not a plan includes
// it. Deprecated fields are left out.
type SchemaNode struct {
	Name, Description string
	// Type is the name of its type: "ZoneHttpRequests1mGroups".
	Type string
	// Containers are count, sum, dimensions and so on. Those of raw nodes are fields.
	Containers []SchemaField
	// Filters are the members of its filter, with their operators: "datetime_geq".
	Filters []string
}

// Container returns the container of a node with that name, nil if it has none.
func (n *SchemaNode) Container(name string) *SchemaField {
	if i := slices.IndexFunc(n.Containers, func(f SchemaField) bool { return f.Name == name }); i >= 0 {
		return &n.Containers[i]
	}
	return nil
}

// SchemaField is a field of a type.
type SchemaField struct {
	Name, Description string
	// Type is the name of the innermost type: "uint64". List is whether the field is a
	// list of it.
	Type string
	List bool
	// Fields are those of the type, if it is an object: of a container, its leaves; of a leaf
	// that is a list of objects, their members.
	Fields []SchemaField
}

// NoNodeError is that the schema has no node of a name for a kind of scope.
type NoNodeError struct {
	Scope, Name string
	Known       []string // all nodes of the scope
}

func (e *NoNodeError) Error() string {
	article := "a"
	if e.Scope == "account" {
		article = "an"
	}
	return fmt.Sprintf("%s %s has no node %q", article, e.Scope, e.Name)
}

// introspected selects what [SchemaNode] has. A type is nested as deeply as the schema's are:
// a list of objects is a non-null list of non-null objects.
const (
	typeText = `kind name ofType{kind name ofType{kind name ofType{kind name}}}`
	leafText = `name description type{` + typeText + `}`
	listText = `name description type{kind name ofType{kind name ofType{kind name ofType{kind name fields{` + leafText + `}}}}}`
	nodeText = `name description type{kind name fields{` + listText + `} ofType{kind name}}`
)

// NodeCalls is how many requests [Client.SchemaNode] takes.
const NodeCalls = 2

// SchemaNode asks the schema about a node of zones or accounts. The permit is called before
// each of its requests.
func (c *Client) SchemaNode(ctx context.Context, scope, name string, permit func(context.Context) error) (*SchemaNode, error) {
	if !namePattern.MatchString(scope) || !namePattern.MatchString(name) {
		return nil, &Error{Class: Ours, Message: fmt.Sprintf("node %q of a %q: both must be names of GraphQL", name, scope)}
	}
	data, r, err := c.introspect(ctx, fmt.Sprintf(`{__type(name:%q){fields{name description type{%s} args{name type{%s}}}}}`, scope, typeText, typeText), permit)
	if err != nil {
		return nil, err
	}
	fields, ok := membersOf(data["__type"], "fields")
	if !ok {
		return nil, r.problem(BadResponse, fmt.Sprintf("the API does not describe its schema: the type %q is missing in the response to an introspection query", scope))
	}
	node, filter := &SchemaNode{}, ""
	unknown := &NoNodeError{Scope: scope, Name: name}
	for _, f := range fields {
		field, _ := schemaField(f)
		args, _ := membersOf(f, "args")
		of := ""
		for _, a := range args {
			if arg, ok := schemaField(a); ok && arg.Name == "filter" {
				of = arg.Type
			}
		}
		if of == "" || !field.List || field.Name == "zones" {
			continue // the tag, the settings, and the zones of an account
		}
		unknown.Known = append(unknown.Known, field.Name)
		if field.Name == name {
			node.Name, node.Description, node.Type, filter = field.Name, field.Description, field.Type, of
		}
	}
	if node.Name == "" {
		return nil, unknown
	}
	if !namePattern.MatchString(node.Type) || !namePattern.MatchString(filter) {
		return nil, r.problem(BadResponse, fmt.Sprintf("the schema says that the type of %s is %q and that of its filter %q; they must be names", name, bucket.Clip(node.Type), bucket.Clip(filter)))
	}
	data, r, err = c.introspect(ctx, fmt.Sprintf(`{__type(name:%q){fields{%s}} filter:__type(name:%q){inputFields{name}}}`, node.Type, nodeText, filter), permit)
	if err != nil {
		return nil, err
	}
	containers, described := membersOf(data["__type"], "fields")
	filters, filtered := membersOf(data["filter"], "inputFields")
	if !described || !filtered {
		return nil, r.problem(BadResponse, fmt.Sprintf("the API does not describe node %s: the type %s or %s has no fields in the response", name, node.Type, filter))
	}
	for _, f := range containers {
		if field, ok := schemaField(f); ok {
			node.Containers = append(node.Containers, field)
		}
	}
	for _, f := range filters {
		if name, _ := f["name"].(string); namePattern.MatchString(name) {
			node.Filters = append(node.Filters, name)
		}
	}
	return node, nil
}

// introspect sends one introspection query and returns the data of its response.
func (c *Client) introspect(ctx context.Context, document string, permit func(context.Context) error) (map[string]any, *reply, error) {
	if err := permit(ctx); err != nil {
		return nil, nil, err
	}
	r, err := c.graphql(ctx, document, c.schemaBounds())
	if err != nil {
		return nil, nil, err
	}
	// What the schema says is printed, unlike the groups of other responses.
	if r.token != "" {
		r.body = bytes.ReplaceAll(r.body, []byte(r.token), []byte("redacted"))
	}
	e, err := r.open()
	if err != nil {
		return nil, nil, err
	}
	if e.refused() {
		err := r.refusal(e, &Query{})
		if refused, ok := errors.AsType[*Error](err); ok && refused.Class == Ours && strings.HasPrefix(refused.Field, "__") {
			refused.Message = "the API does not answer introspection queries: " + refused.Message
		}
		return nil, nil, err
	}
	data, ok := parse(r.body, e.data).(map[string]any)
	if !ok {
		return nil, nil, r.problem(BadResponse, "neither data nor errors in the response")
	}
	return data, r, nil
}

// membersOf returns a list of objects in an object; ok is false if there is none.
func membersOf(v any, list string) (out []map[string]any, ok bool) {
	object, _ := v.(map[string]any)
	items, ok := object[list].([]any)
	for _, item := range items {
		if m, isObject := item.(map[string]any); isObject {
			out = append(out, m)
		}
	}
	return out, ok
}

// schemaField reads a field or an argument; ok is false if it has no name that can be asked.
func schemaField(f map[string]any) (out SchemaField, ok bool) {
	out.Name, _ = f["name"].(string)
	out.Description, _ = f["description"].(string)
	of, _ := f["type"].(map[string]any)
	for of != nil {
		if of["kind"] == "LIST" {
			out.List = true
		}
		inner, wraps := of["ofType"].(map[string]any)
		if !wraps {
			break
		}
		of = inner
	}
	out.Type, _ = of["name"].(string)
	fields, _ := membersOf(of, "fields")
	for _, inner := range fields {
		if leaf, ok := schemaField(inner); ok {
			out.Fields = append(out.Fields, leaf)
		}
	}
	return out, namePattern.MatchString(out.Name)
}

// Number reports whether values of the field are numbers, and Whole whether they are whole.
func (f *SchemaField) Number() bool {
	return f.Whole() || strings.HasPrefix(f.Type, "float") && !f.List && f.Fields == nil
}

// Whole reports whether values of the field are whole numbers.
func (f *SchemaField) Whole() bool {
	return (strings.HasPrefix(f.Type, "uint") || strings.HasPrefix(f.Type, "int")) && !f.List && f.Fields == nil
}
