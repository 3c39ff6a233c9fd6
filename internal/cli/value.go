package cli

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Text is any text.
func Text(p *string) Value { return &text{p: p, allowed: "text"} }

// TextThat is text that check accepts; allowed describes which.
func TextThat(p *string, allowed string, check func(string) error) Value {
	return &text{p: p, allowed: allowed, check: check}
}

// Address is a host:port to listen on or to connect to; the host may be empty,
// for all of the machine's addresses.
func Address(p *string) Value {
	return TextThat(p, "host:port", func(s string) error {
		_, port, err := net.SplitHostPort(s)
		if err != nil {
			return err
		}
		_, err = strconv.ParseUint(port, 10, 16)
		return err
	})
}

// URL is an absolute URL with one of the schemes. It has no place for secrets:
// a user, a query or a fragment is refused, and not shown.
func URL(p *string, schemes ...string) Value {
	return &text{
		p:       p,
		allowed: "a URL that begins with " + strings.Join(schemes, ":// or ") + "://, without user, query or fragment",
		check:   func(s string) error { return checkURL(s, schemes) },
		show:    withoutSecret,
	}
}

// URLs are absolute URLs like those of [URL], as a [List].
func URLs(p *[]string, schemes ...string) Value {
	return &list{p: p, show: withoutSecret, check: func(s string) error {
		if checkURL(s, schemes) != nil {
			return errors.New("must be URLs separated by commas that begin with " + strings.Join(schemes, ":// or ") + "://, without user, query or fragment")
		}
		return nil
	}}
}

func checkURL(s string, schemes []string) error {
	u, err := url.Parse(s)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("no such URL")
	}
	return nil
}

func withoutSecret(s string) string {
	if strings.ContainsAny(s, "@?#") {
		return "a URL that is not shown, since it may hold a secret"
	}
	return s
}

type text struct {
	p       *string
	allowed string
	check   func(string) error  // nil: anything; not asked about the empty text
	show    func(string) string // what a problem shows of the text; nil: all of it
}

func (v *text) Set(s string) error {
	if s != "" && v.check != nil && v.check(s) != nil {
		return mustBe(v)
	}
	*v.p = s
	return nil
}

func (v *text) shown(s string) string {
	if v.show == nil {
		return s
	}
	return v.show(s)
}

func (v *text) String() string  { return *v.p }
func (v *text) Allowed() string { return v.allowed }

func mustBe(v Value) error { return fmt.Errorf("must be %s", v.Allowed()) }

// List is texts separated by commas, as in a CSV file: one that contains a comma
// or begins with a double quote stands in double quotes, and a double quote in
// it is doubled. A YAML sequence is as good, where each element is one text, and
// a flag may be given several times. Blanks around an element are dropped. Empty
// elements are refused, and so are a flag without an element and a text of blanks alone: for
// most lists none means all, which unset variables of a shell must not.
func List(p *[]string) Value { return &list{p: p} }

type list struct {
	p     *[]string
	check func(string) error  // of an element; nil: anything
	show  func(string) string // what a problem shows of the text; nil: all of it
}

func (v *list) Set(text string) error {
	elements, err := splitList(text)
	for _, e := range elements {
		if err == nil && v.check != nil {
			err = v.check(e)
		}
	}
	if err == nil {
		*v.p = elements
	}
	return err
}

func (v *list) shown(text string) string {
	if v.show == nil {
		return text
	}
	return v.show(text)
}

func (v *list) String() string { return joinList(*v.p) }

func (v *list) Allowed() string {
	return "a list separated by commas; an element with a comma in double quotes"
}

func splitList(text string) (elements []string, err error) {
	rest := strings.TrimSpace(text)
	for more := rest != ""; more; {
		var element string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			if element, rest, ok = cutQuoted(quoted); !ok {
				return nil, errors.New("must be a list separated by commas: an element in double quotes ends with one, before a comma or at the end")
			}
			_, rest, more = strings.Cut(rest, ",")
		} else {
			element, rest, more = strings.Cut(rest, ",")
		}
		if element = strings.TrimSpace(element); element == "" {
			return nil, errors.New("must be a list separated by commas without an empty element")
		}
		elements, rest = append(elements, element), strings.TrimSpace(rest)
	}
	return elements, nil
}

// cutQuoted returns an element whose opening quote is cut off, and what follows
// the closing one: nothing, or a comma first.
func cutQuoted(text string) (element, rest string, ok bool) {
	var b strings.Builder
	for {
		part, after, found := strings.Cut(text, `"`)
		if !found {
			return "", "", false
		}
		b.WriteString(part)
		if text, ok = strings.CutPrefix(after, `"`); ok {
			b.WriteByte('"')
			continue
		}
		rest = strings.TrimSpace(after)
		return b.String(), rest, rest == "" || rest[0] == ','
	}
}

func joinList(elements []string) string {
	quoted := make([]string, len(elements))
	for i, e := range elements {
		if quoted[i] = e; strings.Contains(e, ",") || strings.HasPrefix(strings.TrimSpace(e), `"`) {
			quoted[i] = `"` + strings.ReplaceAll(e, `"`, `""`) + `"`
		}
	}
	return strings.Join(quoted, ",")
}

// simple is a value that two functions make.
type simple struct {
	allowed string
	set     func(string) bool // parse, check and store; false when not allowed
	get     func() string
}

func (v *simple) Set(text string) error {
	if !v.set(text) {
		return mustBe(v)
	}
	return nil
}

func (v *simple) String() string  { return v.get() }
func (v *simple) Allowed() string { return v.allowed }

// Bool is true or false; the flag alone means true.
func Bool(p *bool) Value {
	return &boolean{simple{
		allowed: "true or false",
		set: func(text string) bool {
			b, err := strconv.ParseBool(text)
			if err == nil {
				*p = b
			}
			return err == nil
		},
		get: func() string { return strconv.FormatBool(*p) },
	}}
}

type boolean struct{ simple }

// Int is a whole number from lowest to highest.
func Int[T ~int | ~int32 | ~int64](p *T, lowest, highest T) Value {
	return &simple{
		allowed: fmt.Sprintf("a whole number from %d to %d", lowest, highest),
		set: func(text string) bool {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || n < int64(lowest) || n > int64(highest) {
				return false
			}
			*p = T(n)
			return true
		},
		get: func() string { return strconv.FormatInt(int64(*p), 10) },
	}
}

// Share is a part of a whole, from lowest to highest, both in 0 to 1; written
// as 50% or 0.5.
func Share(p *float64, lowest, highest float64) Value {
	return &simple{
		allowed: fmt.Sprintf("a share from %s to %s", percent(lowest), percent(highest)),
		set: func(text string) bool {
			number, isPercent := strings.CutSuffix(text, "%")
			f, err := strconv.ParseFloat(number, 64)
			if isPercent {
				f /= 100
			}
			if err != nil || math.IsNaN(f) || f < lowest || f > highest {
				return false
			}
			*p = f
			return true
		},
		get: func() string { return percent(*p) },
	}
}

func percent(f float64) string { return strconv.FormatFloat(f*100, 'g', 6, 64) + "%" }

// Enum is one of a few words.
func Enum[T ~string](p *T, allowed ...T) Value {
	words := make([]string, len(allowed))
	for i, a := range allowed {
		words[i] = string(a)
	}
	return &simple{
		allowed: "one of " + strings.Join(words, ", "),
		set: func(text string) bool {
			if !slices.Contains(words, text) {
				return false
			}
			*p = T(text)
			return true
		},
		get: func() string { return string(*p) },
	}
}

// Time is a moment in RFC 3339, or a date, which is its first moment in UTC.
func Time(p *time.Time) Value {
	return &simple{
		allowed: "a time such as 2026-11-01T15:00:00Z or a date such as 2026-11-01 (in UTC)",
		set: func(text string) bool {
			at, err := time.Parse(time.RFC3339, text)
			if err != nil {
				at, err = time.Parse(time.DateOnly, text)
			}
			if err == nil {
				*p = at.UTC()
			}
			return err == nil
		},
		get: func() string {
			if p.IsZero() {
				return ""
			}
			return p.Format(time.RFC3339)
		},
	}
}

// Tree is a structure that only the file can hold, such as a list of
// credentials. It is decoded into p with unknown keys refused; secrets inside
// it are fields of type [Secret].
func Tree(p any, allowed string) Value { return &tree{p: p, allowed: allowed} }

type tree struct {
	p       any
	allowed string
	given   bool
}

func (v *tree) Set(string) error { return errors.New("can be set in the configuration file only") }
func (v *tree) Allowed() string  { return v.allowed }

func (v *tree) setNode(node ast.Node) error {
	v.given = true
	if err := yaml.NodeToValue(node, v.p, yaml.Strict()); err != nil {
		// Without the excerpt of the file, which may show a secret.
		return fmt.Errorf("must be %s: %s", v.allowed, yaml.FormatError(err, false, false))
	}
	return nil
}

func (v *tree) String() string {
	if !v.given {
		return ""
	}
	out, err := yaml.MarshalWithOptions(v.p, yaml.IndentSequence(true))
	if err != nil {
		return "# " + err.Error()
	}
	return string(out)
}
