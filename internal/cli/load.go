package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Sources are what settings are read from.
type Sources struct {
	// Args are the command line after the command's name.
	Args []string
	// Environ is the environment in the form of [os.Environ].
	Environ []string
	// Others are settings of the binary's other commands: their variables and
	// keys are not for this command, but they are no mistakes.
	Others []Setting
}

// Loaded is the outcome of [Load].
type Loaded struct {
	// Args are the arguments that are no flags.
	Args []string
	// Help and PrintConfig say that --help or --print-config were given.
	Help, PrintConfig bool

	options []*option
	origins map[*option]origin
}

// defaults is the source of what nobody gave. Empty texts get past it only from
// a flag.
const defaults = "default"

// origin is where a setting's value comes from.
type origin struct {
	source  string // default, flag, environment, weir.yaml:12
	spelt   string // the setting as the source calls it
	text    string
	fromRef bool  // text is the name of a file that holds a secret
	tree    entry // instead of text, for a tree
}

// Load fills the fields behind settings from src and calls validate, which may
// be nil, for what no single setting shows. Its error is a [Problems] with
// everything that is wrong. With --help nothing is filled or checked.
func Load(settings []Setting, src Sources, validate func() error) (*Loaded, error) {
	var configFile string
	var printConfig bool
	own := options(settings)
	all := slices.Concat(options(builtin(&configFile, &printConfig)), own)

	g := parse(all, src.Args)
	loaded := &Loaded{Args: g.args, Help: g.help, options: own, origins: map[*option]origin{}}
	if g.help {
		return loaded, nil
	}
	env := readEnvironment(src.Environ)
	l := loader{flags: g.flags, env: env, origins: loaded.origins, problems: g.problems, failed: map[string]bool{}}
	for _, o := range all[:len(all)-len(own)] { // the file's name, before the file
		l.apply(o)
	}
	loaded.PrintConfig = printConfig
	if configFile != "" {
		entries, err := readFile(configFile)
		if err != nil {
			o := l.origins[all[0]]
			l.problems = append(l.problems, Problem{Setting: o.spelt, Source: o.source, Reason: err.Error()})
		}
		l.file, l.entries = configFile, entries
	}
	for _, o := range own {
		l.apply(o)
	}
	known := slices.Concat(settings, builtin(&configFile, &printConfig), src.Others)
	l.problems = append(l.problems, env.unknown(envNames(known))...)
	l.unknownKeys(keyNames(known))
	if validate != nil {
		l.validate(own, validate())
	}
	if len(l.problems) > 0 {
		return loaded, l.problems
	}
	return loaded, nil
}

// builtin are the settings that every command has.
func builtin(configFile *string, printConfig *bool) []Setting {
	return []Setting{
		{Env: "WEIR_CONFIG_FILE", Flag: "config", Key: "-", Value: Text(configFile), Help: "YAML file with settings; flags and environment variables take precedence"},
		{Flag: "print-config", Value: Bool(printConfig), Help: "print every setting and its source, with secrets redacted, and exit"},
	}
}

type loader struct {
	flags    map[string]string
	env      environment
	file     string
	entries  map[string]entry
	origins  map[*option]origin
	problems Problems
	failed   map[string]bool // settings that have a problem, by name
}

func (l *loader) report(o *option, from origin, reason string) {
	p := Problem{Setting: from.spelt, Source: from.source, Reason: reason}
	if !o.secret() || from.fromRef && isPath(from.text) {
		p.Value = from.text
	}
	if v, ok := o.Value.(interface{ shown(string) string }); ok {
		p.Value = v.shown(from.text)
	}
	l.problems = append(l.problems, p)
	l.failed[o.name()] = true
}

// apply finds the value of one setting and stores it.
func (l *loader) apply(o *option) {
	from := l.find(o)
	l.origins[o] = from
	if l.failed[o.name()] {
		return
	}
	var err error
	switch {
	case from.tree.node != nil:
		for _, v := range o.values {
			err = errors.Join(err, v.(*tree).setNode(from.tree.node))
		}
	case from.fromRef:
		var secret Secret
		if secret, err = ReadSecret(from.text); err == nil {
			for _, v := range o.values {
				*v.(*secretText).p = secret
			}
		}
	case from.text == "" && o.Default != "" && o.text():
		err = errors.New("is empty; it must be " + o.Value.Allowed())
	case o.list() && strings.TrimSpace(from.text) == "" && (from.source == "flag" || from.text != ""): // as of shell variables that are not set
		err = errors.New("is empty; it must be a list of at least one element, or not be given")
	case from.source != defaults || from.text != "":
		err = o.set(from.text)
	}
	if err != nil {
		l.report(o, from, err.Error())
		return
	}
	if o.Required && from.text == "" && from.tree.node == nil {
		l.report(o, from, "is required: set "+strings.Join(o.ways(), " or "))
	}
}

// find returns the value that wins: flag, environment, file, default.
func (l *loader) find(o *option) origin {
	if from, ok := l.pick(o, "flag", "--"+o.Flag, "--"+o.Flag+"-file", l.flag(o.Flag), l.flag(o.Flag+"-file")); ok {
		return from
	}
	if from, ok := l.pick(o, "environment", o.Env, o.Env+"_FILE", nonEmpty(l.env[o.Env]), nonEmpty(l.env[o.Env+"_FILE"])); ok {
		return from
	}
	e, ok := l.entries[o.Key]
	if ok && o.tree() {
		return origin{source: l.at(e), spelt: o.Key, tree: e}
	}
	if !ok {
		e = l.entries[o.Key+"_file"]
	}
	if from, ok := l.pick(o, l.at(e), o.Key, o.Key+"_file", l.key(o, o.Key), l.key(o, o.Key+"_file")); ok {
		return from
	}
	return origin{source: defaults, spelt: o.name(), text: o.Default}
}

// pick chooses between a setting's two names in one source, of which the second
// exists for secrets only. Both at once contradict each other.
func (l *loader) pick(o *option, source, name, refName string, text, ref *string) (origin, bool) {
	if !o.secret() {
		ref = nil
	}
	switch {
	case text != nil && ref != nil:
		from := origin{source: source, spelt: name}
		l.report(o, from, "is set together with "+refName+": remove one of them")
		return from, true
	case ref != nil:
		return origin{source: source, spelt: refName, text: *ref, fromRef: true}, true
	case text != nil:
		return origin{source: source, spelt: name, text: *text}, true
	}
	return origin{}, false
}

func (l *loader) flag(name string) *string {
	if text, ok := l.flags[name]; ok {
		return &text
	}
	return nil
}

func nonEmpty(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// key returns a key's text; an empty one counts as absent, as in the
// environment.
func (l *loader) key(o *option, key string) *string {
	e, ok := l.entries[key]
	if !ok {
		return nil
	}
	text, ok := scalar(e.node)
	if !ok && o.list() {
		text, ok = sequence(e.node)
	}
	if !ok {
		l.report(o, origin{source: l.at(e), spelt: key}, "must be a single value: "+o.Value.Allowed())
		return nil
	}
	return nonEmpty(text)
}

func (l *loader) at(e entry) string { return fmt.Sprintf("%s:%d", l.file, e.line) }

func (l *loader) unknownKeys(known []string) {
	for _, key := range sortedKeys(l.entries) {
		if !slices.Contains(known, key) {
			p := Problem{Setting: key, Source: l.at(l.entries[key]), Reason: "unknown key" + suggest(key, known)}
			if clean := printable(key); clean != key {
				p.Setting, p.Reason = strconv.Quote(key), "unknown key, with invisible characters in its name"+suggest(clean, known)
			}
			l.problems = append(l.problems, p)
		}
	}
}

// validate takes over what Validate found. A problem about a setting that has
// one already is dropped: the field holds its default, not what was meant.
func (l *loader) validate(own []*option, err error) {
	for _, e := range flatten(err) {
		p, ok := e.(Problem)
		if !ok {
			l.problems = append(l.problems, e)
			continue
		}
		for _, o := range own {
			if o.tree() && strings.HasPrefix(p.Setting, o.Key+"[") && p.Source == "" { // a part of it
				p.Source = l.origins[o].source
			}
			if o.name() != p.Setting {
				continue
			}
			from := l.origins[o]
			p.Setting = from.spelt
			if p.Source == "" {
				p.Source = from.source
			}
			if p.Value == "" && !o.secret() {
				p.Value = from.text
			}
			ok = !l.failed[o.name()]
		}
		if ok {
			l.problems = append(l.problems, p)
		}
	}
}

// ways lists how a setting can be given.
func (o *option) ways() []string {
	var ways []string
	if o.Env != "" {
		ways = append(ways, o.Env)
		if o.secret() {
			ways = append(ways, o.Env+"_FILE")
		}
	}
	switch {
	case o.Flag == "":
	case o.secret():
		ways = append(ways, "--"+o.Flag+"-file")
	default:
		ways = append(ways, "--"+o.Flag)
	}
	if o.Key != "" {
		ways = append(ways, "the file's "+o.Key)
	}
	return ways
}

func envNames(settings []Setting) []string {
	var names []string
	for _, s := range settings {
		if s.Env != "" {
			names = append(names, s.Env)
			if s.secret() {
				names = append(names, s.Env+"_FILE")
			}
		}
	}
	return names
}

func keyNames(settings []Setting) []string {
	var names []string
	for _, s := range settings {
		if s = s.normal(); s.Key != "" {
			names = append(names, s.Key)
			if s.secret() {
				names = append(names, s.Key+"_file")
			}
		}
	}
	return names
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
