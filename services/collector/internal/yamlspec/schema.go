package yamlspec

import (
	"reflect"
	"time"
)

// Schemer is a type with UnmarshalText that says how the schema describes it.
type Schemer interface {
	YAMLSchema() map[string]any
}

// Schema returns the JSON Schema (draft 7, the one that editors of YAML know) of
// files that decode into the struct of.
func (f Format) Schema(title string, of any) map[string]any {
	s := schemer{f, map[string]any{}}
	root := s.object(reflect.TypeOf(of))
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["title"] = title
	root["definitions"] = s.definitions
	return root
}

type schemer struct {
	format      Format
	definitions map[string]any
}

func (s schemer) object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	var required []string
	for _, f := range fields(t) {
		v := s.value(f.Type, f.Tag)
		if doc := f.Tag.Get("doc"); doc != "" {
			v["description"] = doc
		}
		properties[f.key] = v
		if f.Tag.Get("required") != "" {
			required = append(required, f.key)
		}
	}
	out := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if required != nil {
		out["required"] = required
	}
	return out
}

func (s schemer) value(t reflect.Type, tag reflect.StructTag) map[string]any {
	r := s.format.rule(tag.Get("is"))
	if v, ok := reflect.New(t).Interface().(Schemer); ok {
		return v.YAMLSchema()
	}
	switch {
	case t == durationType && r.oneOf != nil:
		var alternatives []any
		for _, s := range r.oneOf {
			d, _ := ParseDuration(s)
			alternatives = append(alternatives, s, int(d/time.Second))
		}
		return map[string]any{"enum": alternatives}
	case t == durationType:
		return DurationSchema()
	case t.Kind() == reflect.Pointer:
		return s.value(t.Elem(), tag)
	case t.Kind() == reflect.Struct:
		name := tag.Get("each")
		if _, ok := s.definitions[name]; !ok {
			s.definitions[name] = s.object(t)
		}
		return map[string]any{"$ref": "#/definitions/" + name}
	case t.Kind() == reflect.Slice:
		return map[string]any{"type": "array", "items": s.value(t.Elem(), tag)}
	case t.Kind() == reflect.Map:
		out := map[string]any{"type": "object", "additionalProperties": s.value(t.Elem(), tag)}
		if t.Key() == durationType {
			out["propertyNames"] = map[string]any{"pattern": durationPattern}
		} else if k := s.format.rule(tag.Get("keys")); k.pattern.Regexp != nil {
			out["propertyNames"] = map[string]any{"pattern": k.pattern.String()}
		}
		return out
	case t.Kind() == reflect.Int:
		out := map[string]any{"type": "integer"}
		if r.ranged {
			out["minimum"], out["maximum"] = r.low, r.high
		}
		return out
	case t.Kind() == reflect.Bool:
		return map[string]any{"type": "boolean"}
	case t.Kind() == reflect.Interface:
		one := map[string]any{"type": []string{"string", "integer"}}
		return map[string]any{"anyOf": []any{one, map[string]any{"type": "array", "items": one}}}
	case r.oneOf != nil:
		return map[string]any{"type": "string", "enum": r.oneOf}
	case r.pattern.Regexp != nil:
		return map[string]any{"type": "string", "pattern": r.pattern.String()}
	}
	return map[string]any{"type": []string{"string", "number"}} // as the decoder takes numbers for text
}

// durationPattern is what [ParseDuration] reads.
const durationPattern = `^(\d+d?|(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+)$`

// DurationSchema describes a duration.
func DurationSchema() map[string]any {
	return map[string]any{"type": []string{"string", "integer"}, "pattern": durationPattern, "minimum": 0}
}
