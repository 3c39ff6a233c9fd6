package cfsim

import (
	"strings"

	"github.com/weir-metrics/weir/internal/cfsim/query"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

// introspect answers __schema and __type. Everything known is listed, whether
// or not anyone's plan may use it.
func introspect(f query.Field) (any, *gqlError) {
	types := schemaTypes()
	if f.Name == "__type" {
		name, ok := f.Args["name"].(string)
		if !ok {
			return nil, badRequest("error parsing args for %q: name argument is required", "__type")
		}
		for _, t := range types {
			if t["name"] == name {
				return project(t, f.Fields), nil
			}
		}
		return nil, nil
	}
	root := map[string]any{
		"queryType": map[string]any{"name": "query", "kind": "OBJECT"}, "mutationType": nil,
		"subscriptionType": nil, "types": types, "directives": []map[string]any{},
	}
	return project(root, f.Fields), nil
}

// project keeps the selected members of v, under their aliases. Members that
// it does not have are null.
func project(v any, fields []query.Field) any {
	switch x := v.(type) {
	case map[string]any:
		out := object{}
		for _, f := range fields {
			out.set(f.Alias, project(x[f.Name], f.Fields))
		}
		return out
	case []map[string]any:
		out := []any{}
		for _, e := range x {
			out = append(out, project(e, fields))
		}
		return out
	}
	return v
}

func named(kind, name string) map[string]any { return map[string]any{"kind": kind, "name": name} }

func nonNull(t map[string]any) map[string]any {
	return map[string]any{"kind": "NON_NULL", "name": nil, "ofType": t}
}

func listOf(t map[string]any) map[string]any {
	return map[string]any{"kind": "LIST", "name": nil, "ofType": t}
}

func typeField(name string, typ map[string]any) map[string]any {
	return map[string]any{"name": name, "type": typ, "args": []map[string]any{}, "isDeprecated": false}
}

// schemaTypes describes the root, the scopes, the settings and the containers
// of every dataset, named as in Cloudflare's schema.
func schemaTypes() []map[string]any {
	typ := func(name string, fields []map[string]any) map[string]any {
		return map[string]any{"kind": "OBJECT", "name": name, "fields": fields}
	}
	scalar := func(name string) map[string]any { return nonNull(named("SCALAR", name)) }
	types := []map[string]any{
		typ("query", []map[string]any{typeField("cost", scalar("uint64")), typeField("viewer", named("OBJECT", "viewer"))}),
		typ("viewer", []map[string]any{
			typeField("budget", scalar("uint64")), typeField("zones", listOf(named("OBJECT", "zone"))),
			typeField("accounts", listOf(named("OBJECT", "account"))),
		}),
		typ("Settings", []map[string]any{
			typeField("enabled", scalar("bool")), typeField("availableFields", nonNull(listOf(scalar("string")))),
			typeField("maxDuration", scalar("int64")), typeField("maxNumberOfFields", scalar("int64")),
			typeField("maxPageSize", scalar("int64")), typeField("notOlderThan", scalar("int64")),
		}),
	}
	for _, scope := range []schema.Scope{schema.Zone, schema.Account} {
		prefix := strings.ToUpper(string(scope[:1])) + string(scope[1:])
		nodes := []map[string]any{typeField(string(scope)+"Tag", scalar("string")), typeField("settings", named("OBJECT", prefix+"Settings"))}
		var settings []map[string]any
		for _, d := range schema.Datasets(scope) {
			name := prefix + strings.ToUpper(d.Name[:1]) + d.Name[1:]
			node := typeField(d.Name, nonNull(listOf(nonNull(named("OBJECT", name)))))
			node["args"] = []map[string]any{
				typeField("filter", nonNull(named("INPUT_OBJECT", name+"Filter_InputObject"))),
				typeField("limit", scalar("uint64")), typeField("orderBy", listOf(named("ENUM", name+"OrderBy"))),
			}
			nodes = append(nodes, node)
			settings = append(settings, typeField(d.Name, named("OBJECT", "Settings")))
			types = append(types, datasetTypes(typ, scalar, scope, d, name)...)
		}
		if scope == schema.Account {
			nodes = append(nodes, typeField("zones", listOf(named("OBJECT", "zone"))))
		}
		types = append(types, typ(string(scope), nodes), typ(prefix+"Settings", settings))
	}
	return types
}

func datasetTypes(typ func(string, []map[string]any) map[string]any, scalar func(string) map[string]any,
	scope schema.Scope, d *schema.Dataset, name string,
) []map[string]any {
	var own, types []map[string]any
	for _, c := range d.Containers {
		if c == "count" {
			own = append(own, typeField(c, scalar("uint64")))
			continue
		}
		var leaves []map[string]any
		for _, f := range d.Fields(scope, c) {
			switch {
			case f.Fields != nil:
				var inner []map[string]any
				for _, x := range f.Fields {
					inner = append(inner, typeField(x.Name, scalar(x.Type)))
				}
				types = append(types, typ(name+"_"+f.Name, inner))
				leaves = append(leaves, typeField(f.Name, nonNull(listOf(nonNull(named("OBJECT", name+"_"+f.Name))))))
			case f.List:
				leaves = append(leaves, typeField(f.Name, nonNull(listOf(scalar(f.Type)))))
			case f.Type != "":
				leaves = append(leaves, typeField(f.Name, scalar(f.Type)))
			default: // the parts of confidence
				leaves = append(leaves, typeField(f.Name, named("OBJECT", "Confidence")))
			}
		}
		if d.Raw {
			own = append(own, leaves...)
			continue
		}
		inner := name + "_" + c
		own = append(own, typeField(c, named("OBJECT", inner)))
		types = append(types, typ(inner, leaves))
	}
	return append(types, typ(name, own))
}
