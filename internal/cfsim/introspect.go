package cfsim

import (
	"slices"
	"strings"
	"sync"

	"github.com/weir-metrics/weir/internal/cfsim/query"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

// introspect answers __schema and __type. Everything known is listed, whether
// or not anyone's plan may use it.
func introspect(f query.Field) (any, *gqlError) {
	if f.Name == "__type" {
		name, ok := f.Args["name"].(string)
		if !ok {
			return nil, badRequest("error parsing args for %q: name argument is required", "__type")
		}
		if t, ok := typesByName()[name]; ok {
			return project(t, f.Fields), nil
		}
		return nil, nil
	}
	types := knownTypes()
	root := map[string]any{
		"queryType": map[string]any{"name": "query", "kind": "OBJECT"}, "mutationType": nil,
		"subscriptionType": nil, "types": types, "directives": []map[string]any{},
	}
	return project(root, f.Fields), nil
}

// project keeps the selected members of v, under their aliases. Members that
// it does not have are null. A type by name is that type with all of its members, and
// deprecated fields are listed for those who ask for them, as the specification says.
func project(v any, fields []query.Field) any {
	switch x := v.(type) {
	case map[string]any:
		out := object{}
		for _, f := range fields {
			member, here := x[f.Name]
			if name, ok := x["name"].(string); !here && ok && x["kind"] != nil {
				member = typesByName()[name][f.Name]
			}
			if list, ok := member.([]map[string]any); ok && f.Name == "fields" && f.Args["includeDeprecated"] != true {
				member = slices.DeleteFunc(slices.Clone(list), func(e map[string]any) bool { return e["isDeprecated"] == true })
			}
			out.set(f.Alias, project(member, f.Fields))
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
	return map[string]any{"name": name, "description": nil, "type": typ, "args": []map[string]any{}, "isDeprecated": false}
}

// described is a field with what the schema says about it, if it does.
func described(owner, container, name string, typ map[string]any) map[string]any {
	f := typeField(name, typ)
	path := strings.TrimPrefix(container+"."+name, ".")
	if text, ok := descriptions[path]; ok {
		f["description"] = text
	}
	if only, ok := deprecated[path]; ok && (only == "" || only == owner) {
		f["isDeprecated"] = true
	}
	return f
}

// descriptions are in the sense of those of the schema, by path in a dataset.
var descriptions = map[string]string{
	"count":           "Sum of the sample intervals of the events",
	"confidence":      "Confidence intervals of estimates. ALPHA - DO NOT USE",
	"sum.visits":      "Requests by end users that another site, or none, led to",
	"sum.pageViews":   "Successful responses with HTML",
	"sum.bytes":       "Bytes sent to clients",
	"uniq.uniques":    "Distinct IP addresses of clients",
	"dimensions.date": "Day of the event, in UTC",
	"sum.wallTime":    "Time from the start of an invocation to its end,\nin microseconds",
}

// deprecated are the fields that the schema marks so, in one dataset or, by "", in all.
var deprecated = map[string]string{
	"sum.threats": "", "dimensions.datetimeMinute": "httpRequests1mGroups", "dimensions.httpApplicationVersion": "",
	"dimensions.wafMlAttackScore": "", "dimensions.wafMlSqliAttackScore": "", "dimensions.wafMlXssAttackScore": "",
}

var (
	// knownTypes are all types. They do not change.
	knownTypes  = sync.OnceValue(schemaTypes)
	typesByName = sync.OnceValue(func() map[string]map[string]any {
		out := map[string]map[string]any{}
		for _, t := range knownTypes() {
			out[t["name"].(string)] = t
		}
		return out
	})
)

// scalars are Cloudflare's.
var scalars = []string{
	"Date", "Time", "bool", "bytes", "float32", "float64", "int16", "int32", "int64", "int8", "string", "uint16", "uint32", "uint64", "uint8",
}

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// schemaTypes describes the root, the scopes, the settings, and the containers,
// filters and orders of every dataset, named as in Cloudflare's schema.
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
	var interval []map[string]any
	for _, f := range boundFields {
		interval = append(interval, typeField(f, scalar(boundTypes[f])))
	}
	types = append(types, typ("Confidence", interval))
	for _, name := range scalars {
		types = append(types, map[string]any{"kind": "SCALAR", "name": name})
	}
	for _, scope := range []schema.Scope{schema.Zone, schema.Account} {
		prefix := title(string(scope))
		nodes := []map[string]any{typeField(string(scope)+"Tag", scalar("string")), typeField("settings", named("OBJECT", prefix+"Settings"))}
		var settings []map[string]any
		for _, d := range schema.Datasets(scope) {
			name := prefix + title(d.Name)
			node := typeField(d.Name, nonNull(listOf(nonNull(named("OBJECT", name)))))
			node["args"] = []map[string]any{
				typeField("filter", nonNull(named("INPUT_OBJECT", name+"Filter_InputObject"))),
				typeField("limit", scalar("uint64")), typeField("orderBy", listOf(named("ENUM", name+"OrderBy"))),
			}
			nodes = append(nodes, node)
			settings = append(settings, typeField(d.Name, named("OBJECT", "Settings")))
			types = append(types, datasetTypes(typ, scalar, scope, d, name)...)
			types = append(types, filterType(scope, d, name), orderType(scope, d, name))
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
			own = append(own, described(d.Name, "", c, scalar("uint64")))
			continue
		}
		var leaves []map[string]any
		if c == "confidence" {
			leaves = append(leaves, typeField("level", scalar("float64")))
		}
		for _, f := range d.Fields(scope, c) {
			switch {
			case f.Fields != nil:
				var inner []map[string]any
				for _, x := range f.Fields {
					inner = append(inner, typeField(x.Name, scalar(x.Type)))
				}
				types = append(types, typ(name+title(c)+title(f.Name), inner))
				leaves = append(leaves, described(d.Name, c, f.Name, nonNull(listOf(nonNull(named("OBJECT", name+title(c)+title(f.Name)))))))
			case f.List:
				leaves = append(leaves, described(d.Name, c, f.Name, nonNull(listOf(scalar(f.Type)))))
			case f.Type != "":
				leaves = append(leaves, described(d.Name, c, f.Name, scalar(f.Type)))
			case f.Name == "count":
				leaves = append(leaves, typeField(f.Name, named("OBJECT", "Confidence")))
			default: // other parts of confidence: an interval for each number of the container
				var covered []map[string]any
				for _, x := range d.Fields(scope, f.Name) {
					if x.Type != "" && !x.List {
						covered = append(covered, typeField(x.Name, named("OBJECT", "Confidence")))
					}
				}
				types = append(types, typ(name+title(c)+title(f.Name), covered))
				leaves = append(leaves, typeField(f.Name, named("OBJECT", name+title(c)+title(f.Name))))
			}
		}
		if d.Raw {
			own = append(own, leaves...)
			continue
		}
		inner := name + title(c)
		container := described(d.Name, "", c, named("OBJECT", inner))
		if c == "confidence" {
			container["args"] = []map[string]any{typeField("level", scalar("float64"))}
		}
		own = append(own, container)
		types = append(types, typ(inner, leaves))
	}
	return append(types, typ(name, own))
}

// filterType is the input object of a dataset's filter argument.
func filterType(scope schema.Scope, d *schema.Dataset, name string) map[string]any {
	name += "Filter_InputObject"
	list := listOf(nonNull(named("INPUT_OBJECT", name)))
	inputs := []map[string]any{inputField("AND", list), inputField("OR", list)}
	for _, f := range d.Filters(scope) {
		operators := []string{"", "_gt", "_geq", "_lt", "_leq", "_neq", "_in", "_notin"}
		switch {
		case f.List:
			operators = []string{"_has", "_hasall", "_hasany", "_nothas", "_isempty"}
		case f.Type == "string":
			operators = append(operators, "_like", "_notlike")
		}
		for _, op := range operators {
			typ := named("SCALAR", f.Type)
			switch {
			case op == "_isempty":
				typ = named("SCALAR", "bool")
			case (op == "_in" || op == "_notin") && f.Type == "uint8":
				typ = named("SCALAR", "bytes") // as published
			case op == "_in" || op == "_notin" || op == "_hasall" || op == "_hasany":
				typ = listOf(nonNull(typ))
			}
			inputs = append(inputs, inputField(f.Name+op, typ))
		}
	}
	return map[string]any{"kind": "INPUT_OBJECT", "name": name, "inputFields": inputs}
}

func inputField(name string, typ map[string]any) map[string]any {
	return map[string]any{"name": name, "type": typ, "defaultValue": nil}
}

// orderType is the enumeration of a dataset's orderBy argument.
func orderType(scope schema.Scope, d *schema.Dataset, name string) map[string]any {
	var values []map[string]any
	add := func(text string) {
		for _, direction := range []string{"_ASC", "_DESC"} {
			values = append(values, map[string]any{"name": text + direction, "isDeprecated": false})
		}
	}
	for _, c := range d.Containers {
		switch c {
		case "count":
			add(c)
		case "confidence":
		default:
			prefix := c + "_"
			if c == "dimensions" || d.Raw {
				prefix = ""
			}
			for _, f := range d.Fields(scope, c) {
				if f.Type != "" && !f.List {
					add(prefix + f.Name)
				}
			}
		}
	}
	return map[string]any{"kind": "ENUM", "name": name + "OrderBy", "enumValues": values}
}
