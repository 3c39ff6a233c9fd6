// Package yamlspec makes tagged structs the one description of a YAML file's
// format. [Format.Decode] reads a file into them, [Overlay] puts one declaration
// on top of another, and [Format.Schema] writes the JSON Schema by which editors
// complete and check the file. A new key is a new field.
//
// The tags of a field:
//
//	yaml:"rows"        its key; a field without this tag is not a key
//	required:"true"    the key must be present
//	required:"id"      the same, and messages call the object by its value
//	is:"1..100"        what the value, or each element, must be: whole numbers in a
//	                   range, alternatives ("zone|account"), or a [Pattern] by name
//	keys:"label"       the same for the keys of a map
//	each:"variant"     what messages call an element of a list or map of structs
//	doc:"…"            the description in the schema
//
// Embedded structs without a tag are part of the struct around them. A field of
// type [Place] is set to where the struct was declared. Fields are strings, whole
// numbers, booleans, durations, types with UnmarshalText, pointers to these (nil:
// not said), and structs, lists and maps of all of them. An interface takes text,
// whole numbers and lists of both.
//
// The decoder works on the syntax tree of package yamldoc, because the decoder of
// the YAML library stops at the first unknown key, and whoever edits a file wants
// all mistakes at once, each with its line.
package yamlspec

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Format holds the patterns that the tags of a file's structs name.
type Format map[string]Pattern

// Pattern is a rule for text.
type Pattern struct {
	*regexp.Regexp
	// Want completes "it must …" in messages: "be a GraphQL name".
	Want string
}

// Place is where something was declared. The zero Place is the settings.
type Place struct {
	File string
	Line int
}

func (p Place) String() string {
	if p.File == "" {
		return "settings"
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Problemf is the error of something declared at p.
func (p Place) Problemf(format string, args ...any) error {
	return fmt.Errorf("%s: %s", p, fmt.Sprintf(format, args...))
}

// rule is the meaning of an "is" or "keys" tag. The zero rule allows everything.
type rule struct {
	low, high int // of whole numbers, where ranged
	ranged    bool
	oneOf     []string
	pattern   Pattern
}

func (r rule) alternatives() string {
	if len(r.oneOf) > 2 {
		return "one of " + strings.Join(r.oneOf, ", ")
	}
	return strings.Join(r.oneOf, " or ")
}

// rule reads a tag. A tag that names no pattern is a mistake of the program.
func (f Format) rule(tag string) rule {
	if tag == "" {
		return rule{}
	}
	if low, high, ok := strings.Cut(tag, ".."); ok {
		l, errLow := strconv.Atoi(low)
		h, errHigh := strconv.Atoi(high)
		if errLow == nil && errHigh == nil {
			return rule{low: l, high: h, ranged: true}
		}
	}
	if strings.Contains(tag, "|") {
		return rule{oneOf: strings.Split(tag, "|")}
	}
	p, ok := f[tag]
	if !ok {
		panic(fmt.Sprintf("yamlspec: no pattern %q", tag))
	}
	return rule{pattern: p}
}

var (
	placeType    = reflect.TypeFor[Place]()
	durationType = reflect.TypeFor[time.Duration]()
)

// field is a field of a struct that is a key.
type field struct {
	reflect.StructField
	key string
}

// fields are the keys of a struct type, those of embedded structs included.
func fields(t reflect.Type) (out []field) {
	for _, f := range reflect.VisibleFields(t) {
		if key, ok := f.Tag.Lookup("yaml"); ok {
			out = append(out, field{f, key})
		}
	}
	return out
}

// Overlay replaces in base, a pointer to a struct, each key that over, a struct
// of the same type, says something about. Lists and maps are replaced whole.
func Overlay(base, over any) {
	b, o := reflect.ValueOf(base).Elem(), reflect.ValueOf(over)
	for _, f := range fields(o.Type()) {
		if v := o.FieldByIndex(f.Index); !v.IsZero() {
			b.FieldByIndex(f.Index).Set(v)
		}
	}
}
