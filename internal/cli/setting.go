package cli

import (
	"fmt"
	"regexp"
	"strings"
)

// Setting is one line of a command's table: a value's names, what it means, and
// where it goes.
type Setting struct {
	// Env is the environment variable, WEIR_… or one of the original's CF_….
	// Empty for what makes sense only on a command line, such as the start of
	// a backfill.
	Env string
	// Flag is the flag without dashes. Left empty it is derived from Env:
	// WEIR_LOG_LEVEL gives log-level, CF_ZONES gives cf-zones. "-" means none.
	Flag string
	// Key is the key in the YAML file. Left empty it is derived from Env:
	// log_level, cf_zones. "-" means none.
	Key string
	// Help is one sentence without a full stop, about meaning and consequence.
	// Default and range are added to it.
	Help string
	// Default is what an absent value stands for, as a user would write it.
	// Empty leaves the field as it is.
	Default string
	// Required makes an absent or empty value a problem.
	Required bool
	// Value parses, checks and stores.
	Value Value
}

// Value is one parsed setting. Implementations are made by [Duration], [Int],
// [List] and their like, and point at the field that they fill.
type Value interface {
	// Set parses and checks text and stores the result. Its error completes
	// the sentence "the value …" ("must be …") and does not repeat text.
	Set(text string) error
	// String returns the stored value in a form that Set accepts.
	String() string
	// Allowed describes what Set accepts, for people: "a duration from 1m to 6h".
	Allowed() string
}

// normal returns the setting with its derived names, "" for none.
func (s Setting) normal() Setting {
	s.Flag = derive(s.Flag, strings.ReplaceAll(stem(s.Env), "_", "-"))
	s.Key = derive(s.Key, stem(s.Env))
	return s
}

func derive(given, derived string) string {
	switch given {
	case "":
		return derived
	case "-":
		return ""
	}
	return given
}

func stem(env string) string {
	return strings.ToLower(strings.TrimPrefix(env, "WEIR_"))
}

// name is what messages call the setting when no source spelt it.
func (s Setting) name() string {
	switch {
	case s.Env != "":
		return s.Env
	case s.Flag != "":
		return "--" + s.Flag
	}
	return s.Key
}

func (s Setting) secret() bool { _, ok := s.Value.(*secretText); return ok }
func (s Setting) list() bool   { _, ok := s.Value.(*list); return ok }
func (s Setting) text() bool   { _, ok := s.Value.(*text); return ok }
func (s Setting) tree() bool   { _, ok := s.Value.(*tree); return ok }

// option is a setting with every value that it fills.
type option struct {
	Setting
	values []Value
}

// options checks the table and joins settings of equal names: when two services
// in one process read the same variable, it is one setting with two fields. A
// wrong table is a mistake in the program, so it panics; any use of the table in
// a test finds it.
func options(settings []Setting) []*option {
	var all []*option
	byName := map[string]*option{}
	for _, s := range settings {
		s = s.normal()
		if err := s.check(); err != nil {
			panic(fmt.Sprintf("cli: setting %s: %v", s.name(), err))
		}
		if o := byName[s.name()]; o != nil {
			if o.Env != s.Env || o.Flag != s.Flag || o.Key != s.Key || o.Default != s.Default || o.secret() != s.secret() {
				panic(fmt.Sprintf("cli: setting %s is in the table twice with different names or defaults", s.name()))
			}
			o.values = append(o.values, s.Value)
			o.Required = o.Required || s.Required
			continue
		}
		o := &option{Setting: s, values: []Value{s.Value}}
		byName[s.name()] = o
		all = append(all, o)
	}
	spelt := map[string]string{}
	for _, o := range all {
		for _, spelling := range []string{"env " + o.Env, "flag " + o.Flag, "key " + o.Key} {
			if strings.HasSuffix(spelling, " ") {
				continue
			}
			if other, ok := spelt[spelling]; ok {
				panic(fmt.Sprintf("cli: settings %s and %s share the %s", other, o.name(), spelling))
			}
			spelt[spelling] = o.name()
		}
	}
	return all
}

var (
	envName  = regexp.MustCompile(`^(WEIR|CF)(_[A-Z0-9]+)+$`)
	flagName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	keyName  = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)
)

func (s Setting) check() error {
	switch {
	case s.Env == "" && s.Flag == "" && s.Key == "":
		return fmt.Errorf("has no name")
	case s.Env != "" && !envName.MatchString(s.Env):
		return fmt.Errorf("the variable is not WEIR_… or CF_… in upper case")
	case s.Env != "" && serviceLink(s.Env, "tcp://"):
		return fmt.Errorf("variables of this form are set by Kubernetes for services of the same name")
	case s.Flag != "" && !flagName.MatchString(s.Flag):
		return fmt.Errorf("flag %q is not lower case with dashes", s.Flag)
	case s.Key != "" && !keyName.MatchString(s.Key):
		return fmt.Errorf("key %q is not lower case with underscores", s.Key)
	case s.Value == nil:
		return fmt.Errorf("has no value")
	case s.Help == "" || strings.HasSuffix(s.Help, "."):
		return fmt.Errorf("the help is missing or ends with a full stop")
	case s.tree() && (s.Key == "" || s.Flag != "" || s.Env != ""):
		return fmt.Errorf("a tree is read from the file, so it has a key and no other name")
	}
	return nil
}

// Defaults fills the fields behind settings with their defaults, for tests and
// for callers that have no command line.
func Defaults(settings []Setting) {
	for _, o := range options(settings) {
		if o.Default == "" {
			continue
		}
		if err := o.set(o.Default); err != nil {
			panic(fmt.Sprintf("cli: default of %s: %v", o.name(), err))
		}
	}
}

func (o *option) set(text string) error {
	for _, v := range o.values {
		if err := v.Set(text); err != nil {
			return err
		}
	}
	return nil
}
