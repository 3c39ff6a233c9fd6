package cli

import (
	"errors"
	"flag"
	"io"
	"slices"
	"strings"
)

// given is a command line taken apart, before anything is checked but names.
type given struct {
	flags    map[string]string // by flag, without dashes
	args     []string          // what is no flag
	help     bool
	problems Problems
}

// raw collects a flag's text. Its Set never fails, so that one bad value does
// not hide the next; the values are checked later, with their source at hand.
type raw struct {
	into   *given
	name   string
	isBool bool
	repeat bool // several times are a list
}

func (r raw) String() string   { return "" }
func (r raw) IsBoolFlag() bool { return r.isBool }

func (r raw) Set(text string) error {
	before, again := r.into.flags[r.name]
	switch {
	case again && r.repeat:
		text = before + "," + text
	case again:
		r.into.problems = append(r.into.problems, Problem{Setting: "--" + r.name, Source: "flag", Reason: "is given more than once: only a list may be repeated"})
	}
	r.into.flags[r.name] = text
	return nil
}

// parse takes args apart. Flags and arguments may be mixed; after -- everything
// is an argument.
func parse(opts []*option, args []string) given {
	g := given{flags: map[string]string{}}
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	var names []string
	for _, o := range opts {
		if o.Flag == "" {
			continue
		}
		name := o.Flag
		if o.secret() {
			name += "-file"
		}
		_, isBool := o.Value.(*boolean)
		set.Var(raw{into: &g, name: name, isBool: isBool, repeat: o.list()}, name, "")
		names = append(names, "--"+name)
	}
	secrets := secretFlags(opts)

	var rest []string
	if i := slices.Index(args, "--"); i >= 0 {
		args, rest = args[:i], args[i+1:]
	}
	for len(args) > 0 {
		if !strings.HasPrefix(args[0], "-") || args[0] == "-" {
			g.args = append(g.args, args[0])
			args = args[1:]
			continue
		}
		spelt, _, hasValue := strings.Cut(args[0], "=")
		name := strings.TrimLeft(spelt, "-")
		n := flagLength(set, name, hasValue, args)
		err := set.Parse(args[:n])
		args = args[n:]
		switch {
		case err == nil:
		case errors.Is(err, flag.ErrHelp):
			g.help = true
		case secrets[name] != "":
			g.problems = append(g.problems, Problem{
				Setting: spelt, Source: "flag",
				Reason: "a secret must not be given on the command line, which other users can read: use " + secrets[name] + " or --" + name + "-file",
			})
			args = dropValue(args, hasValue)
		case set.Lookup(name) != nil:
			g.problems = append(g.problems, Problem{Setting: spelt, Source: "flag", Reason: "needs a value"})
		default:
			g.problems = append(g.problems, Problem{Setting: spelt, Source: "flag", Reason: "unknown flag" + suggest("--"+name, names)})
			args = dropValue(args, hasValue)
		}
	}
	g.args = append(g.args, rest...)
	return g
}

// flagLength is how many of args the flag at their beginning takes: one, or two
// when its value is an argument of its own.
func flagLength(set *flag.FlagSet, name string, hasValue bool, args []string) int {
	f := set.Lookup(name)
	if f == nil || hasValue || f.Value.(raw).isBool {
		return 1
	}
	return min(2, len(args))
}

// dropValue skips what follows an unknown flag and looks like its value, so
// that it is not reported as well, or shown, if it is a secret.
func dropValue(args []string, hasValue bool) []string {
	if !hasValue && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return args[1:]
	}
	return args
}

// secretFlags are the flags that someone might expect for a secret's text, each
// with the name of what to use instead.
func secretFlags(opts []*option) map[string]string {
	flags := map[string]string{}
	for _, o := range opts {
		if o.secret() && o.Flag != "" {
			flags[o.Flag] = o.name()
		}
	}
	return flags
}
